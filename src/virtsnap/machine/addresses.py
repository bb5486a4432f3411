"""Drive, USB and virtio-serial addresses, and the ports of serial devices and consoles.

Addresses given in the definition stay; the others follow libvirt: a drive's comes from its target name, a USB
device takes the next free port (a hub is added where ports run out), a channel the next free port of the
first controller. PCI is in `pci`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lxml import etree

from virtsnap.machine import tree
from virtsnap.model.errors import InternalRefused, XmlError

_HUB_PORTS = 8
_UNITS_PER_BUS = {"ide": 2, "fdc": 2, "sata": 6}


def disk_index(target: str) -> int:
    """The number behind a disk's name: sda 0, sdb 1, sdaa 26. Raises XmlError for another kind of name."""
    match = re.fullmatch(r"(?:xvd|fd|hd|sd|vd|ubd)([a-z]+)\d*", target)
    if match is None:
        raise XmlError(f"Unknown disk name '{target}' and no address specified")
    index = 0
    for letter in match[1]:
        index = index * 26 + ord(letter) - ord("a") + 1
    return index - 1


def assign_drives(root: etree._Element) -> None:
    """Addresses of disks on IDE, SCSI, SATA and floppy controllers, in place."""
    for disk in tree.children(root, "disk"):
        bus = tree.attribute(disk, "target", "bus")
        address = disk.find("address")
        if bus not in ("ide", "fdc", "sata", "scsi"):
            continue
        if address is not None:
            if address.get("type") == "drive":
                place = {n: address.get(n, "0") for n in ("controller", "bus", "target", "unit")}
                _set(disk, "drive", **place)
            continue
        index = disk_index(tree.attribute(disk, "target", "dev") or "")
        controller, place_on_bus, unit = index, 0, 0
        if bus == "ide":
            controller, rest = divmod(index, 4)
            place_on_bus, unit = divmod(rest, 2)
        elif bus == "fdc":
            controller, unit = divmod(index, 2)
        elif bus == "sata":
            controller, unit = divmod(index, 6)
        else:
            controller, unit = _scsi_place(root, index)
        _set(disk, "drive", controller=str(controller), bus=str(place_on_bus), target="0", unit=str(unit))
    _check_drives(root)


def _scsi_place(root: etree._Element, index: int) -> tuple[int, int]:
    # Seven to a controller: the eighth address of a narrow bus is the controller's own.
    return divmod(index, 7)


def _check_drives(root: etree._Element) -> None:
    seen: set[tuple[str, ...]] = set()
    for disk in tree.children(root, "disk"):
        address = disk.find("address")
        bus = tree.attribute(disk, "target", "bus") or ""
        if address is None or address.get("type") != "drive":
            continue
        place = tuple(address.get(n, "0") for n in ("controller", "bus", "target", "unit"))
        if (bus, *place) in seen:
            raise XmlError(
                "Found duplicate drive address for disk with target name"
                f" '{tree.attribute(disk, 'target', 'dev')}' controller='{place[0]}' bus='{place[1]}'"
                f" target='{place[2]}' unit='{place[3]}'"
            )
        seen.add((bus, *place))


def assign_virtio_serial(root: etree._Element) -> None:
    """Addresses of virtio channels: the next free port from 1 of the first controller with room."""
    taken: dict[int, set[int]] = {
        tree.number(c.get("index")): set() for c in tree.controllers(root, "virtio-serial")
    }
    limits = {
        tree.number(c.get("index")): tree.number(c.get("ports"), 31)
        for c in tree.controllers(root, "virtio-serial")
    }
    channels = [c for c in tree.children(root, "channel") if _is_virtio(c)]
    for channel in channels:
        address = channel.find("address")
        if address is None or address.get("port") in (None, "0"):
            continue
        controller = tree.number(address.get("controller"))
        port = tree.number(address.get("port"))
        if port in taken.setdefault(controller, set()):
            raise XmlError(f"virtio serial port {port} on controller {controller} is already occupied")
        taken[controller].add(port)
        _set(
            channel, "virtio-serial", controller=str(controller), bus=address.get("bus", "0"), port=str(port)
        )
    for channel in channels:
        address = channel.find("address")
        if address is not None and address.get("port") not in (None, "0"):
            continue
        for controller in sorted(taken):
            free = (p for p in range(1, limits.get(controller, 31)) if p not in taken[controller])
            found = next(free, None)
            if found is not None:
                taken[controller].add(found)
                _set(channel, "virtio-serial", controller=str(controller), bus="0", port=str(found))
                break
        else:
            # Every controller is full: another one comes
            index = max(taken) + 1 if taken else 0
            tree.add_controller(root, "virtio-serial", index)
            taken[index] = {1}
            _set(channel, "virtio-serial", controller=str(index), bus="0", port="1")


def _is_virtio(device: etree._Element) -> bool:
    return tree.attribute(device, "target", "type") == "virtio"


# --- USB --------------------------------------------------------------------------------------------------

_USB_PORTS = {
    "piix3-uhci": 2,
    "piix4-uhci": 2,
    "vt82c686b-uhci": 2,
    "ehci": 6,
    "ich9-ehci1": 6,
    "pci-ohci": 3,
}


