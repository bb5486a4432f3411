"""From a definition as written to the machine as libvirt would keep it.

`complete` does what virDomainDefineXML does to a domain of QEMU's: it fills in defaults, adds implicit
devices, gives every device an address, and puts all into libvirt's order, so that the text compares
equal with `virsh dumpxml --inactive`. An address once given never changes, and completing twice changes
nothing.

Not here: whether this engine can run the result (`support`), and what QEMU is told (`command_line`).
"""

from __future__ import annotations

import re

from lxml import etree

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine import addresses, defaults, implicit, order, pci, tpm, tree, validate
from virtsnap.machine.host import Host
from virtsnap.model.errors import ConfigUnsupported, InvalidArg


def complete(definition: DomainDefinition, host: Host) -> DomainDefinition:
    """The definition with everything filled in. It must have a uuid.

    Raises InvalidArg (no uuid), ConfigUnsupported or XmlError in libvirt's words.
    """
    if definition.uuid is None:
        raise InvalidArg("a domain must have a uuid before it is completed")
    root = definition.tree()
    _drop_comments(root)
    _set_uuid(root, definition.uuid)
    defaults.sections(root, host)
    q35 = is_q35(tree.attribute(root, "os/type", "machine") or "")
    emulator = tree.devices(root).find("emulator")
    if emulator is None:
        emulator = etree.SubElement(tree.devices(root), "emulator")
        emulator.text = host.emulator
    defaults.disks(root)
    order.group(root)
    defaults.controllers(root, q35=q35)
    validate.pci_root(root, q35=q35)
    implicit.board(root, q35=q35)
    defaults.controllers(root, q35=q35)
    defaults.interfaces(root)
    implicit.inputs(root)
    defaults.inputs(root)
    defaults.character_devices(root)
    addresses.assign_serial_ports(root)
    implicit.console(root)
    defaults.character_devices(root)
    addresses.assign_serial_ports(root)
    addresses.assign_console_ports(root)
    defaults.graphics(root)
    implicit.video(root)
    defaults.videos(root)
    defaults.others(root)
    tpm.defaults(root)
    implicit.audio(root)
    addresses.assign_drives(root)
    implicit.disk_controllers(root)
    implicit.virtio_serial_controllers(root)
    # Later steps count on libvirt's order of the kinds of devices.
    order.arrange(root)
    addresses.assign_virtio_serial(root)
    pci.assign(root)
    addresses.assign_usb(root)
    implicit.console_address(root)
    validate.validate(root, q35=q35)
    order.arrange(root)
    return DomainDefinition(root)


def is_q35(machine: str) -> bool:
    """A Q35 machine type, or a PC of the i440FX kind? Raises ConfigUnsupported for any other."""
    if machine == "q35" or machine.startswith("pc-q35-"):
        return True
    if machine == "pc" or re.fullmatch(r"pc-(i440fx-)?\d+\.\d+.*", machine):
        return False
    raise ConfigUnsupported(f"machine type '{machine}' is not supported by this engine")


def _set_uuid(root: etree._Element, uuid: str) -> None:
    element = tree.ensure(root, "uuid")
    element.text = uuid


def _drop_comments(root: etree._Element) -> None:
    for node in list(root.iter(etree.Comment, etree.ProcessingInstruction)):
        parent = node.getparent()
        if parent is None or any(a.tag == "metadata" for a in node.iterancestors()):
            continue
        # lxml keeps the text behind a node on the node itself
        previous = node.getprevious()
        if node.tail and node.tail.strip():
            if previous is not None:
                previous.tail = (previous.tail or "") + node.tail
            else:
                parent.text = (parent.text or "") + node.tail
        node.tail = None
        parent.remove(node)
