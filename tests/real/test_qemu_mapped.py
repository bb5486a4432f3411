"""`qemu.mapped` against a real QEMU: memory that is mapped is the memory that was saved."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.real.real_qemu import EMULATOR, qemu
from tests.real.test_qemu_memory import MIB, content, filled, saved, status
from virtsnap.formats.mapped_ram import RamBlock, ram_blocks
from virtsnap.model.facts import MappedMemory, MemoryWay
from virtsnap.qemu import capabilities, mapped, memory

pytestmark = pytest.mark.real


@pytest.fixture
async def image(tmp_path: Path) -> Path:
    """A sparse memory image with 8 MiB of random content."""
    path = tmp_path / "memory image"
    if not (await capabilities.probe(EMULATOR)).has_mapped_ram:
        pytest.skip("needs QEMU 9.0")
    async with qemu(*filled(tmp_path, 8)) as machine:
        await machine.monitor.execute("cont")
        await machine.monitor.execute("stop")
        await saved(machine.monitor, path, MemoryWay.SPARSE)
    await memory.seal(str(path))
    return path


async def places(image: Path) -> MappedMemory:
    version = (await capabilities.probe(EMULATOR)).version
    found = mapped.mappable(str(image), memory.read_header(str(image)), version)
    if found is None:
        pytest.skip("this QEMU reads memory images, and does not map them")
    return found


async def test_there_and_back(tmp_path: Path, image: Path) -> None:
    found = await places(image)
    backend = (
        f"memory-backend-file,id=pc.ram,size=64M,mem-path={found.path},offset={found.offset},"
        "share=off,readonly=on,rom=off"
    )
    options = ("-object", backend, "-machine", "memory-backend=pc.ram", "-incoming", "defer")
    async with qemu(*options) as machine:
        await memory.load(machine.monitor, path=str(image), mapped=True)
        assert await status(machine.monitor) == "paused"
        assert await content(machine.monitor, tmp_path, 8) == (tmp_path / "fill").read_bytes()
        await machine.monitor.execute("cont")
        image.unlink()
        await machine.monitor.execute("stop")
        assert await content(machine.monitor, tmp_path, 8) == (tmp_path / "fill").read_bytes()
        again = tmp_path / "again"
        await saved(machine.monitor, again, MemoryWay.SPARSE)
    await memory.seal(str(again))
    async with qemu("-incoming", "defer") as machine:
        await memory.load(machine.monitor, path=str(again))
        assert await content(machine.monitor, tmp_path, 8) == (tmp_path / "fill").read_bytes()


async def test_the_state_has_none_of_the_guests_pages(image: Path) -> None:
    await places(image)
    descriptor = mapped.open_state(str(image), memory.read_header(str(image)))
    try:
        assert os.fstat(descriptor).st_size == image.stat().st_size
        assert os.fstat(descriptor).st_blocks * 512 < 4 * MIB < image.stat().st_blocks * 512
    finally:
        os.close(descriptor)


async def test_what_a_cleared_page_has_left_is_not_mapped(tmp_path: Path, image: Path) -> None:
    """QEMU takes the bit of a page out of the bitmap that the guest has cleared, and not the page."""
    found = await places(image)
    header = memory.read_header(str(image))
    with image.open("r+b") as file:
        blocks = ram_blocks(lambda at, length: os.pread(file.fileno(), length, at), header.stream_offset)
        (ram,) = [block for block in blocks if block.name == mapped.RAM]
        bitmap = os.pread(file.fileno(), ram.bitmap_length, ram.bitmap_offset)
        page = next(
            number
            for number in range(len(bitmap) * 8)
            if bitmap[number // 8] >> number % 8 & 1 and any(_page(file.fileno(), ram, number))
        )
        left = bytearray(bitmap)
        left[page // 8] &= ~(1 << page % 8)
        os.pwrite(file.fileno(), left, ram.bitmap_offset)
        version = (await capabilities.probe(EMULATOR)).version
        assert mapped.mappable(str(image), header, version) is None
        await memory.seal(str(image))
        assert mapped.mappable(str(image), header, version) == found
        assert not any(_page(file.fileno(), ram, page))
        os.pwrite(file.fileno(), bitmap, ram.bitmap_offset)
        await memory.seal(str(image))
        assert mapped.clear_leftovers(file.fileno(), header.stream_offset) == 0


def _page(descriptor: int, block: RamBlock, number: int) -> bytes:
    return os.pread(descriptor, block.page_size, block.pages_offset + number * block.page_size)


async def test_what_cannot_be_mapped_is_read(tmp_path: Path, image: Path) -> None:
    header = memory.read_header(str(image))
    assert mapped.mappable(str(image), header, (8, 2, 9)) is None
    assert mapped.mappable(str(image), header, (10, 1, 0)) is None
    stream = tmp_path / "stream"
    async with qemu() as machine:
        await saved(machine.monitor, stream, MemoryWay.STREAM)
    await memory.seal(str(stream))
    assert mapped.mappable(str(stream), memory.read_header(str(stream)), (10, 0, 0)) is None
    os.truncate(image, image.stat().st_size // 2)
    assert mapped.mappable(str(image), header, (10, 0, 0)) is None
