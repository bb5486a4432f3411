"""`qemu.memory` against a real QEMU; its memory holds what the test wrote there, guest or not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.real_qemu import EMULATOR, EMULATOR_IMG, qemu
from virtsnap.formats.save_image import SaveFormat, SaveImageHeader
from virtsnap.model.errors import ErrorCode, Failed, OperationFailed, SystemRefused
from virtsnap.model.facts import MemoryWay
from virtsnap.qemu import capabilities, memory, migration
from virtsnap.qemu.monitor import Monitor, MonitorLost

pytestmark = pytest.mark.real

MIB = 1 << 20


@pytest.fixture(params=[MemoryWay.STREAM, MemoryWay.SPARSE], ids=lambda way: way.value)
async def way(request: pytest.FixtureRequest) -> MemoryWay:
    found = await capabilities.probe(EMULATOR)
    if request.param is MemoryWay.SPARSE and not found.has_mapped_ram:
        pytest.skip("needs QEMU 9.0")
    assert memory.choose_way(found.version) is (
        MemoryWay.SPARSE if found.has_mapped_ram else MemoryWay.STREAM
    )
    way: MemoryWay = request.param
    return way


def filled(folder: Path, mib: int) -> tuple[str, ...]:
    """Options that put random bytes into the memory at 16 MiB."""
    (folder / "fill").write_bytes(os.urandom(mib * MIB))
    return "-device", f"loader,file={folder}/fill,addr={16 * MIB:#x},force-raw=on"


async def content(monitor: Monitor, folder: Path, mib: int) -> bytes:
    """That memory now."""
    path = folder / "dump"
    await monitor.execute("pmemsave", val=16 * MIB, size=mib * MIB, filename=str(path))
    return path.read_bytes()


async def status(monitor: Monitor) -> str:
    return str((await monitor.execute("query-status"))["status"])


async def written(monitor: Monitor) -> str:
    """What QEMU has to complain of when something writes to the disk."""
    command = 'qemu-io disk "write -q 0 512"'
    return str(await monitor.execute_raw("human-monitor-command", {"command-line": command}))


async def settings(monitor: Monitor) -> tuple[object, object]:
    parameters = await monitor.execute("query-migrate-parameters")
    listed = await monitor.execute("query-migrate-capabilities")
    on = {entry["capability"] for entry in listed if entry["state"]} - {"events"}
    return parameters["max-bandwidth"], on


async def saved(monitor: Monitor, path: Path, way: MemoryWay, live: bool = False) -> memory.Saved:
    return await memory.save(
        monitor, path=str(path), xml="<domain/>", cookie="<cookie/>", was_running=True, way=way, live=live
    )


@pytest.mark.parametrize("live", [False, True], ids=["paused", "live"])
async def test_there_and_back(tmp_path: Path, way: MemoryWay, live: bool) -> None:
    path = tmp_path / "memory image, 1"
    calls: list[tuple[int, int]] = []
    async with qemu(*filled(tmp_path, 8)) as machine:
        monitor = machine.monitor
        await monitor.execute("cont")
        if not live:
            await monitor.execute("stop")
        before = await settings(monitor)
        result = await memory.save(
            monitor,
            path=str(path),
            xml="<domain/>",
            cookie="<cookie/>",
            was_running=True,
            way=way,
            live=live,
            progress=lambda done, total: calls.append((done, total)),
        )
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert result.way is way
        assert 8 * MIB < result.bytes < 12 * MIB
        assert calls[-1][0] == calls[-1][1] >= 64 * MIB
        assert await status(monitor) == "postmigrate"
        assert await settings(monitor) == before
        assert await monitor.execute("query-fdsets") == []
        with pytest.raises(OperationFailed, match="save image is incomplete"):
            memory.read_header(str(path))
        await monitor.execute("cont")
        assert await status(monitor) == "running"
    for _ in range(2):
        await memory.seal(str(path))
    header = memory.read_header(str(path))
    assert (header.xml, header.cookie, header.was_running) == ("<domain/>", "<cookie/>", True)
    assert header.format is (SaveFormat.SPARSE if way is MemoryWay.SPARSE else SaveFormat.RAW)
    digest = path.read_bytes()
    wanted = (tmp_path / "fill").read_bytes()
    options = (
        "-device",
        f"loader,file={tmp_path}/other,addr={16 * MIB:#x},force-raw=on",
        "-incoming",
        "defer",
    )
    (tmp_path / "other").write_bytes(bytes(8 * MIB))
    async with qemu(*options) as machine:
        monitor = machine.monitor
        before = await settings(monitor)
        assert await memory.load(monitor, path=str(path)) == header
        assert await status(monitor) == "paused"
        assert await content(monitor, tmp_path, 8) == wanted
        assert await settings(monitor) == before
        await monitor.execute("cont")
        assert await status(monitor) == "running"
    assert path.read_bytes() == digest


async def test_a_guest_that_stays_paused_gets_its_disks_back(tmp_path: Path, way: MemoryWay) -> None:
    disk = tmp_path / "disk.qcow2"
    subprocess.run([EMULATOR_IMG, "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
    options = ("-blockdev", f"driver=qcow2,node-name=disk,file.driver=file,file.filename={disk}")
    async with qemu(*options, "-device", "virtio-blk-pci,drive=disk,share-rw=on") as machine:
        monitor = machine.monitor
        await monitor.execute("cont")
        await monitor.execute("stop")
        for number in range(3):
            assert await written(monitor) == ""
            await saved(monitor, tmp_path / f"memory.{number}", way)
            if monitor.version >= (10, 0, 0):
                # Writing to an inactive node makes this QEMU abort; it also says what is active.
                nodes = await monitor.execute("query-named-block-nodes")
                assert {node["active"] for node in nodes} == {False}
            else:
                assert await written(monitor) != ""
            for _ in range(2):
                await memory.reactivate(monitor)
            assert await written(monitor) == ""
            assert await status(monitor) in ("paused", "postmigrate")
        await monitor.execute("cont")
        assert await status(monitor) == "running"


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    mount = folder / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.parametrize("live", [False, True], ids=["paused", "live"])
@pytest.mark.parametrize("size", ["32k", "4m"])
async def test_full_disk(tmp_path: Path, way: MemoryWay, live: bool, size: str) -> None:
    with small_disk(tmp_path, size) as mount:
        async with qemu(*filled(tmp_path, 8)) as machine:
            monitor = machine.monitor
            await monitor.execute("cont")
            if not live:
                await monitor.execute("stop")
            before = await settings(monitor)
            with pytest.raises(Failed, match="No space left on device") as caught:
                await saved(monitor, mount / "memory", way, live)
            assert caught.value.code in (ErrorCode.OPERATION_FAILED, ErrorCode.SYSTEM_ERROR)
            assert list(mount.iterdir()) == []
            assert await settings(monitor) == before
            assert await status(monitor) == ("running" if live else "paused")
            await monitor.execute("cont")
            await monitor.execute("stop")
            # Nothing of the failure is left: the next one succeeds, and holds all of the memory.
            await saved(monitor, tmp_path / "memory", way)
            await memory.seal(str(tmp_path / "memory"))
    async with qemu("-incoming", "defer") as machine:
        await memory.load(machine.monitor, path=str(tmp_path / "memory"))
        assert await content(machine.monitor, tmp_path, 8) == (tmp_path / "fill").read_bytes()


async def test_file_that_exists_is_not_touched(tmp_path: Path, way: MemoryWay) -> None:
    path = tmp_path / "memory"
    path.write_text("mine")
    async with qemu() as machine:
        with pytest.raises(Failed) as caught:
            await saved(machine.monitor, path, way)
        assert str(caught.value) == f"Failed to create file '{path}': File exists"
        assert path.read_text() == "mine"
        with pytest.raises(Failed, match="No such file or directory"):
            await saved(machine.monitor, tmp_path / "none" / "memory", way)


async def slow(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make migration crawl, so that there is something to interrupt."""
    monkeypatch.setattr(migration, "_UNLIMITED", 65536)


