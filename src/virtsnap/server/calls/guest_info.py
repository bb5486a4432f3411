"""What a guest says of itself, by its agent: file systems, addresses, users, system, time zone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from lxml import etree

from virtsnap.formats import xml_text
from virtsnap.model.errors import AgentCommandFailed, InvalidArg, OperationInvalid
from virtsnap.server.calls.flags import only
from virtsnap.server.calls.guest import ask
from virtsnap.server.session import Session
from virtsnap.wire.values import BOOLEAN, DOUBLE, INT, STRING, UINT, ULLONG, Param, WireDomain

_LEASE, _AGENT, _ARP = range(3)
_IPV4, _IPV6 = 0, 1
_ADDRESS = ("domain", "bus", "slot", "function")

Addresses = list[tuple[int, str, int]]
Found = Iterable[Param]


async def domain_get_fsinfo(
    session: Session, dom: WireDomain, flags: int
) -> tuple[list[tuple[str, str, str, list[str]]], int]:
    only(flags, 0, "qemuDomainGetFSInfo")
    root = await _live(session, dom)
    found = [
        (one["mountpoint"], one["name"], one["type"], [name for name in _targets(root, one) if name])
        for one in await ask(session, dom, "guest-get-fsinfo")
    ]
    return found, len(found)


async def domain_interface_addresses(
    session: Session, dom: WireDomain, source: int, flags: int
) -> list[tuple[str, str | None, Addresses]]:
    """Leases are those of libvirt's networks: there are none."""
    only(flags, 0, "qemuDomainInterfaceAddresses")
    if source == _AGENT:
        return [
            (name, one.get("hardware-address"), _addresses(one))
            for name, one in await _interfaces(session, dom)
        ]
    root = await _live(session, dom)
    if source == _LEASE:
        return []
    if source != _ARP:
        raise InvalidArg(f"Unknown IP address data source {source}")
    return list(_neighbours(root))


async def domain_get_guest_info(session: Session, dom: WireDomain, types: int, flags: int) -> list[Param]:
    """Without types all that the agent can tell; with types, those or an error."""
    only(flags, 0, "qemuDomainGetGuestInfo")
    if types & ~sum(_TYPES):
        raise InvalidArg(f"unsupported guest information types '0x{types & ~sum(_TYPES):x}'")
    root = await _live(session, dom)
    found: list[Param] = []
    for bit, teller in _TYPES.items():
        if types and not types & bit:
            continue
        try:
            found += await teller(session, dom, root)
        except AgentCommandFailed as error:
            if types or not error.unknown:
                raise
    return found


async def _users(session: Session, dom: WireDomain, root: etree._Element) -> Found:
    users = await ask(session, dom, "guest-get-users")
    found = [Param("user.count", UINT, len(users))]
    for number, one in enumerate(users):
        found.append(Param(f"user.{number}.name", STRING, one["user"]))
        if "domain" in one:
            found.append(Param(f"user.{number}.domain", STRING, one["domain"]))
        found.append(Param(f"user.{number}.login-time", ULLONG, int(one["login-time"] * 1000)))
    return found


async def _system(session: Session, dom: WireDomain, root: etree._Element) -> Found:
    told = await ask(session, dom, "guest-get-osinfo")
    names = ("id", "name", "pretty-name", "version", "version-id", "machine", "variant", "variant-id")
    words = {name: name for name in names}
    words |= {"kernel-release": "kernel-release", "kernel-version": "kernel-version"}
    return [Param(f"os.{name}", STRING, told[key]) for name, key in words.items() if key in told]


async def _zone(session: Session, dom: WireDomain, root: etree._Element) -> Found:
    told = await ask(session, dom, "guest-get-timezone")
    found = [Param("timezone.name", STRING, told["zone"])] if "zone" in told else []
    return [*found, Param("timezone.offset", INT, told["offset"])]


async def _host_name(session: Session, dom: WireDomain, root: etree._Element) -> Found:
    return [Param("hostname", STRING, (await ask(session, dom, "guest-get-host-name"))["host-name"])]


async def _file_systems(session: Session, dom: WireDomain, root: etree._Element) -> Found:
    systems = await ask(session, dom, "guest-get-fsinfo")
    found = [Param("fs.count", UINT, len(systems))]
    for number, one in enumerate(systems):
        at = f"fs.{number}."
        found += [
            Param(at + "name", STRING, one["name"]),
            Param(at + "mountpoint", STRING, one["mountpoint"]),
            Param(at + "fstype", STRING, one["type"]),
        ]
        for theirs in ("total-bytes", "used-bytes"):
            if theirs in one:
                found.append(Param(at + theirs, ULLONG, one[theirs]))
        disks = one.get("disk", [])
        found.append(Param(at + "disk.count", UINT, len(disks)))
        for place, (disk, target) in enumerate(zip(disks, _targets(root, one), strict=True)):
            words = {"alias": target, "serial": disk.get("serial"), "device": disk.get("dev")}
            found += [Param(f"{at}disk.{place}.{name}", STRING, word) for name, word in words.items() if word]
    return found


