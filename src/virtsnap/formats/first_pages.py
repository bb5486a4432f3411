"""What a guest touched first of its memory, as it is kept with the memory image: an extended attribute.

    "VSF1", u32 CRC-32 of the rest | u64 size of the image in bytes, i64 time of its last change in
    nanoseconds, u32 milliseconds that the guest had run | for each range the units since the last one and
    the units of it, as integers of seven bits a byte, the lowest first (LEB128)

At most 3.2 KiB for a guest of 64 GiB: all attributes of a file have to fit into 4 KiB on ext4. What is not
here: the attribute itself, and how the kernel tells (`qemu.first_pages`).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

from virtsnap.model.errors import Damaged
from virtsnap.model.frozen import dataclass

UNIT = 1 << 16
"""Bytes. The kernel maps that many at a time where they are in its cache (fault_around_bytes)."""
MOST_BYTES = 64 << 20
"""Of all ranges: more than that is what a guest used over time, and to ask for it would hold it up."""
BEST_SECONDS = 2.0
"""When to look: the guest has answered by then, and has done little else."""
_MAGIC = b"VSF1"
_BODY = struct.Struct(">QqI")
_WORTH_IT = 1.5

_ENTRY_BYTES = 8
_TOUCHED = bytes(value & 0xC0 and 1 for value in range(256))
"""For bytes.translate: 1 where the highest byte of an entry says 'present' or 'swapped'."""

Range = tuple[int, int]
"""Offset and end in bytes, from the begin of the guest's memory."""


@dataclass(frozen=True)
class FirstPages:
    """A record. It counts for an image of that size and time of change, and for no other."""

    size: int
    changed_ns: int
    seconds: float
    """For how long the guest had run when it was taken; 0: taken over from the image that it came from."""
    ranges: tuple[Range, ...]
    """Ascending, none next to another, each of whole units."""


def marks(entries: bytes) -> bytes:
    """Entries of /proc/PID/pagemap, a byte each: 1 where the process has touched the page, else 0."""
    return entries[_ENTRY_BYTES - 1 :: _ENTRY_BYTES].translate(_TOUCHED)


def touched(marks: bytes, page: int) -> tuple[Range, ...]:
    """The units that have a mark in them; a mark stands for `page` bytes."""
    pages = max(1, UNIT // page)
    found: list[Range] = []
    at = marks.find(1)
    while at >= 0:
        first = at // pages * pages
        last = first + pages
        while marks.find(1, last, last + pages) >= 0:
            last += pages
        found.append((first * page, last * page))
        at = marks.find(1, last)
    return tuple(found)


def worth_noting(seconds: float, noted: float | None) -> bool:
    """Whether a look after so many seconds tells more of the first ones than the record that there is.

    One that was taken over is always replaced, none for a little: it would be replaced all the time.
    """
    return seconds > 0 and (not noted or _far(seconds) * _WORTH_IT < _far(noted))


def _far(seconds: float) -> float:
    """How many times too early or too late."""
    return max(seconds / BEST_SECONDS, BEST_SECONDS / max(seconds, 1e-3))


def encode(record: FirstPages) -> bytes | None:
    """The value; None when there is nothing to ask for, or too much."""
    if not 0 < sum(end - start for start, end in record.ranges) <= MOST_BYTES:
        return None
    milliseconds = min(round(record.seconds * 1000), (1 << 32) - 1)
    body = _BODY.pack(record.size, record.changed_ns, milliseconds) + _packed(record.ranges)
    return _MAGIC + struct.pack(">I", zlib.crc32(body)) + body


def decode(value: bytes) -> FirstPages:
    """The record. Raises Damaged when it is none."""
    body = value[len(_MAGIC) + 4 :]
    if value[: len(_MAGIC)] != _MAGIC or len(body) < _BODY.size:
        raise Damaged("this is no record of first pages")
    if value[len(_MAGIC) : len(_MAGIC) + 4] != struct.pack(">I", zlib.crc32(body)):
        raise Damaged("the record of first pages is garbled")
    size, changed, milliseconds = _BODY.unpack_from(body)
    numbers = _unpacked(body[_BODY.size :])
    ranges: list[Range] = []
    at = 0
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        at += gap
        ranges.append((at * UNIT, (at + length) * UNIT))
        at += length
    return FirstPages(size, changed, milliseconds / 1000, tuple(ranges))


def _packed(ranges: Iterable[Range]) -> bytes:
    packed = bytearray()
    at = 0
    for start, end in ranges:
        for number in ((start - at) // UNIT, (end - start) // UNIT):
            while number >= 0x80:
                packed.append(number & 0x7F | 0x80)
                number >>= 7
            packed.append(number)
        at = end
    return bytes(packed)


def _unpacked(packed: bytes) -> list[int]:
    """Raises Damaged when the last number, or that of a pair, is missing."""
    numbers: list[int] = []
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
    if shift or len(numbers) % 2:
        raise Damaged("the record of first pages ends within a range")
    return numbers
