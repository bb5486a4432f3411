"""What a guest would find in an image: read here, by nothing of virtsnap's and nothing of QEMU's.

A second opinion that costs no process: it follows qcow2's tables (QEMU's docs/interop/qcow2.rst) and backing
files, for the image as it is now or as one of its internal snapshots holds it. No compression, no encryption,
no extended L2 entries.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

_OFFSET = 0x00FFFFFFFFFFFE00
_COMPRESSED, _ZERO = 1 << 62, 1
_BACKING_FORMAT = 0xE2792ACA


@dataclass(frozen=True)
class Tag:
    """An internal snapshot."""

    name: str
    l1_offset: int
    l1_size: int
    vm_state_size: int


class Qcow2:
    """One qcow2 file, read whole."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.data = Path(path).read_bytes()
        (magic, version, name_offset, name_size, bits, self.size, _, l1_size, l1_offset) = struct.unpack_from(
            ">4sIQIIQIIQ", self.data
        )
        assert (magic, version) == (b"QFI\xfb", 3), f"{path} is not qcow2"
        self.now = Tag("", l1_offset, l1_size, 0)
        self.cluster = 1 << bits
        count, table = struct.unpack_from(">IQ", self.data, 60)
        self.tags = {tag.name: tag for tag in self._tags(table, count)}
        name = self.data[name_offset : name_offset + name_size].decode() if name_offset else None
        self.backing = os.path.join(os.path.dirname(self.path), name) if name else None
        self.backing_format = self._backing_format()

    def _tags(self, at: int, count: int) -> list[Tag]:
        found = []
        for _ in range(count):
            l1_offset, l1_size, id_size, name_size = struct.unpack_from(">QIHH", self.data, at)
            (extra,) = struct.unpack_from(">I", self.data, at + 36)
            (vm_state,) = struct.unpack_from(">Q", self.data, at + 40)
            start = at + 40 + extra + id_size
            name = self.data[start : start + name_size].decode()
            found.append(Tag(name, l1_offset, l1_size, vm_state))
            at = (start + name_size + 7) // 8 * 8
        return found

    def _backing_format(self) -> str:
        (at,) = struct.unpack_from(">I", self.data, 100)
        while True:
            kind, length = struct.unpack_from(">II", self.data, at)
            if kind == 0:
                return "raw"
            if kind == _BACKING_FORMAT:
                return self.data[at + 8 : at + 8 + length].decode()
            at += 8 + (length + 7) // 8 * 8

    def read(self, tag: str | None = None) -> bytes:
        """The whole disk, now or as the internal snapshot of this name has it."""
        table = self.now if tag is None else self.tags[tag]
        below: bytes | None = None
        pieces = []
        for offset in range(0, self.size, self.cluster):
            entry = self._entry(table, offset // self.cluster)
            host = entry & _OFFSET
            assert not entry & _COMPRESSED
            if entry & _ZERO:
                pieces.append(bytes(self.cluster))
            elif host:
                pieces.append(self.data[host : host + self.cluster].ljust(self.cluster, b"\0"))
            elif self.backing is None:
                pieces.append(bytes(self.cluster))
            else:
                below = read(self.backing, self.backing_format) if below is None else below
                pieces.append(below[offset : offset + self.cluster].ljust(self.cluster, b"\0"))
        return b"".join(pieces)[: self.size]

    def _entry(self, table: Tag, cluster: int) -> int:
        first, second = divmod(cluster, self.cluster // 8)
        if first >= table.l1_size:
            return 0
        (l1,) = struct.unpack_from(">Q", self.data, table.l1_offset + 8 * first)
        l2 = l1 & _OFFSET
        if not l2:
            return 0
        (entry,) = struct.unpack_from(">Q", self.data, l2 + 8 * second)
        return int(entry)


def read(path: str | Path, format: str, tag: str | None = None) -> bytes:
    """The whole content of an image and what it stands on."""
    if format == "raw":
        assert tag is None
        return Path(path).read_bytes()
    return Qcow2(path).read(tag)


def chain(path: str, format: str) -> list[str]:
    """The image and what it stands on."""
    found = [path]
    while format == "qcow2":
        image = Qcow2(found[-1])
        if image.backing is None:
            break
        found.append(image.backing)
        format = image.backing_format
    return found
