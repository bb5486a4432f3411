"""Devices and controllers that libvirt adds to a definition that does not have them.

What every PC has (USB, the PCI root, PS/2 mouse and keyboard, a balloon, sound's backend, Q35's SATA and
watchdog), what other devices need (disk and virtio-serial controllers), and the console that doubles the
first serial port. Each function changes the tree in place.
"""

from __future__ import annotations

import copy

from lxml import etree

from virtsnap.machine import tree


def board(root: etree._Element, *, q35: bool) -> None:
    """Controllers and devices of the board itself."""
    if not any(c.get("index", "0") == "0" for c in tree.controllers(root, "usb")):
        tree.add_controller(root, "usb", 0)
    if q35 and not any(c.get("index", "0") == "0" for c in tree.controllers(root, "sata")):
        tree.add_controller(root, "sata", 0)
    if not any(c.get("index", "0") == "0" for c in tree.controllers(root, "pci")):
        tree.add_controller(root, "pci", 0, "pcie-root" if q35 else "pci-root")
    if next(tree.children(root, "memballoon"), None) is None:
        etree.SubElement(tree.devices(root), "memballoon", model="virtio")
    if q35:
        _itco(root)


def _itco(root: etree._Element) -> None:
    """Q35 has a watchdog in its chipset, which does what the other watchdogs of the domain do."""
    watchdogs = list(tree.children(root, "watchdog"))
    if any(w.get("model") == "itco" for w in watchdogs):
        return
    made = etree.SubElement(tree.devices(root), "watchdog", model="itco")
    made.set("action", watchdogs[0].get("action", "reset") if watchdogs else "reset")


def inputs(root: etree._Element) -> None:
    """A PS/2 mouse and keyboard, unless the machine was told to have none."""
    ps2 = root.find("features/ps2")
    if ps2 is not None and ps2.get("state") == "off":
        return
    present = {(i.get("type"), i.get("bus")) for i in tree.children(root, "input")}
    for kind in ("mouse", "keyboard"):
        if (kind, "ps2") not in present:
            etree.SubElement(tree.devices(root), "input", type=kind, bus="ps2")


def video(root: etree._Element) -> None:
    """A display needs a card."""
    if next(tree.children(root, "graphics"), None) is not None and not list(tree.children(root, "video")):
        etree.SubElement(tree.devices(root), "video")


def audio(root: etree._Element) -> None:
    """A silent backend for whatever sound there is."""
    if next(tree.children(root, "audio"), None) is None:
        etree.SubElement(tree.devices(root), "audio", id="1", type="none")


def console(root: etree._Element) -> None:
    """The first console is the first serial port: whichever of the two is missing comes from the other."""
    consoles = list(tree.children(root, "console"))
    serials = list(tree.children(root, "serial"))
    first = consoles[0] if consoles else None
    serial_console = first is not None and tree.attribute(first, "target", "type") in (None, "serial")
    if not serials:
        if first is None or not serial_console:
            return
        serial = copy.deepcopy(first)
        serial.tag = "serial"
        target = serial.find("target")
        if target is not None:
            target.attrib.clear()
        for name in ("tty",):
            if name in serial.attrib:
                del serial.attrib[name]
        tree.devices(root).insert(0, serial)
        serials = [serial]
    elif not serial_console:
        # Only a port of the PC's own kind becomes a console unasked.
        if tree.attribute(serials[0], "target", "type") not in (None, "isa-serial"):
            return
        first = None
    if first is None:
        first = etree.Element("console")
        if consoles:
            consoles[0].addprevious(first)
        else:
            tree.devices(root).append(first)
    _copy_serial(serials[0], first)


def _copy_serial(serial: etree._Element, console: etree._Element) -> None:
    tty = console.get("tty")
    for child in list(console):
        console.remove(child)
    console.attrib.clear()
    console.set("type", serial.get("type", "pty"))
    if tty is not None:
        console.set("tty", tty)
    for child in serial:
        if child.tag in ("source", "protocol", "log", "alias"):
            console.append(copy.deepcopy(child))
    port = tree.attribute(serial, "target", "port")
    target = etree.SubElement(console, "target", type="serial")
    if port is not None:
        target.set("port", port)


def console_address(root: etree._Element) -> None:
    """The first console sits where the first serial port does. Call when addresses are given."""
    first = next(tree.children(root, "console"), None)
    serial = next(tree.children(root, "serial"), None)
    if first is None or serial is None or tree.attribute(first, "target", "type") != "serial":
        return
    address = serial.find("address")
    for stale in first.findall("address"):
        first.remove(stale)
    if address is not None:
        first.append(copy.deepcopy(address))


def disk_controllers(root: etree._Element) -> None:
    """Controllers for the addresses that disks have, up to the highest number in use."""
    for kind in ("scsi", "fdc", "ide", "sata"):
        needed = -1
        for disk in tree.children(root, "disk"):
            address = disk.find("address")
            if tree.attribute(disk, "target", "bus") == kind and address is not None:
                needed = max(needed, tree.number(address.get("controller")))
        present = {tree.number(c.get("index")) for c in tree.controllers(root, kind)}
        for index in range(needed + 1):
            if index not in present:
                tree.add_controller(root, kind, index, _scsi_model(root) if kind == "scsi" else None)


def _scsi_model(root: etree._Element) -> str:
    return "lsilogic"


def virtio_serial_controllers(root: etree._Element) -> None:
    """Controllers for virtio channels and consoles."""
    needed = -1
    for device in tree.children(root, "channel", "console"):
        if tree.attribute(device, "target", "type") == "virtio":
            address = device.find("address")
            number = 0 if address is None else tree.number(address.get("controller"))
            needed = max(needed, number)
    present = {tree.number(c.get("index")) for c in tree.controllers(root, "virtio-serial")}
    for index in range(needed + 1):
        if index not in present:
            tree.add_controller(root, "virtio-serial", index)
