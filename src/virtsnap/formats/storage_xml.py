"""<pool> and <volume>, as far as folders and the images in them need it. Other kinds of pools are refused."""

from __future__ import annotations

import uuid as uuids
from xml.sax.saxutils import escape

from lxml import etree

from virtsnap.formats.domain_xml import scaled_bytes
from virtsnap.formats.xml_text import parse, render
from virtsnap.model.errors import ConfigUnsupported, InternalRefused, OperationInvalid, XmlError
from virtsnap.model.storage import Pool, Space, Volume, VolumeRequest

_FORMATS = ("raw", "qcow2")
_KINDS = (
    *("dir", "fs", "netfs", "logical", "disk", "iscsi", "iscsi-direct", "scsi", "mpath", "rbd", "sheepdog"),
    *("gluster", "zfs", "vstorage"),
)
"""libvirt's, by its numbers."""


def parse_pool(text: str) -> Pool:
    """A pool that is not active. Raises XmlError, InternalRefused for what is no folder."""
    root = parse(text, "pool")
    kind = root.get("type")
    if kind not in _KINDS:
        raise XmlError(f"unknown storage pool type {kind or ''}".rstrip())
    if kind != "dir":
        raise InternalRefused(f"missing backend for pool type {_KINDS.index(kind)} ({kind})")
    name = (root.findtext("name") or "").strip()
    path = (root.findtext("target/path") or "").strip()
    if not name:
        raise XmlError("missing pool source name element")
    if "/" in name or name in (".", ".."):
        raise XmlError(f"name {name} cannot contain '/'")
    if not path.startswith("/"):
        raise XmlError("missing storage pool target path")
    given = root.findtext("uuid")
    try:
        uuid = str(uuids.UUID(given.strip())) if given else str(uuids.uuid4())
    except ValueError as error:
        raise XmlError("malformed uuid element") from error
    return Pool(uuid, name, path.rstrip("/") or "/")


def format_pool(pool: Pool, space: Space, mode: int, owner: int, group: int) -> str:
    """The document. The space of a pool that is not active is not known: all zero."""
    text = (
        f"<pool type='dir'><name>{escape(pool.name)}</name><uuid>{pool.uuid}</uuid>"
        f"<capacity unit='bytes'>{space.capacity}</capacity>"
        f"<allocation unit='bytes'>{space.allocation}</allocation>"
        f"<available unit='bytes'>{space.available}</available><source/>"
        f"<target><path>{escape(pool.path)}</path>{_permissions(mode, owner, group)}</target></pool>"
    )
    return render(parse(text, "pool"))


def parse_volume(text: str) -> VolumeRequest:
    """A new volume. Raises XmlError, InvalidArg, ConfigUnsupported for a format that is not made here."""
    root = parse(text, "volume")
    name = (root.findtext("name") or "").strip()
    if not name:
        raise XmlError("missing volume name element")
    if not is_volume_name(name):
        raise OperationInvalid(f"volume name '{name}' cannot contain '/'")
    format = _format(root, "target/format") or "raw"
    if format not in _FORMATS:
        raise ConfigUnsupported(f"volumes of format '{format}' are not supported: raw and qcow2 are")
    backing = (root.findtext("backingStore/path") or "").strip() or None
    capacity = _size(root, "capacity")
    if capacity is None and backing is None:
        raise XmlError("missing capacity element")
    return VolumeRequest(
        name,
        format,
        capacity or 0,
        _size(root, "allocation"),
        backing,
        _format(root, "backingStore/format") if backing else None,
    )


def is_volume_name(name: str) -> bool:
    """A volume is a file right in the pool's folder."""
    return bool(name) and not ("/" in name or "\0" in name or name in (".", ".."))


def format_volume(volume: Volume) -> str:
    """The document."""
    backing = ""
    if volume.backing is not None:
        kind = f"<format type='{escape(volume.backing_format or 'raw')}'/>"
        backing = f"<backingStore><path>{escape(volume.backing)}</path>{kind}</backingStore>"
    text = (
        f"<volume type='file'><name>{escape(volume.name)}</name><key>{escape(volume.path)}</key>"
        f"<capacity unit='bytes'>{volume.capacity}</capacity>"
        f"<allocation unit='bytes'>{volume.allocation}</allocation>"
        f"<physical unit='bytes'>{volume.physical}</physical>"
        f"<target><path>{escape(volume.path)}</path><format type='{volume.format}'/>"
        f"{_permissions(volume.mode, volume.owner, volume.group)}</target>{backing}</volume>"
    )
    return render(parse(text, "volume"))


def _permissions(mode: int, owner: int, group: int) -> str:
    return f"<permissions><mode>{mode:04o}</mode><owner>{owner}</owner><group>{group}</group></permissions>"


def _size(root: etree._Element, tag: str) -> int | None:
    element = root.find(tag)
    if element is None or not (element.text or "").strip():
        return None
    return scaled_bytes(element.text or "", element.get("unit"), "bytes", tag)


def _format(root: etree._Element, path: str) -> str | None:
    element = root.find(path)
    return element.get("type") if element is not None else None
