"""<pool> and <volume>, as far as folders and the images in them need it. Other kinds of pools are refused."""

from __future__ import annotations

import re
import uuid as uuids
from dataclasses import replace
from xml.sax.saxutils import escape

from lxml import etree

from virtsnap.formats.domain_xml import scaled_bytes
from virtsnap.formats.xml_text import parse, render
from virtsnap.model.errors import ConfigUnsupported, InternalRefused, InvalidArg, OperationInvalid, XmlError
from virtsnap.model.storage import Pool, Space, Volume, VolumeRequest

_FORMATS = ("raw", "qcow2")
_OTHER_FORMATS = (
    *("none", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi", "fat", "vhd", "ploop", "cow", "qcow"),
    *("qed", "vmdk"),
)
"""Those that libvirt makes or shows, and we do not."""
_LARGEST = 2**63 - 1
_NOBODY = 2**32 - 1
"""No uid: for the system it means to leave it."""
_KINDS = (
    *("dir", "fs", "netfs", "logical", "disk", "iscsi", "iscsi-direct", "scsi", "mpath", "rbd", "sheepdog"),
    *("gluster", "zfs", "vstorage"),
)
"""libvirt's, by its numbers."""


def parse_pool(text: str) -> Pool:
    """A pool that is not active. Raises XmlError, ConfigUnsupported, InternalRefused for no folder."""
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
    for element, known in (
        (root, "name uuid capacity allocation available source target"),
        (root.find("source"), ""),
        (root.find("target"), "path permissions"),
    ):
        if element is not None:
            _only(element, known)
    mode, owner, group = _wanted_permissions(root.find("target"))
    return Pool(uuid, name, path.rstrip("/") or "/", mode=mode, owner=owner, group=group)


def format_pool(pool: Pool, space: Space, mode: int, owner: int, group: int) -> str:
    """The document. The space of a pool that is not active is not known: all zero."""
    text = (
        f"<pool type='dir'><name>{escape(pool.name)}</name><uuid>{pool.uuid}</uuid>"
        f"<capacity unit='bytes'>{space.capacity}</capacity>"
        f"<allocation unit='bytes'>{space.allocation}</allocation>"
        f"<available unit='bytes'>{space.available}</available><source/>"
        f"<target><path>{escape(pool.path)}</path>{_permissions(mode, owner, group)}</target></pool>"
    )
    return render(parse(text, "pool")).replace("  <source/>\n", "  <source>\n  </source>\n")


def parse_volume(text: str, *, sized: bool = True) -> VolumeRequest:
    """A new volume. `sized`: it must say its capacity, or what it stands on.

    What is a volume's own answer (key, path, times) may be sent back and means nothing.
    Raises XmlError, InvalidArg, OperationInvalid, and ConfigUnsupported for what is not made here.
    """
    root = parse(text, "volume")
    _only(root, "name key source capacity allocation physical target backingStore")
    if root.get("type", "file") != "file":
        raise ConfigUnsupported(f"volumes of type '{root.get('type')}' are not supported: files are")
    source = root.find("source")
    if source is not None:
        _only(source, "")
    name = (root.findtext("name") or "").strip()
    if not name:
        raise XmlError("missing volume name element")
    if not is_volume_name(name):
        raise OperationInvalid(f"volume name '{name}' cannot contain '/'")
    target = root.find("target")
    if target is not None:
        _only(target, "path format permissions timestamps compat clusterSize features nocow")
    format = _format(root, "target/format") or "raw"
    if format not in _FORMATS + _OTHER_FORMATS:
        raise ConfigUnsupported(f"unknown volume format type {format}")
    if format not in _FORMATS:
        raise ConfigUnsupported(f"volumes of format '{format}' are not supported: raw and qcow2 are")
    below = root.find("backingStore")
    if below is not None:
        _only(below, "path format permissions timestamps")
    backing = (root.findtext("backingStore/path") or "").strip() or None
    if backing is not None and not backing.startswith("/"):
        raise XmlError(f"backing store '{backing}' is not an absolute path")
    capacity = _size(root, "capacity")
    if capacity is None and backing is None and sized:
        raise XmlError("missing capacity element")
    request = VolumeRequest(
        name,
        format,
        capacity or 0,
        _size(root, "allocation"),
        backing,
        _format(root, "backingStore/format") if backing else None,
    )
    return request if target is None else _with_target(request, target)


def _with_target(request: VolumeRequest, target: etree._Element) -> VolumeRequest:
    features = target.find("features")
    if features is not None:
        _only(features, "lazy_refcounts extended_l2")
    compat = (target.findtext("compat") or "").strip() or None
    if compat not in (None, "0.10", "1.1"):
        raise ConfigUnsupported(f"qcow2 images of version '{compat}' are not supported: 0.10 and 1.1 are")
    changed = replace(
        request,
        compat=compat,
        cluster_size=_size(target, "clusterSize"),
        lazy_refcounts=target.find("features/lazy_refcounts") is not None,
        extended_l2=target.find("features/extended_l2") is not None,
    )
    if request.format == "raw" and changed != request:
        raise ConfigUnsupported("compat, clusterSize and features are those of qcow2 images, not of raw ones")
    mode, owner, group = _wanted_permissions(target)
    return replace(changed, nocow=target.find("nocow") is not None, mode=mode, owner=owner, group=group)


def _wanted_permissions(target: etree._Element | None) -> tuple[int | None, int | None, int | None]:
    element = None if target is None else target.find("permissions")
    if element is None:
        return None, None, None
    _only(element, "mode owner group label")
    mode = (element.findtext("mode") or "").strip()
    if mode and not re.fullmatch("[0-7]{1,4}", mode):
        raise XmlError("malformed octal mode")
    return int(mode, 8) if mode else None, _id(element, "owner"), _id(element, "group")


def _id(element: etree._Element, tag: str) -> int | None:
    text = (element.findtext(tag) or "").strip()
    if text in ("", "-1"):
        return None
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) >= _NOBODY:
        raise XmlError(f"malformed {tag} element")
    return int(text)