async def _disks(session: Session, dom: WireDomain, root: etree._Element) -> Found:
    disks = await ask(session, dom, "guest-get-disks")
    found = [Param("disk.count", UINT, len(disks))]
    for number, one in enumerate(disks):
        at = f"disk.{number}."
        found += [Param(at + "name", STRING, one["name"]), Param(at + "partition", BOOLEAN, one["partition"])]
        needs = one.get("dependencies", [])
        if needs:
            found.append(Param(at + "dependency.count", UINT, len(needs)))
            found += [Param(f"{at}dependency.{place}.name", STRING, name) for place, name in enumerate(needs)]
        address = one.get("address")
        if address is not None:
            words = {"serial": address.get("serial"), "alias": _target(root, address)}
            words |= {"guest_bus": address.get("bus-type")}
            found += [Param(at + name, STRING, word) for name, word in words.items() if word]
        if one.get("alias"):
            found.append(Param(at + "guest_alias", STRING, one["alias"]))
    return found


async def _network(session: Session, dom: WireDomain, root: etree._Element) -> Found:
    interfaces = await _interfaces(session, dom)
    found = [Param("if.count", UINT, len(interfaces))]
    for number, (name, one) in enumerate(interfaces):
        at = f"if.{number}."
        found.append(Param(at + "name", STRING, name))
        if "hardware-address" in one:
            found.append(Param(at + "hwaddr", STRING, one["hardware-address"]))
        addresses = _addresses(one)
        found.append(Param(at + "addr.count", UINT, len(addresses)))
        for place, (kind, address, prefix) in enumerate(addresses):
            found += [
                Param(f"{at}addr.{place}.type", STRING, "ipv4" if kind == _IPV4 else "ipv6"),
                Param(f"{at}addr.{place}.addr", STRING, address),
                Param(f"{at}addr.{place}.prefix", UINT, prefix),
            ]
    return found


async def _load(session: Session, dom: WireDomain, root: etree._Element) -> Found:
    told = await ask(session, dom, "guest-get-load")
    return [Param(f"load.{span}", DOUBLE, float(told[f"load{span}"])) for span in ("1m", "5m", "15m")]


_TYPES: dict[int, Callable[[Session, WireDomain, etree._Element], Awaitable[Found]]] = {
    1: _users,
    2: _system,
    4: _zone,
    8: _host_name,
    16: _file_systems,
    32: _disks,
    64: _network,
    128: _load,
}
"""virDomainGuestInfoTypes."""


async def _live(session: Session, dom: WireDomain) -> etree._Element:
    if (await session.domain(dom)).id == -1:
        raise OperationInvalid("domain is not running")
    return xml_text.parse(await session.service.domain_xml(dom.uuid_text), "domain")


async def _interfaces(session: Session, dom: WireDomain) -> list[tuple[str, dict[str, Any]]]:
    """Those of the guest; eth0:1 is another address of eth0."""
    found: dict[str, dict[str, Any]] = {}
    for one in await ask(session, dom, "guest-network-get-interfaces"):
        name = one["name"].partition(":")[0]
        if name in found:
            found[name].setdefault("ip-addresses", []).extend(one.get("ip-addresses", []))
        else:
            found[name] = one
    return list(found.items())


def _addresses(interface: dict[str, Any]) -> Addresses:
    kinds = {"ipv4": _IPV4, "ipv6": _IPV6}
    return [
        (kinds[one["ip-address-type"]], one["ip-address"], one["prefix"])
        for one in interface.get("ip-addresses", [])
        if one["ip-address-type"] in kinds
    ]


def _neighbours(root: etree._Element) -> Iterable[tuple[str, str | None, Addresses]]:
    """Addresses that the host's kernel has heard from the domain's interfaces."""
    known = [line.split() for line in Path("/proc/net/arp").read_text().splitlines()[1:]]
    for interface in root.iterfind("devices/interface"):
        mac, target = interface.find("mac"), interface.find("target")
        if mac is None or target is None:
            continue
        heard: Addresses = [(_IPV4, row[0], 0) for row in known if row[3] == mac.get("address")]
        if heard:
            yield target.get("dev", ""), mac.get("address"), heard


def _targets(root: etree._Element, system: dict[str, Any]) -> list[str | None]:
    return [_target(root, disk) for disk in system.get("disk", [])]


def _target(root: etree._Element, place: dict[str, Any]) -> str | None:
    """The disk at the place that the agent tells: its controller's address, and where it is on it."""
    controller = tuple(int(place["pci-controller"][name]) for name in _ADDRESS)
    for disk in root.iterfind("devices/disk"):
        address, target = disk.find("address"), disk.find("target")
        if address is None or target is None:
            continue
        if address.get("type") == "pci":
            fits = _pci(address) == controller
        else:
            bus = {"scsi": "scsi", "ide": "ide", "sata": "sata"}.get(target.get("bus", ""))
            fits = (
                _pci(_controller(root, bus, address.get("controller"))) == controller
                and all(int(address.get(name, "0")) == place[name] for name in ("bus", "target", "unit"))
            )  # fmt: skip
        if fits:
            return target.get("dev")
    return None


def _controller(root: etree._Element, kind: str | None, index: str | None) -> etree._Element | None:
    for controller in root.iterfind("devices/controller"):
        if controller.get("type") == kind and controller.get("index") == index:
            return controller.find("address")
    return None


def _pci(address: etree._Element | None) -> tuple[int, ...] | None:
    if address is None or address.get("type") != "pci":
        return None
    return tuple(int(address.get(name, "0"), 16) for name in _ADDRESS)
