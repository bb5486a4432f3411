"""The heads of memory blocks, and bitmaps made from what a file holds."""

from __future__ import annotations

import struct

import hypothesis.strategies as st
import pytest
from hypothesis import given

from virtsnap.formats.mapped_ram import RamBlock, ram_blocks
from virtsnap.model.errors import Damaged

PAGE = 4096


def stream(*blocks: tuple[str, int], at: int = 0, version: int = 1) -> tuple[bytes, list[RamBlock]]:
    """A file with these blocks, their pages left out of it where it ends."""
    total = sum(length for _, length in blocks)
    data = b"\0" * at + b"QEVM" + struct.pack(">I", 3) + b"\x07" + struct.pack(">I", 3) + b"q35"
    data += b"\x01" + struct.pack(">I", 2) + b"\x03ram" + struct.pack(">II", 0, 4)
    data += struct.pack(">Q", total | 4)
    expected = []
    for name, length in blocks:
        head = bytes([len(name)]) + name.encode() + struct.pack(">Q", length)
        bitmap = len(data) + len(head) + 28
        block = RamBlock(name, length, PAGE, bitmap, bitmap + (length // PAGE + 63) // 64 * 8)
        data += head + struct.pack(">IQQQ", version, PAGE, block.bitmap_offset, block.pages_offset)
        data += b"\0" * (block.bitmap_length + length)
        expected.append(block)
    return data, expected


def reader(data: bytes):  # type: ignore[no-untyped-def]
    return lambda at, length: data[at : at + length]


def test_blocks_are_found_behind_any_head() -> None:
    data, expected = stream(("pc.ram", 70 * PAGE), ("vga.vram", PAGE), at=1234)
    assert list(ram_blocks(reader(data), 1234)) == expected


@pytest.mark.parametrize("cut", [10, 40, 50, 70])
def test_a_file_that_ends_too_early_is_refused(cut: int) -> None:
    data, _ = stream(("pc.ram", 70 * PAGE))
    with pytest.raises(Damaged, match="memory image"):
        ram_blocks(reader(data[:cut]), 0)


def test_another_layout_is_refused() -> None:
    data, _ = stream(("pc.ram", PAGE), version=2)
    with pytest.raises(Damaged, match="another layout"):
        ram_blocks(reader(data), 0)


@given(
    pages=st.integers(1, 300), runs=st.lists(st.tuples(st.integers(0, 310), st.integers(0, 40)), max_size=6)
)
def test_a_bitmap_says_exactly_which_pages_are_there(pages: int, runs: list[tuple[int, int]]) -> None:
    block = RamBlock("pc.ram", pages * PAGE, PAGE, 64, 1 << 20)
    extents = [(block.pages_offset + a * PAGE, block.pages_offset + (a + n) * PAGE) for a, n in runs]
    bits = int.from_bytes(block.bitmap(extents), "little")
    there = {page for a, n in runs for page in range(a, a + n) if page < pages}
    assert {page for page in range(pages + 64) if bits >> page & 1} == there


def test_a_page_that_is_partly_there_counts() -> None:
    block = RamBlock("pc.ram", 64 * PAGE, PAGE, 64, 1 << 20)
    start = block.pages_offset + 3 * PAGE + 100
    assert block.bitmap([(start, start + 10)])[0] == 1 << 3


@given(pages=st.integers(1, 300), held=st.sets(st.integers(0, 299)), named=st.sets(st.integers(0, 299)))
def test_what_the_file_holds_and_the_bitmap_does_not_name(
    pages: int, held: set[int], named: set[int]
) -> None:
    block = RamBlock("pc.ram", pages * PAGE, PAGE, 64, 1 << 20)

    def places(numbers: set[int]) -> list[tuple[int, int]]:
        starts = (block.pages_offset + n * PAGE for n in sorted(numbers) if n < pages)
        return [(start, start + PAGE) for start in starts]

    bitmap = block.bitmap(places(named))
    assert list(block.unsaid(bitmap, places(held))) == places(held - named)
