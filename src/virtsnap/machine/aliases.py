"""Device aliases, which are QEMU's device ids: libvirt's names, by kind and number.

An alias of the user's own (it begins with 'ua-') stays; every other is given anew.
"""

from __future__ import annotations

from lxml import etree

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine import tree
from virtsnap.machine.addresses import disk_index

_COUNTED = {
    "interface": "net",
    "serial": "serial",
    "parallel": "parallel",
    "channel": "channel",
    "console": "console",
    "input": "input",
    "tpm": "tpm",
    "hub": "hub",
    "sound": "sound",
    "video": "video",
    "rng": "rng",
    "vsock": "vsock",
}


def with_aliases(definition: DomainDefinition) -> DomainDefinition:
    """The completed definition as a running domain shows it, with `<alias>` in every device."""
    root = definition.tree()
    assign(root)
    return DomainDefinition(root)


def assign(root: etree._Element) -> None:
    """Give every device its alias, in place."""
    q35 = any(c.get("model") == "pcie-root" for c in tree.controllers(root, "pci"))
    for disk in tree.children(root, "disk"):
        _set(disk, disk_alias(root, disk))
    for controller in tree.children(root, "controller"):
        _set(controller, _controller_alias(controller, q35=q35))
    for tag, prefix in _COUNTED.items():
        for number, device in enumerate(tree.children(root, tag)):
            _set(device, f"{prefix}{number}")
    for number, watchdog in enumerate(tree.children(root, "watchdog")):
        _set(watchdog, f"watchdog{number}")
    for balloon in tree.children(root, "memballoon"):
        if balloon.get("model") != "none":
            _set(balloon, "balloon0")
    _alias_first_console(root)


def alias_of(device: etree._Element) -> str:
    """The alias of a device; empty when it has none."""
    return tree.attribute(device, "alias", "name") or ""


def disk_alias(root: etree._Element, disk: etree._Element) -> str:
    """libvirt's name for a disk: by its target for virtio and USB, by its address for the others."""
    bus = tree.attribute(disk, "target", "bus") or ""
    if bus in ("virtio", "usb"):
        return f"{bus}-disk{disk_index(tree.attribute(disk, 'target', 'dev') or '')}"
    controller, place, target, unit = (
        tree.number(tree.attribute(disk, "address", n)) for n in ("controller", "bus", "target", "unit")
    )
    if bus == "scsi" and scsi_model(root, controller) != "lsilogic":
        return f"scsi{controller}-{place}-{target}-{unit}"
    return f"{bus}{controller}-{place}-{unit}"


def scsi_model(root: etree._Element, index: int) -> str:
    """The model of SCSI controller `index`."""
    for controller in tree.controllers(root, "scsi"):
        if tree.number(controller.get("index")) == index:
            return controller.get("model", "")
    return ""


def _controller_alias(controller: etree._Element, *, q35: bool) -> str:
    kind, index = controller.get("type", ""), controller.get("index", "0")
    if kind == "pci":
        return "pcie.0" if controller.get("model") == "pcie-root" else f"pci.{index}"
    if kind == "usb" and index == "0":
        return "usb"
    # What the board brings along has the name that QEMU gives it.
    if index == "0" and ((kind == "ide" and not q35) or (kind == "sata" and q35)):
        return "ide"
    return f"{kind}{index}"


def _alias_first_console(root: etree._Element) -> None:
    """The first console and the first serial port are one device."""
    console = next(tree.children(root, "console"), None)
    serial = next(tree.children(root, "serial"), None)
    if console is None or serial is None or tree.attribute(console, "target", "type") != "serial":
        return
    for stale in console.findall("alias"):
        console.remove(stale)
    _set(console, alias_of(serial))


def _set(device: etree._Element, name: str) -> None:
    alias = device.find("alias")
    if alias is None:
        alias = etree.Element("alias")
        address = device.find("address")
        if address is not None:
            address.addprevious(alias)
        else:
            device.append(alias)
    elif alias.get("name", "").startswith("ua-"):
        return
    alias.set("name", name)
