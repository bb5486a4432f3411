"""A second machine like a first one: what must differ between them, and what only one of them can hold.

Nothing that the guest's memory image fits on is changed: devices, addresses and models stay. Name, uuid, MAC
addresses, generation id and the places of sockets, logs and UEFI variables are the new machine's own.
"""

from __future__ import annotations

from lxml import etree

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine import tree
from virtsnap.model.frozen import dataclass


@dataclass(frozen=True)
class Identity:
    """What a new machine is called."""

    name: str
    uuid: str
    macs: tuple[str, ...]
    """For its network interfaces, in order; at least as many as there are."""
    genid: str
    nvram: str
    """File for its UEFI variables, if it has such."""


def renewed(definition: DomainDefinition, identity: Identity) -> DomainDefinition:
    """The definition of the new machine, inactive. Its disks are still those of the old one."""
    root = DomainDefinition.parse(definition.to_inactive_xml()).tree()
    _set(root, "name", identity.name)
    _set(root, "uuid", identity.uuid)
    for entry in root.iterfind("sysinfo/system/entry[@name='uuid']"):
        entry.text = identity.uuid  # libvirt: must be the domain's
    if root.find("genid") is not None:
        _set(root, "genid", identity.genid)
    if root.find("os/nvram") is not None:
        _set(root, "os/nvram", identity.nvram)
    for interface, mac in zip(tree.children(root, "interface"), identity.macs, strict=False):
        tree.ensure(interface, "mac").set("address", mac)
    for device in root.iterfind("devices/*"):
        if device.tag in ("serial", "console", "channel", "parallel"):
            _own_place(device, identity.name)
        elif device.tag == "graphics" and device.get("port") is not None:
            device.set("port", "-1")
            device.set("autoport", "yes")
    return DomainDefinition(root)


def _set(root: etree._Element, path: str, text: str) -> None:
    found = root.find(path)
    if found is not None:
        found.text = text


def _own_place(device: etree._Element, name: str) -> None:
    """A socket goes to the run folder of its QEMU, a log beside the old one."""
    source = device.find("source")
    if source is None:
        return
    if device.get("type") == "unix" and source.get("mode", "bind") == "bind":
        device.remove(source)
    elif device.get("type") == "file" and source.get("path"):
        source.set("path", f"{source.get('path')}.{name}")
