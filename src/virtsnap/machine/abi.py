"""Do two definitions describe the same hardware? What a guest's memory is loaded into must be what it left.

Two passes. The first is libvirt's (virDomainDefCheckABIStability, 11.3): its order, its words. The second
compares what QEMU would be told, but for what only the host sees (files, caches, ports): it finds what the
first has no words for. Both definitions must be completed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

from lxml import etree

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine import tree
from virtsnap.machine.command_line import command_line
from virtsnap.machine.launch import Launch
from virtsnap.model.errors import ConfigUnsupported

_COUNTED = (
    ("disk", "disk"),
    ("controller", "controller"),
    ("filesystem", "filesystem"),
    ("interface", "net card"),
    ("input", "input device"),
    ("sound", "sound card"),
    ("video", "video card"),
    ("hostdev", "host device"),
    ("smartcard", "smartcard"),
    ("serial", "serial port"),
    ("parallel", "parallel port"),
    ("channel", "channel"),
    ("console", "console"),
    ("hub", "hub device"),
    ("redirdev", "redirected devices"),
    ("watchdog", "watchdog device"),
    ("rng", "RNG device"),
    ("tpm", "TPM device"),
    ("panic", "panic device"),
    ("shmem", "shared memory device"),
    ("memory", "memory device"),
)
"""Element and libvirt's word for it, in its order."""

_HOST_ONLY = frozenset(
    [
        "drive",
        "bootindex",
        "write-cache",
        "rerror",
        "werror",
        "netdev",
        "chardev",
        "audiodev",
        "vhostfd",
        "id",
    ]
)
"""Properties of a device that the guest never sees."""
_GUEST = ("-machine", "-accel", "-cpu", "-m", "-smp", "-device", "-global", "-smbios", "-boot", "-numa")
"""Options that say what the guest sees; -accel since memory of one does not load into the other."""


def check(source: DomainDefinition, target: DomainDefinition, launch: Launch) -> None:
    """Return when a guest saved as `source` can go on as `target`.

    `launch`: what QEMU would be told besides. Raises ConfigUnsupported, naming the first difference.
    """
    _check_words(source, target)
    _check_devices(source.element, target.element)
    _check_command_lines(source, target, launch)


def _differs(what: str, target: object, source: object) -> ConfigUnsupported:
    def shown(value: object) -> object:
        return "<null>" if value is None else value

    return ConfigUnsupported(f"Target {what} {shown(target)} does not match source {shown(source)}")


def _check_words(source: DomainDefinition, target: DomainDefinition) -> None:
    if source.type != target.type:
        raise _differs("domain virt type", target.type, source.type)
    if source.uuid != target.uuid:
        raise _differs("domain uuid", target.uuid, source.uuid)
    if source.name != target.name:
        raise _differs("domain name", f"'{target.name}'", f"'{source.name}'")
    if source.memory_kib != target.memory_kib:
        raise _differs("domain max memory", target.memory_kib, source.memory_kib)
    if source.current_memory_kib != target.current_memory_kib:
        raise _differs("domain current memory", target.current_memory_kib, source.current_memory_kib)
    if source.vcpus != target.vcpus:
        raise _differs("domain vCPU count", target.vcpus, source.vcpus)
    if source.max_vcpus != target.max_vcpus:
        raise _differs("domain vCPU max", target.max_vcpus, source.max_vcpus)
    if source.os_type != target.os_type:
        raise _differs("domain OS type", target.os_type, source.os_type)
    if source.arch != target.arch:
        raise _differs("domain architecture", target.arch, source.arch)
    if source.machine != target.machine:
        raise _differs("domain machine type", target.machine, source.machine)
    _check_features(source.element, target.element)
    models = [tree.text(one.element, "cpu/model") for one in (source, target)]
    if models[0] != models[1]:
        raise _differs("CPU model", models[1], models[0])


def _check_features(source: etree._Element, target: etree._Element) -> None:
    for name in ("acpi", "pae", "apic"):
        states = [_feature(root, name) for root in (source, target)]
        if states[0] != states[1]:
            raise ConfigUnsupported(
                f"State of feature '{name}' differs: source: '{states[0]}', destination: '{states[1]}'"
            )


def _feature(root: etree._Element, name: str) -> str:
    element = root.find(f"features/{name}")
    state = "default" if element is None else "on"
    if name != "apic":
        return state
    eoi = "default" if element is None else element.get("eoi", "default")
    return f"{state},eoi={eoi}"


def _check_devices(source: etree._Element, target: etree._Element) -> None:
    for tag, word in _COUNTED:
        devices = [list(tree.children(root, tag)) for root in (source, target)]
        if len(devices[0]) != len(devices[1]):
            raise _differs(f"domain {word} count", len(devices[1]), len(devices[0]))
        for one, other in zip(*devices, strict=True):
            if tag == "disk":
                _check_disk(one, other)
            _check_address(one, other)


def _check_disk(source: etree._Element, target: etree._Element) -> None:
    if source.get("device", "disk") != target.get("device", "disk"):
        raise _differs("disk device", target.get("device", "disk"), source.get("device", "disk"))
    for what, name in (("disk bus", "bus"), ("disk", "dev")):
        values = [tree.attribute(disk, "target", name) for disk in (source, target)]
        if values[0] != values[1]:
            raise _differs(what, values[1], values[0])
    serials = [tree.text(disk, "serial") for disk in (source, target)]
    if serials[0] != serials[1]:
        raise _differs("disk serial", serials[1], serials[0])
    if (source.find("readonly") is None) != (target.find("readonly") is None):
        raise ConfigUnsupported("Target disk access mode does not match source")


def _check_address(source: etree._Element, target: etree._Element) -> None:
    addresses = [tree.address(device) for device in (source, target)]
    if addresses[0] is None or addresses[1] is None:
        return
    kinds = [address.get("type") for address in addresses if address is not None]
    if kinds[0] != kinds[1]:
        raise _differs("device address type", kinds[1], kinds[0])
    if kinds[0] == "pci":
        places = [_pci(address) for address in addresses if address is not None]
        if places[0] != places[1]:
            raise _differs("device PCI address", places[1], places[0])


def _pci(address: etree._Element) -> str:
    domain, bus, slot, function = (
        int(address.get(name, "0"), 0) for name in ("domain", "bus", "slot", "function")
    )
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _check_command_lines(source: DomainDefinition, target: DomainDefinition, launch: Launch) -> None:
    seen = [_guest_visible(command_line(one, launch).argv) for one in (source, target)]
    for option, value in seen[0]:
        if (option, value) not in seen[1]:
            raise ConfigUnsupported(
                f"Target domain hardware does not match source: {option} {value} is missing"
            )
    for option, value in seen[1]:
        if (option, value) not in seen[0]:
            raise ConfigUnsupported(f"Target domain hardware does not match source: {option} {value} is new")


def _guest_visible(argv: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for option, value in pairwise(argv):
        if option in _GUEST:
            found.append((option, _without_host(value)))
    return found


def _without_host(value: str) -> str:
    if not value.startswith("{"):
        return value
    properties = json.loads(value)
    return json.dumps({k: v for k, v in properties.items() if k not in _HOST_ONLY}, sort_keys=True)