class _UsbBus:
    """One USB controller's tree of ports: '1', '2', and behind a hub on 1: '1.1' to '1.8'."""

    def __init__(self, ports: int) -> None:
        self.levels: list[list[str]] = [[str(n) for n in range(1, ports + 1)]]
        self.taken: set[str] = set()

    def add_hub(self, port: str) -> None:
        depth = port.count(".") + 1
        while len(self.levels) <= depth:
            self.levels.append([])
        self.levels[depth] += [f"{port}.{n}" for n in range(1, _HUB_PORTS + 1)]

    def free(self) -> str | None:
        return next((p for level in self.levels for p in level if p not in self.taken), None)

    @property
    def ports(self) -> int:
        return sum(len(level) for level in self.levels)


def assign_usb(root: etree._Element) -> None:
    """Ports of USB devices, in place. Adds hubs at the end where the controllers have too few ports."""
    buses: dict[int, _UsbBus] = {}
    for controller in tree.controllers(root, "usb"):
        model = controller.get("model", "")
        ports = tree.number(controller.get("ports"), 4) if model.endswith("xhci") else _USB_PORTS.get(model)
        if ports is not None:
            buses[tree.number(controller.get("index"))] = _UsbBus(ports)
    users = list(_usb_devices(root))
    hubs = [hub for hub in tree.children(root, "hub") if hub.get("type") == "usb"]
    if not buses:
        if users or hubs:
            raise XmlError("No USB buses available")
        return
    available = sum(bus.ports for bus in buses.values()) + len(hubs) * (_HUB_PORTS - 1)
    while len(users) > available:
        hubs.append(etree.SubElement(tree.devices(root), "hub", type="usb"))
        available += _HUB_PORTS - 1
    _reserve_given(buses, hubs, users)
    for hub in hubs:
        if _usb_port(hub) is None:
            bus, port = _take_usb(buses, hub)
            buses[bus].add_hub(port)
    for device in users:
        if _usb_port(device) is None:
            _take_usb(buses, device)


def _reserve_given(
    buses: dict[int, _UsbBus], hubs: list[etree._Element], users: list[etree._Element]
) -> None:
    for device in [*hubs, *users]:
        port = _usb_port(device)
        if port is None:
            continue
        number = tree.number(tree.attribute(device, "address", "bus"))
        bus = buses.get(number)
        if bus is None:
            raise XmlError(f"Missing USB bus {number}")
        if port in bus.taken:
            raise XmlError(f"Duplicate USB address bus {number} port {port}")
        bus.taken.add(port)
        if device in hubs:
            bus.add_hub(port)
        _set(device, "usb", bus=str(number), port=port)


def _usb_port(device: etree._Element) -> str | None:
    address = device.find("address")
    if address is None or address.get("type") != "usb":
        return None
    return address.get("port")


def _take_usb(buses: dict[int, _UsbBus], device: etree._Element) -> tuple[int, str]:
    wanted = tree.attribute(device, "address", "bus")
    candidates = [int(wanted)] if wanted is not None else sorted(buses)
    for number in candidates:
        port = buses[number].free() if number in buses else None
        if port is not None:
            buses[number].taken.add(port)
            _set(device, "usb", bus=str(number), port=port)
            return number, port
    raise InternalRefused("No free USB ports")


def _usb_devices(root: etree._Element) -> Iterator[etree._Element]:
    """USB devices but hubs, in libvirt's order of handing out ports."""
    for device in tree.children(
        root, "disk", "interface", "sound", "hostdev", "smartcard", "serial", "input", "redirdev"
    ):
        if _on_usb(device):
            yield device


def _on_usb(device: etree._Element) -> bool:
    match device.tag:
        case "disk":
            return tree.attribute(device, "target", "bus") == "usb"
        case "interface":
            return tree.attribute(device, "model", "type") == "usb-net"
        case "sound":
            return device.get("model") == "usb"
        case "serial":
            return tree.attribute(device, "target", "type") == "usb-serial"
        case "hostdev":
            return device.get("type") == "usb"
        case "input" | "redirdev":
            return device.get("bus") == "usb"
    return False


def assign_serial_ports(root: etree._Element) -> None:
    """`<target port=...>` of serial and parallel devices that have none."""
    for tag in ("serial", "parallel"):
        devices = list(tree.children(root, tag))
        for device in devices:
            target = tree.ensure(device, "target")
            if target.get("port") is None:
                ports = [tree.number(tree.attribute(d, "target", "port"), -1) for d in devices]
                target.set("port", str(max(ports) + 1))


def assign_console_ports(root: etree._Element) -> None:
    """`<target port=...>` of consoles that have none: their position."""
    for position, console in enumerate(tree.children(root, "console")):
        target = tree.ensure(console, "target")
        if target.get("port") is None:
            target.set("port", str(position))


def _set(device: etree._Element, type_: str, **place: str) -> None:
    address = tree.ensure(device, "address")
    address.attrib.clear()
    address.set("type", type_)
    for name, value in place.items():
        address.set(name, value)