@pytest.mark.parametrize("live", [False, True], ids=["paused", "live"])
async def test_cancelled_save(
    tmp_path: Path, way: MemoryWay, live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with qemu(*filled(tmp_path, 8)) as machine:
        monitor = machine.monitor
        await slow(monitor, monkeypatch)
        await monitor.execute("cont")
        if not live:
            await monitor.execute("stop")
        before = await settings(monitor)
        async with monitor.events("MIGRATION") as listener:
            task = asyncio.create_task(saved(monitor, tmp_path / "memory", way, live))
            while (await listener.get()).data["status"] != "active":
                pass
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not (tmp_path / "memory").exists()
        assert await settings(monitor) == before
        assert await status(monitor) == ("running" if live else "paused")
        await monitor.execute("cont")


async def test_save_of_a_process_that_died_is_stopped(
    tmp_path: Path, way: MemoryWay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with qemu(*filled(tmp_path, 8)) as machine:
        await slow(machine.monitor, monkeypatch)
        await memory.cancel(machine.monitor)  # nothing is under way
        await machine.monitor.execute("cont")
        async with machine.monitor.events("MIGRATION") as listener:
            task = asyncio.create_task(saved(machine.monitor, tmp_path / "memory", way, True))
            while (await listener.get()).data["status"] != "active":
                pass
        # As if we had died: the conversation breaks off and nobody tells QEMU.
        await machine.monitor.close()
        with pytest.raises(MonitorLost):
            await task
        async with await Monitor.connect(machine.path) as monitor:
            assert (await monitor.execute("query-migrate"))["status"] == "active"
            for _ in range(2):
                await memory.cancel(monitor)
            assert (await monitor.execute("query-migrate"))["status"] == "cancelled"
            assert await status(monitor) == "running"
            monkeypatch.undo()
            await saved(monitor, tmp_path / "again", way, True)


async def test_death_of_qemu_in_the_middle(
    tmp_path: Path, way: MemoryWay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with qemu(*filled(tmp_path, 8)) as machine:
        await slow(machine.monitor, monkeypatch)
        async with machine.monitor.events("MIGRATION") as listener:
            task = asyncio.create_task(saved(machine.monitor, tmp_path / "memory", way))
            while (await listener.get()).data["status"] != "active":
                pass
        await machine.kill()
        with pytest.raises(MonitorLost):
            await task
        assert not (tmp_path / "memory").exists()
        await memory.cancel(machine.monitor)


async def test_images_that_cannot_be_loaded(tmp_path: Path, way: MemoryWay) -> None:
    path = tmp_path / "memory"
    async with qemu(*filled(tmp_path, 8)) as machine:
        await saved(machine.monitor, path, way)
    async with qemu("-incoming", "defer") as machine:
        monitor = machine.monitor
        with pytest.raises(OperationFailed, match="save image is incomplete"):
            await memory.load(monitor, path=str(path))
        await memory.seal(str(path))
        with pytest.raises(SystemRefused, match=r"Failed to open file .*: No such file or directory"):
            await memory.load(monitor, path=f"{tmp_path}/none")
        other = tmp_path / "other"
        other.write_bytes(b"short")
        with pytest.raises(OperationFailed, match="failed to read qemu header"):
            await memory.load(monitor, path=str(other))
        # After all that, the same QEMU still takes a good one.
        await memory.load(monitor, path=str(path))


async def test_compressed_image_without_memory(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    path.write_bytes(SaveImageHeader("<d/>", format=SaveFormat.GZIP).encode(partial=False))
    async with qemu("-incoming", "defer") as machine:
        with pytest.raises(Failed, match=r"gzip failed: .*unexpected end of file"):
            await memory.load(machine.monitor, path=str(path))


@pytest.mark.parametrize("keep", [0, 100, 200_000])
async def test_truncated_stream(tmp_path: Path, way: MemoryWay, keep: int) -> None:
    path = tmp_path / "memory"
    async with qemu(*filled(tmp_path, 8)) as machine:
        await saved(machine.monitor, path, way)
    await memory.seal(str(path))
    os.truncate(path, memory.read_header(str(path)).stream_offset + keep)
    async with qemu("-incoming", "defer") as machine:
        with pytest.raises(Failed) as caught:
            await memory.load(machine.monitor, path=str(path), log_path=machine.log)
        assert "load of migration failed" in str(caught.value) or "job 'snapshot' failed" in str(caught.value)


async def test_image_of_another_machine(tmp_path: Path, way: MemoryWay) -> None:
    path = tmp_path / "memory"
    async with qemu() as machine:
        await saved(machine.monitor, path, way)
    await memory.seal(str(path))
    async with qemu("-incoming", "defer", machine="pc") as machine:
        with pytest.raises(Failed, match=r"load of migration failed|Machine type received is"):
            await memory.load(machine.monitor, path=str(path), log_path=machine.log)
