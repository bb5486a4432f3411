"""One `<disk>` of a snapshot: where the overlay is, in and out.

Source: libvirt's formatsnapshot page ("disks") and what libvirt 11.3 accepts and writes. A `<source>` that
says more than a path (network storage, security labels ...) is kept whole; whether it can be used is the
planner's to say. Not here: which disks a domain has, and which location a disk gets by default (`plan`).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping

from lxml import etree

from virtsnap.formats import xml_text
from virtsnap.formats.domain_xml import scaled_bytes
from virtsnap.model.errors import ConfigUnsupported, ErrorCode, InternalRefused, Refused, XmlError
from virtsnap.model.snapshot import Location, SnapshotDisk

_TYPES = ("file", "block", "dir", "network", "volume", "nvme", "vhostuser", "vhostvdpa")
_NEVER = ("dir", "volume")
"""Types that libvirt itself refuses for a snapshot's disk."""
_USED = ("file", "block", "network")
_PATH_ATTRIBUTE = {"file": "file", "block": "dev"}
_FORMATS = (
    *("raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi", "fat", "vhd", "ploop", "cow", "qcow"),
    *("qcow2", "qed", "vmdk"),
)
_PROTOCOLS = (
    *("nbd", "rbd", "sheepdog", "gluster", "iscsi", "http", "https", "ftp", "ftps", "tftp", "ssh", "vxhs"),
    "nfs",
)

# In the order in which libvirt writes them.
_SOURCE_ATTRIBUTES = {
    "file": ("file", "fdgroup"),
    "block": ("dev",),
    "network": ("protocol", "name", "query", "tls", "tlsHostname"),
}
_CHILD_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "host": ("name", "port", "transport", "socket"),
    "secret": ("type", "uuid", "usage"),
    "seclabel": ("model", "labelskip", "relabel"),
}
_SOURCE_CHILDREN = (
    *("host", "snapshot", "config", "auth", "ssl", "cookies", "timeout", "initiator", "encryption"),
    *("reservations", "slices", "seclabel", "identity", "readahead", "reconnect", "knownHosts"),
)
_MAX_CACHE = 2**64 - 1


def read_disk(element: etree._Element, *, redefine: bool) -> SnapshotDisk:
    """A `<disk>` as it was given. `redefine`: `<snapshotDeleteInProgress/>` counts.

    Raises InternalRefused, XmlError, InvalidArg and code 82 as libvirt does, and ConfigUnsupported also for
    what libvirt would drop without a word.
    """
    name = element.get("name")
    if name is None:
        raise InternalRefused("missing name from disk snapshot element")
    location = read_location(element)
    type = element.get("type", "file")
    if type not in _TYPES:
        raise XmlError(f"Invalid value for attribute 'type' in element '{element.tag}': '{type}'.")
    if type in _NEVER:
        raise XmlError(f"unsupported disk snapshot type '{type}'")
    if type not in _USED:
        raise ConfigUnsupported(f"disk snapshot type '{type}' is not supported")
    only(element, ("name", "snapshot", "type"), ("driver", "source", "snapshotDeleteInProgress"))

    path, source_xml = _read_source(element.find("source"), type)
    format, driver_xml = _read_driver(element.find("driver"))
    if path is not None and not path.startswith("/"):
        raise XmlError(f"disk snapshot image path '{path}' must be absolute")
    if location is Location.UNSET and (path, source_xml, format) != (None, None, None):
        location = Location.EXTERNAL
    return SnapshotDisk(
        name=name,
        location=location,
        type=type,
        path=path,
        format=format,
        source_xml=source_xml,
        driver_xml=driver_xml,
        delete_in_progress=redefine and element.find("snapshotDeleteInProgress") is not None,
    )


def write_disk(disk: SnapshotDisk) -> etree._Element:
    """The element that libvirt would write; `type` and what is below only when the overlay is known."""
    element = etree.Element("disk", name=disk.name)
    if disk.location is not Location.UNSET:
        element.set("snapshot", disk.location.value)
    known = (disk.path, disk.source_xml, disk.format) != (None, None, None)
    if known:
        element.set("type", disk.type)
    if disk.delete_in_progress:
        etree.SubElement(element, "snapshotDeleteInProgress")
    if known:
        element.extend(child for child in (_write_driver(disk), _write_source(disk)) if child is not None)
    return element


def read_location(element: etree._Element) -> Location:
    """The attribute `snapshot` of a disk or of the memory. Raises XmlError."""
    word = element.get("snapshot")
    if word is None:
        return Location.UNSET
    if word == "" or word not in [location.value for location in Location]:
        raise XmlError(f"Invalid value for attribute 'snapshot' in element '{element.tag}': '{word}'.")
    return Location(word)


