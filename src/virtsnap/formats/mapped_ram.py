"""Where the pages of a memory image lie: the head that QEMU writes before each block of memory (mapped-ram).

    ... section start 0x01, be32 id, "\\3ram", be32 instance, be32 version, be64 bytes of all blocks | 4
    for each block: its name and be64 length, be32 version = 1, be64 page size, be64 offset of the bitmap,
    be64 offset of the pages; bitmap; pages; the next block comes after the last page

All offsets count from the start of the file. A bit of the bitmap says that the file holds the page; else it
is zero. What is not here: the file itself (`qemu.background`).
Source: QEMU's docs/devel/migration/mapped-ram.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

from virtsnap.model.errors import Damaged
from virtsnap.model.frozen import dataclass

_HEAD_BYTES = 1 << 16
"""The section starts within that many bytes of the stream."""
_RAM = b"\x03ram"
_SECTION_START = 0x01
_FLAGS = 0xFFF
_BLOCK = struct.Struct(">IQQQ")
_VERSION = 1
_MOST_BLOCKS = 4096

Read = Callable[[int, int], bytes]
"""(offset, length) to bytes of the file; fewer where it ends."""


@dataclass(frozen=True)
class RamBlock:
    """One block of the guest's memory in the file. Lengths and offsets in bytes."""

    name: str
    """QEMU's: 'pc.ram', 'vga.vram' ..."""
    length: int
    page_size: int
    bitmap_offset: int
    pages_offset: int

    @property
    def bitmap_length(self) -> int:
        """Whole 64-bit words."""
        return (self.length // self.page_size + 63) // 64 * 8

    def bitmap(self, extents: Iterable[tuple[int, int]]) -> bytes:
        """The bitmap that says: what lies within `extents` (offset and end, in the file) is there."""
        bits = bytearray(self.bitmap_length)
        for start, end in extents:
            first = (max(start, self.pages_offset) - self.pages_offset) // self.page_size
            last = -((self.pages_offset - min(end, self.pages_offset + self.length)) // self.page_size)
            _set(bits, first, last)
        return bytes(bits)

    def unsaid(self, bitmap: bytes, extents: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Offset and end, in the file, of each page that lies within `extents` and not in the bitmap."""
        there = int.from_bytes(self.bitmap(extents), "little")
        left = (there & ~int.from_bytes(bitmap, "little")).to_bytes(self.bitmap_length, "little")
        for index, byte in enumerate(left) if any(left) else ():
            for bit in range(8) if byte else ():
                if byte >> bit & 1:
                    at = self.pages_offset + (index * 8 + bit) * self.page_size
                    yield at, at + self.page_size


def ram_blocks(read: Read, stream_offset: int) -> tuple[RamBlock, ...]:
    """All blocks of the stream that begins at `stream_offset`. Raises Damaged when it has no such head."""
    head = read(stream_offset, _HEAD_BYTES)
    at = head.find(_RAM)
    while at >= 5 and head[at - 5] != _SECTION_START:
        at = head.find(_RAM, at + 1)
    if at < 5:
        raise Damaged("the memory image has no section of memory")
    at += stream_offset + len(_RAM) + 8
    left = struct.unpack(">Q", _exactly(read, at, 8))[0] & ~_FLAGS
    at += 8
    found: list[RamBlock] = []
    while left > 0 and len(found) < _MOST_BLOCKS:
        block = _block(read, at)
        found.append(block)
        left -= block.length
        at = block.pages_offset + block.length
    if left:
        raise Damaged("the blocks of the memory image do not add up")
    return tuple(found)


def _block(read: Read, at: int) -> RamBlock:
    name_length = _exactly(read, at, 1)[0]
    data = _exactly(read, at + 1, name_length + 8 + _BLOCK.size)
    (length,) = struct.unpack_from(">Q", data, name_length)
    version, page_size, bitmap_offset, pages_offset = _BLOCK.unpack_from(data, name_length + 8)
    if version != _VERSION or page_size == 0 or page_size & (page_size - 1) or length % page_size:
        raise Damaged("the memory image has a block of another layout")
    if not at < bitmap_offset < pages_offset:
        raise Damaged("a block of the memory image has its pages out of place")
    return RamBlock(
        data[:name_length].decode("ascii", "replace"), length, page_size, bitmap_offset, pages_offset
    )


def _exactly(read: Read, at: int, length: int) -> bytes:
    data = read(at, length)
    if len(data) != length:
        raise Damaged("the memory image ends within its head")
    return data


def _set(bits: bytearray, first: int, last: int) -> None:
    """Set bits `first` up to, not including, `last`."""
    if first >= last:
        return
    low, high = (first + 7) // 8, last // 8
    if low > high:  # within one byte
        bits[high] |= (1 << last % 8) - (1 << first % 8)
        return
    if first % 8:
        bits[low - 1] |= 0x100 - (1 << first % 8)
    bits[low:high] = b"\xff" * (high - low)
    if last % 8:
        bits[high] |= (1 << last % 8) - 1
