"""libvirt's own files around its XML: the comment that heads them, and the status of an active domain.

The XML itself is `domain_xml` and `snapshot_xml`. Source: what libvirt 11.3 writes, byte by byte.
"""

from __future__ import annotations

from collections.abc import Collection

from lxml import etree

from virtsnap.formats import xml_text
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.formats.snapshot_xml import format_snapshot
from virtsnap.model.errors import VirtsnapError
from virtsnap.model.snapshot import Snapshot

_HEAD = """<!--
WARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE
OVERWRITTEN AND LOST. Changes to this xml configuration should be made using:
  virsh {command}
or other application using the libvirt API.
-->

"""
_UNSAFE = frozenset("\r\t\n !\"#$&'()*;<>?[\\]^`{|}~")


def definition_file(name: str, uuid: str, xml: str) -> str:
    """The whole of NAME.xml, from the definition's XML."""
    # What a shell or the comment would stumble over is not written; the uuid stands in for it.
    safe = not set(name) & _UNSAFE and "--" not in name
    return _HEAD.format(command=f"edit {name if safe else uuid}") + xml


def snapshot_file(snapshot: Snapshot, uuid: str, *, current: bool) -> str:
    """The whole of a snapshot's document."""
    text = format_snapshot(snapshot, secure=True, uuid=uuid, internal=True, current=current)
    return _HEAD.format(command="snapshot-edit") + text


def status_pid(text: str) -> int | None:
    """The process that the status of an active domain names. Raises XmlError, XmlDetail."""
    word = xml_text.parse(text, "domstatus").get("pid", "")
    return int(word) if word.isascii() and word.isdigit() and int(word) > 0 else None


def named_images(text: str) -> tuple[str | None, dict[str, str]]:
    """Of any document with definitions in it: the domain's uuid, and the images with their formats.

    Raises XmlError, XmlDetail, and what a definition raises that cannot be read.
    """
    try:
        root = xml_text.parse(text, "domain")
    except VirtsnapError:
        root = xml_text.parse(text, "domainsnapshot")
    uuid: str | None = None
    found: dict[str, str] = {}
    for element in _definitions(root):
        definition = DomainDefinition.from_element(element)
        uuid = uuid or definition.uuid
        found |= {disk.source: disk.format for disk in definition.disks if disk.source is not None}
    return uuid or (root.findtext("domain/uuid") if root.tag == "domainsnapshot" else None), found


def written_chains(definition_xml: str) -> dict[str, tuple[tuple[str | None, ...], bool]]:
    """By disk target, what libvirt wrote down of the images below the disk's own, and whether that is all.

    libvirt believes it when it starts the domain; the images themselves are asked where nothing is written.
    """
    found: dict[str, tuple[tuple[str | None, ...], bool]] = {}
    for disk in xml_text.parse(definition_xml, "domain").iterfind("devices/disk"):
        target, backing = disk.find("target"), disk.find("backingStore")
        if target is None or backing is None:
            continue
        layers: list[str | None] = []
        ended = False
        while backing is not None and not ended:
            source = backing.find("source")
            ended = source is None
            if source is not None:
                layers.append(source.get("file") or source.get("dev"))
                backing = backing.find("backingStore")
        found[target.get("dev", "")] = (tuple(layers), ended)
    return found


def without_chains(definition_xml: str, targets: Collection[str]) -> str:
    """The definition without what is written of the images below these disks' own."""
    root = DomainDefinition.parse(definition_xml).tree()
    for disk in root.iterfind("devices/disk"):
        target = disk.find("target")
        if target is not None and target.get("dev") in targets:
            for backing in disk.findall("backingStore"):
                disk.remove(backing)
    return xml_text.render(root)


def _definitions(root: etree._Element) -> list[etree._Element]:
    if root.tag == "domain":
        return [root]
    return [element for tag in ("domain", "inactiveDomain") for element in root.findall(tag)]
