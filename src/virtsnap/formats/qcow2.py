"""What the first cluster of a qcow2 image tells: sizes, backing file, features; and its snapshot table.

A plan asks for hundreds of images, and starting qemu-img for each would cost more than the operation. So does
making an empty image, of which a revert needs one for each disk. Source: QEMU's docs/interop/qcow2.rst.
Everything else about images is `qemu.images`.
"""

from __future__ import annotations

import struct

from virtsnap.model.facts import InternalSnapshot
from virtsnap.model.frozen import dataclass

MAGIC = b"QFI\xfb"
HEADER_BYTES = 64 * 1024
"""Enough of the file: header, extensions and backing name lie in the first cluster, 64 KiB by default."""

_FIXED = struct.Struct(">4sIQIIQ")
_ENTRY = struct.Struct(">12xHH16xII")
_BACKING_FORMAT = 0xE2792ACA
_END = 0
_CORRUPT, _EXTENDED_L2 = 1 << 1, 1 << 4
_CLUSTER, _CLUSTER_EXTENDED = 1 << 16, 1 << 14
_HEADER_LENGTH, _REFCOUNT_ORDER = 112, 4


@dataclass(frozen=True)
class Qcow2Header:
    """The fields that matter here. `backing` is the name as written, relative or not."""

    virtual_size: int
    cluster_size: int
    backing: str | None
    backing_format: str | None
    extended_l2: bool
    corrupt: bool
    snapshot_count: int = 0
    snapshots_offset: int = 0


def empty(
    size: int,
    *,
    backing: str,
    backing_format: str,
    cluster_size: int | None = None,
    extended_l2: bool = False,
) -> bytes | None:
    """The file of an image of `size` bytes that holds nothing yet.

    Its tables are written whole, as qemu-img writes them: what an empty image takes on the disk says by how
    much another one is fuller. None for what has no place in this simplest layout (an image of many TiB, a
    name that is longer than a cluster): qemu-img makes it, or knows why it cannot be.
    """
    cluster = cluster_size or _CLUSTER
    name, kind = backing.encode(errors="surrogateescape"), backing_format.encode()
    if cluster & (cluster - 1) or not (_CLUSTER_EXTENDED if extended_l2 else 512) <= cluster <= 1 << 21:
        return None
    size = -(-size // 512) * 512
    entries = -(-size // (cluster * (cluster // (16 if extended_l2 else 8))))
    table = max(-(-entries * 8 // cluster), 1)
    extension = struct.pack(">II", _BACKING_FORMAT, len(kind)) + kind.ljust(-(-len(kind) // 8) * 8, b"\0")
    name_offset = _HEADER_LENGTH + len(extension) + 8
    # One cluster each for header, table of refcounts and refcounts; the L1 table comes last.
    clusters = 3 + table
    if len(name) > 1023 or name_offset + len(name) > cluster or clusters > cluster // 2:
        return None
    head = _FIXED.pack(MAGIC, 3, name_offset, len(name), cluster.bit_length() - 1, size)
    head += struct.pack(">IIQQIIQ", 0, entries, 3 * cluster, cluster, 1, 0, 0)
    head += struct.pack(">QQQII", _EXTENDED_L2 if extended_l2 else 0, 0, 0, _REFCOUNT_ORDER, _HEADER_LENGTH)
    head = head.ljust(_HEADER_LENGTH, b"\0") + extension + bytes(8) + name
    refcounts = struct.pack(">Q", 2 * cluster).ljust(cluster, b"\0")
    refcounts += (struct.pack(">H", 1) * clusters).ljust(cluster, b"\0")
    return head.ljust(cluster, b"\0") + refcounts + bytes(8 * max(entries, 1))


def parse(data: bytes) -> Qcow2Header | None:
    """The header in the first bytes of an image; None when they are not a qcow2 header that we know."""
    if len(data) < 72 or data[:4] != MAGIC:
        return None
    _, version, name_offset, name_size, cluster_bits, virtual_size = _FIXED.unpack_from(data)
    if version not in (2, 3) or not 9 <= cluster_bits <= 21:
        return None
    features = struct.unpack_from(">Q", data, 72)[0] if version == 3 and len(data) >= 104 else 0
    header_length = struct.unpack_from(">I", data, 100)[0] if version == 3 and len(data) >= 104 else 72
    backing = None
    if name_offset:
        if name_size > 1023 or name_offset + name_size > len(data):
            return None
        backing = data[name_offset : name_offset + name_size].decode(errors="surrogateescape")
    return Qcow2Header(
        virtual_size=virtual_size,
        cluster_size=1 << cluster_bits,
        backing=backing,
        backing_format=_backing_format(data[: name_offset or 1 << cluster_bits], header_length),
        extended_l2=bool(features & _EXTENDED_L2),
        corrupt=bool(features & _CORRUPT),
        snapshot_count=struct.unpack_from(">I", data, 60)[0],
        snapshots_offset=struct.unpack_from(">Q", data, 64)[0],
    )


def parse_snapshots(table: bytes, count: int) -> tuple[InternalSnapshot, ...] | None:
    """The entries of a snapshot table, given its bytes from `snapshots_offset` on.

    None when it is not whole: more bytes are needed, or it is damaged.
    """
    found: list[InternalSnapshot] = []
    at = 0
    for _ in range(count):
        if at + _ENTRY.size > len(table):
            return None
        id_size, name_size, size32, extra_size = _ENTRY.unpack_from(table, at)
        extra = at + _ENTRY.size
        end = extra + extra_size + id_size + name_size
        if end > len(table):
            return None
        size = struct.unpack_from(">Q", table, extra)[0] if extra_size >= 8 else size32
        id_at = extra + extra_size
        found.append(
            InternalSnapshot(
                table[id_at : id_at + id_size].decode(errors="surrogateescape"),
                table[id_at + id_size : end].decode(errors="surrogateescape"),
                size,
            )
        )
        at = (end + 7) // 8 * 8
    return tuple(found)


def _backing_format(data: bytes, at: int) -> str | None:
    while at + 8 <= len(data):
        kind, length = struct.unpack_from(">II", data, at)
        if kind == _END:
            return None
        if kind == _BACKING_FORMAT:
            return data[at + 8 : at + 8 + length].decode(errors="replace")
        at += 8 + (length + 7) // 8 * 8
    return None
