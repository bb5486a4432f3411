"""`qemu.background` against a real QEMU: the file, the guest that runs on, and what is left when it fails."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.real.real_qemu import EMULATOR, qemu
from tests.real.test_qemu_memory import MIB, content, filled, settings, status
from virtsnap.formats.mapped_ram import RamBlock, ram_blocks
from virtsnap.formats.save_image import SaveFormat
from virtsnap.model.errors import Failed
from virtsnap.model.facts import MemoryWay
from virtsnap.qemu import background, capabilities, memory
from virtsnap.qemu.background import Capture
from virtsnap.qemu.monitor import Monitor

pytestmark = pytest.mark.real


@pytest.fixture(params=[way for way in MemoryWay if way.background], ids=lambda way: way.value)
async def way(request: pytest.FixtureRequest) -> MemoryWay:
    found = await capabilities.probe(EMULATOR)
    if request.param.sparse and not found.has_mapped_ram:
        pytest.skip("needs QEMU 9.0")
    async with qemu() as machine:
        if not (await background.choose(machine.monitor)).background:
            pytest.skip("needs QEMU 9.0, and userfaultfd for this user")
    way: MemoryWay = request.param
    return way


async def begun(monitor: Monitor, path: Path, way: MemoryWay) -> Capture:
    """A capture, with the guest running on."""
    await monitor.execute("cont")
    capture = await Capture.prepare(monitor, path=str(path), xml="<domain/>", was_running=True, way=way)
    assert await status(monitor) == "running"
    await monitor.execute("stop")
    await capture.begin()
    assert await status(monitor) == "paused"
    await monitor.execute("cont")
    return capture


async def test_there_and_back(tmp_path: Path, way: MemoryWay) -> None:
    path = tmp_path / "memory image, 1"
    calls: list[tuple[int, int]] = []
    async with qemu(*filled(tmp_path, 8)) as machine:
        monitor = machine.monitor
        before = await settings(monitor)
        capture = await begun(monitor, path, way)
        result = await capture.complete(lambda done, total: calls.append((done, total)))
        assert await status(monitor) == "running"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert result.way is way
        assert 8 * MIB < result.bytes < 12 * MIB
        assert calls[-1][0] == calls[-1][1] >= 64 * MIB
        assert await settings(monitor) == before
        assert await monitor.execute("query-fdsets") == []
    await memory.seal(str(path))
    header = memory.read_header(str(path))
    assert header.format is (SaveFormat.SPARSE if way.sparse else SaveFormat.RAW)
    memory.check_whole(str(path), header)
    async with qemu("-incoming", "defer") as machine:
        assert await memory.load(machine.monitor, path=str(path)) == header
        assert await content(machine.monitor, tmp_path, 8) == (tmp_path / "fill").read_bytes()


async def test_qemu_still_leaves_the_bitmaps_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for making them ourselves; a QEMU that fills them in needs none of that."""
    found = await capabilities.probe(EMULATOR)
    if not found.has_mapped_ram:
        pytest.skip("needs QEMU 9.0")

    def bits(path: Path) -> int:
        with path.open("rb") as file:
            descriptor = file.fileno()
            offset = memory.read_header(str(path)).stream_offset
            blocks = ram_blocks(lambda at, length: os.pread(descriptor, length, at), offset)
            found: list[RamBlock] = [block for block in blocks if block.length == 64 * MIB]
            return int.from_bytes(os.pread(descriptor, found[0].bitmap_length, found[0].bitmap_offset), "big")

    async def image(name: str) -> Path:
        path = tmp_path / name
        async with qemu(*filled(tmp_path, 8)) as machine:
            await (await begun(machine.monitor, path, MemoryWay.BACKGROUND_SPARSE)).complete()
        await memory.seal(str(path))
        return path

    assert bits(await image("ours")).bit_count() >= 8 * MIB // 4096
    with monkeypatch.context() as patch:
        patch.setattr(background, "_say_what_is_there", lambda path, offset: None)
        assert bits(await image("qemu's")) == 0


async def test_abandoned(tmp_path: Path, way: MemoryWay) -> None:
    path = tmp_path / "memory"
    async with qemu(*filled(tmp_path, 8)) as machine:
        monitor = machine.monitor
        before = await settings(monitor)
        capture = await begun(monitor, path, way)
        for _ in range(2):
            await capture.abandon()
        assert not path.exists()
        assert await status(monitor) == "running"
        assert await settings(monitor) == before
        await (await begun(monitor, path, way)).complete()
        assert path.exists()


async def test_a_process_that_comes_later_stops_it(tmp_path: Path, way: MemoryWay) -> None:
    path = tmp_path / "memory"
    async with qemu(*filled(tmp_path, 8)) as machine:
        monitor = machine.monitor
        capture = await begun(monitor, path, way)
        capture.release()
        async with monitor.events("MIGRATION"):
            await memory.cancel(monitor)
        assert (await monitor.execute("query-migrate"))["status"] in ("cancelled", "completed")
        listed = await monitor.execute("query-migrate-capabilities")
        assert {entry["capability"] for entry in listed if entry["state"]} == {"events"}


async def test_a_file_that_exists_is_left_alone(tmp_path: Path, way: MemoryWay) -> None:
    path = tmp_path / "memory"
    path.write_text("mine")
    async with qemu() as machine:
        await machine.monitor.execute("cont")
        await machine.monitor.execute("stop")
        with pytest.raises(Failed, match=os.strerror(errno.EEXIST)):
            await Capture.prepare(machine.monitor, path=str(path), xml="<x/>", was_running=True, way=way)
        assert await status(machine.monitor) == "paused"
    assert path.read_text() == "mine"


async def test_a_guest_that_never_ran_is_refused(tmp_path: Path, way: MemoryWay) -> None:
    """QEMU (10.0.2) would abort when it brings such a guest back to where it was."""
    path = tmp_path / "memory"
    async with qemu() as machine:
        assert await status(machine.monitor) == "prelaunch"
        capture = await Capture.prepare(
            machine.monitor, path=str(path), xml="<x/>", was_running=True, way=way
        )
        with pytest.raises(Failed, match="'prelaunch' and not paused"):
            await capture.begin()
        assert await status(machine.monitor) == "prelaunch"
    assert not path.exists()


async def test_memory_that_cannot_be_protected_falls_to_the_plain_way(tmp_path: Path) -> None:
    with (tmp_path / "ram").open("wb") as file:
        file.truncate(64 * MIB)
    backend = f"memory-backend-file,id=ram,size=64M,mem-path={tmp_path}/ram,share=off"
    async with qemu("-object", backend, "-machine", "memory-backend=ram") as machine:
        before = await settings(machine.monitor)
        chosen = await background.choose(machine.monitor)
        assert chosen is memory.choose_way(machine.monitor.version)
        assert await settings(machine.monitor) == before