def _only(element: etree._Element, known: str) -> None:
    """Raises ConfigUnsupported for a child that would otherwise be ignored."""
    for child in element.iterchildren(tag=etree.Element):
        if child.tag not in known.split():
            raise ConfigUnsupported(f"element '{child.tag}' of '{element.tag}' is not supported")


def is_volume_name(name: str) -> bool:
    """A volume is a file right in the pool's folder."""
    return bool(name) and not ("/" in name or "\0" in name or name in (".", ".."))


def format_volume(volume: Volume) -> str:
    """The document."""
    backing = ""
    if volume.backing is not None:
        kind = f"<format type='{escape(volume.backing_format or 'raw')}'/>"
        backing = f"<backingStore><path>{escape(volume.backing)}</path>{kind}</backingStore>"
    times = "".join(
        f"<{tag}>{time // 10**9}.{time % 10**9:09}</{tag}>"
        for tag, time in zip(("atime", "mtime", "ctime"), volume.times, strict=True)
    )
    text = (
        f"<volume type='file'><name>{escape(volume.name)}</name><key>{escape(volume.path)}</key>"
        f"<capacity unit='bytes'>{volume.capacity}</capacity>"
        f"<allocation unit='bytes'>{volume.allocation}</allocation>"
        f"<physical unit='bytes'>{volume.physical}</physical>"
        f"<target><path>{escape(volume.path)}</path><format type='{volume.format}'/>"
        f"{_permissions(volume.mode, volume.owner, volume.group)}"
        f"<timestamps>{times}<btime>0</btime></timestamps></target>{backing}</volume>"
    )
    return render(parse(text, "volume"))


def _permissions(mode: int, owner: int, group: int) -> str:
    return f"<permissions><mode>{mode:04o}</mode><owner>{owner}</owner><group>{group}</group></permissions>"


def _size(root: etree._Element, tag: str) -> int | None:
    element = root.find(tag)
    if element is None or not (element.text or "").strip():
        return None
    if not re.fullmatch(r"\s*\d{1,20}\s*", element.text or ""):
        raise XmlError(f"malformed {tag} element")
    size = scaled_bytes(element.text or "", element.get("unit"), "bytes", tag)
    if size > _LARGEST:
        raise InvalidArg(f"{tag} of {size} bytes is too large")
    return size


def _format(root: etree._Element, path: str) -> str | None:
    element = root.find(path)
    return element.get("type") if element is not None else None
