"""Devices of a definition, one at a time: added, taken out, put in the place of another one. Pure.

A disk is known by its target, an interface by its MAC address, as libvirt knows them.
"""

from __future__ import annotations

from copy import deepcopy

from lxml import etree

from virtsnap.formats import xml_text
from virtsnap.formats.domain_xml import DomainDefinition, read_disk
from virtsnap.model.errors import (
    ConfigUnsupported,
    InvalidArg,
    NoDevice,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
)

_ADDED = frozenset(
    {"disk", "interface", "controller", "serial", "parallel", "console", "channel", "rng", "watchdog"}
    | {"input", "vsock"}
)
_KNOWN = _ADDED | {"graphics", "video", "sound", "hostdev", "memballoon", "tpm", "panic", "shmem"}
_PLACE = ("address", "alias", "backingStore", "mirror")
"""What a definition adds to a device."""


def parse_device(text: str) -> etree._Element:
    """The document of one device. Raises XmlDetail, ConfigUnsupported, XmlError."""
    root = xml_text.parse(text, None)
    if root.tag not in _KNOWN:
        raise ConfigUnsupported(f"unknown device type '{root.tag}'")
    if root.tag == "disk":
        read_disk(root)
    return root


def attached(definition: DomainDefinition, device: etree._Element) -> DomainDefinition:
    """With one more. Raises OperationInvalid for a target that is taken, OperationUnsupported."""
    if device.tag not in _ADDED:
        raise OperationUnsupported(f"persistent attach of device '{device.tag}' is not supported")
    if device.tag == "disk":
        target = read_disk(device).target
        if definition.disk(target) is not None:
            raise OperationInvalid(f"target {target} already exists")
    root = definition.tree()
    _devices(root).append(deepcopy(device))
    return DomainDefinition.from_element(root)


def detached(definition: DomainDefinition, device: etree._Element) -> DomainDefinition:
    """Without it. Raises NoDevice, InvalidArg for a disk, OperationUnsupported."""
    root = definition.tree()
    _devices(root).remove(_find(root, device, "detach"))
    return DomainDefinition.from_element(root)


def detached_alias(definition: DomainDefinition, alias: str) -> DomainDefinition:
    """Without the device of that alias. Raises NoDevice."""
    root = definition.tree()
    for device in _devices(root):
        name = device.find("alias")
        if name is not None and name.get("name") == alias:
            _devices(root).remove(device)
            return DomainDefinition.from_element(root)
    raise NoDevice(f"no device found with alias {alias}")


def updated(definition: DomainDefinition, device: etree._Element) -> DomainDefinition:
    """With it in the place of the one that it names; it stays where that one is on its bus."""
    if device.tag not in ("disk", "interface"):
        raise OperationUnsupported(f"persistent update of device '{device.tag}' is not supported")
    root, device = definition.tree(), deepcopy(device)
    old = _find(root, device, "update")
    kept = old.find("address")
    if device.find("address") is None and kept is not None:
        device.append(kept)
    _devices(root).replace(old, device)
    return DomainDefinition.from_element(root)


def _find(root: etree._Element, device: etree._Element, what: str) -> etree._Element:
    if device.tag == "disk":
        target = read_disk(device).target
        for disk in root.iterfind("devices/disk"):
            if read_disk(disk).target == target:
                return disk
        raise InvalidArg(
            f"target {target} doesn't exist." if what == "update" else f"no target device {target}"
        )
    if device.tag == "interface":
        address = _mac(device)
        found = [one for one in root.iterfind("devices/interface") if _mac(one) == address]
        if len(found) > 1:
            raise OperationFailed(f"multiple devices matching MAC address {address} found")
        if not found:
            raise NoDevice(
                f"no device found at address '(<null>)' matching MAC address '{address}' and alias '(<null>)'"
            )
        return found[0]
    if device.tag not in _ADDED:
        raise OperationUnsupported(f"persistent {what} of device '{device.tag}' is not supported")
    wanted = _told(device)
    for one in root.iterfind(f"devices/{device.tag}"):
        if _told(one) == wanted:
            return one
    if device.tag == "rng":
        raise NoDevice("no matching RNG device was found")
    raise NoDevice("device not present in domain configuration")


def _devices(root: etree._Element) -> etree._Element:
    found = root.find("devices")
    assert found is not None
    return found


def _mac(interface: etree._Element) -> str:
    mac = interface.find("mac")
    return "" if mac is None else mac.get("address", "").lower()


def _told(element: etree._Element) -> tuple[object, ...]:
    """What a device is, without where it is."""
    inside = [_told(one) for one in element if isinstance(one.tag, str) and one.tag not in _PLACE]
    return element.tag, sorted(element.attrib.items()), (element.text or "").strip(), inside