def only(element: etree._Element, attributes: Collection[str], children: Collection[str]) -> None:
    """Refuse by name what libvirt would ignore: a misspelt `<memory>` must not make another snapshot.

    Raises ConfigUnsupported.
    """
    for name in map(str, element.attrib):
        if name not in attributes:
            raise ConfigUnsupported(f"attribute '{name}' of element '{element.tag}' is not supported")
    seen = set()
    for child in element:
        if not isinstance(child.tag, str):
            continue
        if child.tag not in children:
            raise ConfigUnsupported(f"element '{child.tag}' in element '{element.tag}' is not supported")
        if child.tag in seen and child.tag not in ("disk", "host"):
            raise ConfigUnsupported(f"element '{child.tag}' in element '{element.tag}' is given twice")
        seen.add(child.tag)


def _read_source(source: etree._Element | None, type: str) -> tuple[str | None, str | None]:
    """The path, and the whole element if it says more."""
    if source is None:
        return None, None
    if type == "network":
        _check_network(source)
    only(source, _SOURCE_ATTRIBUTES[type], _SOURCE_CHILDREN)
    path = source.get(_PATH_ATTRIBUTE[type]) or None if type in _PATH_ATTRIBUTE else None
    attributes = [name for name in source.attrib if name != _PATH_ATTRIBUTE.get(type)]
    if not attributes and not any(isinstance(child.tag, str) for child in source):
        return path, None
    return path, xml_text.render(_in_order(source, _SOURCE_ATTRIBUTES[type])).rstrip("\n")


def _check_network(source: etree._Element) -> None:
    protocol = source.get("protocol")
    if protocol is None:
        raise XmlError("Missing required attribute 'protocol' in element 'source'")
    if protocol not in _PROTOCOLS:
        raise XmlError(f"Invalid value for attribute 'protocol' in element 'source': '{protocol}'.")
    if source.get("name") is None and protocol != "nbd":
        raise XmlError("missing name for disk source")


def _in_order(element: etree._Element, attributes: tuple[str, ...]) -> etree._Element:
    """A copy with attributes in libvirt's order, here and below."""
    ordered = etree.Element(element.tag)
    names = [str(name) for name in element.attrib]
    for name in sorted(names, key=lambda name: (*attributes, name).index(name)):
        ordered.set(name, element.get(name, ""))
    ordered.text = element.text
    for child in element:
        if isinstance(child.tag, str):
            ordered.append(_in_order(child, _CHILD_ATTRIBUTES.get(child.tag, ())))
    return ordered


def _write_source(disk: SnapshotDisk) -> etree._Element | None:
    if disk.path is None and disk.source_xml is None:
        return None
    if disk.source_xml is None:
        source = etree.Element("source")
    else:
        source = copy.deepcopy(xml_text.parse(disk.source_xml, "source"))
    if disk.path is not None:
        source.set(_PATH_ATTRIBUTE[disk.type], disk.path)
    return source


def _read_driver(driver: etree._Element | None) -> tuple[str | None, str | None]:
    """The format, and the whole element if it says more."""
    if driver is None:
        return None, None
    format = driver.get("type") or None
    if format is not None and format not in _FORMATS:
        raise ConfigUnsupported(f"unknown disk snapshot driver '{format}'")
    # Every overlay is driven by QEMU, so saying so asks for nothing else; any other word does.
    attributes = ("type", "name") if driver.get("name") == "qemu" else ("type",)
    only(driver, attributes, ("metadata_cache",))
    size = _read_cache(driver.find("metadata_cache"))
    if not size:
        return format, None
    whole = etree.Element("driver")
    if format is not None:
        whole.set("type", format)
    cache = etree.SubElement(etree.SubElement(whole, "metadata_cache"), "max_size", unit="bytes")
    cache.text = str(size)
    return format, xml_text.render(whole).rstrip("\n")


def _read_cache(cache: etree._Element | None) -> int:
    """metadata_cache/max_size in bytes; 0: not limited."""
    if cache is None:
        return 0
    only(cache, (), ("max_size",))
    element = cache.find("max_size")
    if element is None or not element.text:
        return 0
    only(element, ("unit",), ())
    unit = element.get("unit")
    size = scaled_bytes(element.text, unit, "bytes", "./driver/metadata_cache/max_size")
    if size > _MAX_CACHE:
        error = Refused(f"value too large: {element.text}{unit or ''}")
        error.code = ErrorCode.OVERFLOW
        raise error
    return size


def _write_driver(disk: SnapshotDisk) -> etree._Element | None:
    if disk.driver_xml is not None:
        driver = copy.deepcopy(xml_text.parse(disk.driver_xml, "driver"))
    elif disk.format is not None:
        driver = etree.Element("driver")
    else:
        return None
    if disk.format is not None:
        driver.set("type", disk.format)
    return driver
