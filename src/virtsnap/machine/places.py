"""Where a device sits, in QEMU's words: bus and address properties from the definition's `<address>`."""

from __future__ import annotations

from lxml import etree

from virtsnap.machine import tree
from virtsnap.machine.aliases import alias_of
from virtsnap.machine.launch import Json
from virtsnap.machine.pci import place_of
from virtsnap.model.errors import InternalRefused


def pci(root: etree._Element, device: etree._Element) -> Json:
    """`bus`, `addr` and `multifunction` of a PCI device. Raises InternalRefused when it has no address."""
    place = place_of(device)
    if place is None:
        raise InternalRefused(f"device {alias_of(device) or device.tag} has no PCI address")
    bus, slot, function = place
    properties: Json = {"bus": _bus_name(root, bus)}
    if tree.attribute(device, "address", "multifunction") == "on":
        properties["multifunction"] = True
    properties["addr"] = f"0x{slot:x}" + (f".0x{function:x}" if function else "")
    return properties


def _bus_name(root: etree._Element, index: int) -> str:
    for controller in tree.controllers(root, "pci"):
        if tree.number(controller.get("index")) == index:
            return alias_of(controller)
    raise InternalRefused(f"there is no PCI bus {index}")


def usb(root: etree._Element, device: etree._Element) -> Json:
    """`bus` and `port` of a USB device."""
    address = device.find("address")
    if address is None or address.get("type") != "usb":
        raise InternalRefused(f"device {alias_of(device) or device.tag} has no USB address")
    index = address.get("bus", "0")
    names = [alias_of(c) for c in tree.controllers(root, "usb") if c.get("index") == index]
    if not names:
        raise InternalRefused(f"there is no USB bus {index}")
    return {"bus": f"{names[0]}.0", "port": address.get("port", "")}
