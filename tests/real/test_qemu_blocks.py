"""`qemu.blocks` against a real QEMU; "guest" writes go through the device's own backend (HMP qemu-io -d)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.real_qemu import EMULATOR_IMG, QEMU_IO, Qemu, qemu
from virtsnap.model.errors import Failed
from virtsnap.model.facts import MemoryWay
from virtsnap.qemu import blocks, images, memory
from virtsnap.qemu.monitor import Monitor, MonitorLost, QmpCommandFailed

pytestmark = pytest.mark.real

MIB = 1 << 20
SIZE = 64 * MIB


def create(path: Path, *arguments: str, format: str = "qcow2") -> None:
    command = [EMULATOR_IMG, "create", "-q", "-f", format, *arguments, str(path), str(SIZE)]
    subprocess.run(command, check=True, capture_output=True)


def offline_write(path: Path, pattern: int, at: int, length: int, format: str = "qcow2") -> None:
    command = [QEMU_IO, "-f", format, "-c", f"write -q -P {pattern} {at} {length}", str(path)]
    subprocess.run(command, check=True, capture_output=True)


def holds(path: Path, pattern: int, at: int, length: int = 65536, format: str = "qcow2") -> bool:
    command = [QEMU_IO, "-r", "-f", format, "-c", f"read -q -P {pattern} {at} {length}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    print(command, done)  # pytest shows it when the test fails
    return done.returncode == 0 and "verification failed" not in done.stdout


async def guest_write(monitor: Monitor, device: str, pattern: int, at: int, length: int = 65536) -> None:
    path = f"/machine/peripheral/{device}/virtio-backend"
    # With the flush, the test may end QEMU the hard way and find the data in the file.
    for action in (f"write -q -P {pattern} {at} {length}", "flush"):
        line = f'qemu-io -d {path} "{action}"'
        assert await monitor.execute_raw("human-monitor-command", {"command-line": line}) == ""


def node(path: Path, number: int, format: str, below: int | None, top: bool) -> tuple[str, ...]:
    storage = {
        "driver": "file",
        "filename": str(path),
        "node-name": f"libvirt-{number}-storage",
        "auto-read-only": True,
        "discard": "unmap",
    }
    content: dict[str, Any] = {
        "driver": format,
        "node-name": f"libvirt-{number}-format",
        "file": f"libvirt-{number}-storage",
        "read-only": not top,
    }
    if format == "qcow2":
        content["backing"] = None if below is None else f"libvirt-{below}-format"
    return "-blockdev", json.dumps(storage), "-blockdev", json.dumps(content)


@contextlib.asynccontextmanager
async def machine_with(folder: Path, *disks: list[Path]) -> AsyncIterator[Qemu]:
    """A QEMU with these chains (top first); the last layer of each is raw. Numbers as libvirt gives them."""
    arguments: list[str] = []
    following = 1
    for count, chain in enumerate(disks):
        top = following
        for depth in reversed(range(len(chain))):
            last = depth == len(chain) - 1
            number = top + depth
            arguments += node(
                chain[depth], number, "raw" if last else "qcow2", None if last else number + 1, depth == 0
            )
        following += len(chain)
        device = f"virtio-blk-pci,id=virtio-disk{count},drive=libvirt-{top}-format"
        arguments += ["-device", device]
    async with qemu(*arguments) as machine:
        yield machine


def chain_of(folder: Path, depth: int, name: str = "a") -> list[Path]:
    """Images on each other, top first; the one at depth d holds pattern d+1 at d MiB, over what is below."""
    paths = [folder / f"{name}{index}" for index in range(depth)]
    create(paths[-1], format="raw")
    offline_write(paths[-1], 99, 0, SIZE, format="raw")
    for index in reversed(range(depth - 1)):
        below = paths[index + 1]
        create(paths[index], "-b", str(below), "-F", "raw" if index == depth - 2 else "qcow2")
        offline_write(paths[index], index + 1, index * MIB, MIB)
    return paths


async def paths(monitor: Monitor, device: str = "virtio-disk0") -> list[str]:
    return [layer.path for layer in await blocks.query_chain(monitor, device)]


async def names(monitor: Monitor) -> set[str]:
    found = await monitor.execute("query-named-block-nodes", flat=True)
    return {node["node-name"] for node in found if node["node-name"].startswith("libvirt-")}


async def test_what_is_there(tmp_path: Path) -> None:
    one, two = chain_of(tmp_path, 3), chain_of(tmp_path, 1, "odd,name: ")
    drive = ("-device", "virtio-scsi-pci,id=scsi0", "-device", "scsi-cd,id=scsi0-0-0-1,bus=scsi0.0")
    async with qemu() as machine:
        assert await blocks.top_nodes(machine.monitor) == {}
        assert await blocks.next_node_number(machine.monitor) == 1
        with pytest.raises(Failed, match="no block device or node 'virtio-disk0'"):
            await blocks.query_chain(machine.monitor, "virtio-disk0")
    async with qemu(*drive) as machine:
        assert await blocks.top_nodes(machine.monitor) == {}
    async with machine_with(tmp_path, one, two) as machine:
        monitor = machine.monitor
        tops = await blocks.top_nodes(monitor)
        assert tops == {
            "virtio-disk0": blocks.NodeInfo("libvirt-1-format", str(one[0]), "qcow2", "libvirt-1-storage"),
            "virtio-disk1": blocks.NodeInfo("libvirt-4-format", str(two[0]), "raw", "libvirt-4-storage"),
        }
        by_target = await blocks.top_nodes(monitor, {"vda": "virtio-disk0", "sdz": "scsi0-0-0-9"})
        assert by_target == {"vda": tops["virtio-disk0"]}
        assert await paths(monitor) == [str(path) for path in one]
        assert await paths(monitor, "libvirt-2-format") == [str(path) for path in one[1:]]
        formats = [layer.format for layer in await blocks.query_chain(monitor, "virtio-disk0")]
        assert formats == ["qcow2", "qcow2", "raw"]
        assert await blocks.next_node_number(monitor) == 5
        assert await blocks.remove_unused(monitor) == ()


async def attach(monitor: Monitor, path: Path, below: Path, number: int, format: str = "raw") -> str:
    await images.create_overlay(
        str(path), format="qcow2", backing_path=str(below), backing_format=format, size=SIZE
    )
    await blocks.add_overlay(
        monitor,
        path=str(path),
        format="qcow2",
        node_format=f"libvirt-{number}-format",
        node_storage=f"libvirt-{number}-storage",
        type="file",
    )
    return f"libvirt-{number}-format"


async def test_new_layers_on_all_disks_or_none(tmp_path: Path) -> None:
    one, two = chain_of(tmp_path, 1, "one"), chain_of(tmp_path, 1, "two")
    async with machine_with(tmp_path, one, two) as machine:
        monitor = machine.monitor
        tops = [tmp_path / "one, top", tmp_path / "two.top"]
        first = await attach(monitor, tops[0], one[0], 3)
        second = await attach(monitor, tops[1], two[0], 4)
        with pytest.raises(QmpCommandFailed):
            await blocks.switch(monitor, [("libvirt-1-format", first), ("libvirt-2-format", "none")])
        assert await paths(monitor) == [str(one[0])]
        await blocks.switch(monitor, [("libvirt-1-format", first), ("libvirt-2-format", second)])
        assert await paths(monitor) == [str(tops[0]), str(one[0])]
        assert await paths(monitor, "virtio-disk1") == [str(tops[1]), str(two[0])]
        await guest_write(monitor, "virtio-disk0", 7, 0)
    assert holds(tops[0], 7, 0)
    assert holds(one[0], 99, 0, format="raw")


async def test_attaching_and_undoing(tmp_path: Path) -> None:
    [base] = chain_of(tmp_path, 1)
    async with machine_with(tmp_path, [base]) as machine:
        monitor = machine.monitor
        before = await names(monitor)
        await attach(monitor, tmp_path / "top", base, 2)
        for _ in range(2):
            await blocks.del_nodes(monitor, ["libvirt-2-format", "libvirt-2-storage"])
        assert await names(monitor) == before
        with pytest.raises(Failed, match="No such file or directory"):
            await blocks.add_overlay(
                monitor, path="/none", format="qcow2", node_format="f", node_storage="s", type="file"
            )
        # The file opens and is no qcow2: the storage node must not stay behind.
        (tmp_path / "text").write_text("text")
        with pytest.raises(Failed, match="Image is not in qcow2 format"):
            await blocks.add_overlay(
                monitor,
                path=str(tmp_path / "text"),
                format="qcow2",
                node_format="libvirt-2-format",
                node_storage="libvirt-2-storage",
                type="file",
            )
        assert await names(monitor) == before
        with pytest.raises(QmpCommandFailed, match="in use"):
            await blocks.del_nodes(monitor, ["libvirt-1-storage"])


async def test_options_of_a_layer(tmp_path: Path) -> None:
    [base] = chain_of(tmp_path, 1)
    create(tmp_path / "top", "-b", str(base), "-F", "raw")
    async with machine_with(tmp_path, [base]) as machine:
        await blocks.add_overlay(
            machine.monitor,
            path=str(tmp_path / "top"),
            format="qcow2",
            node_format="libvirt-2-format",
            node_storage="libvirt-2-storage",
            type="file",
            options=blocks.OverlayOptions(
                cache_no_flush=True, discard="unmap", detect_zeroes="unmap", aio="threads"
            ),
        )
        found = await machine.monitor.execute("query-named-block-nodes", flat=True)
        [layer] = [node for node in found if node["node-name"] == "libvirt-2-format"]
        assert layer["cache"]["no-flush"] is True
        assert layer["cache"]["direct"] is False
        assert layer["detect_zeroes"] == "unmap"
        assert not layer["ro"]


@pytest.mark.parametrize("settled", [False, True], ids=["inactive", "reactivated"])
async def test_switch_right_after_the_memory_was_saved(tmp_path: Path, settled: bool) -> None:
    """The order of a full system snapshot: pause, save, switch, go on."""
    [base] = chain_of(tmp_path, 1)
    async with machine_with(tmp_path, [base]) as machine:
        monitor = machine.monitor
        overlay = await attach(monitor, tmp_path / "top", base, 2)
        await monitor.execute("cont")
        await monitor.execute("stop")
        await memory.save(
            monitor,
            path=str(tmp_path / "memory"),
            xml="<domain/>",
            was_running=True,
            way=MemoryWay.STREAM,
            live=False,
        )
        if settled:
            await memory.reactivate(monitor)
        await blocks.switch(monitor, [("libvirt-1-format", overlay)])
        await monitor.execute("cont")
        await guest_write(monitor, "virtio-disk0", 7, 0)
        assert await paths(monitor) == [str(tmp_path / "top"), str(base)]
        await monitor.execute("stop")
    assert holds(tmp_path / "top", 7, 0)
    assert holds(base, 99, 0, format="raw")


@pytest.mark.parametrize("running", [False, True], ids=["paused", "running"])
@pytest.mark.parametrize("base", [1, 2, 3])
async def test_merging_the_active_layer_down(tmp_path: Path, base: int, running: bool) -> None:
    layers = chain_of(tmp_path, 4)
    calls: list[tuple[int, int]] = []
    async with machine_with(tmp_path, layers) as machine:
        monitor = machine.monitor
        if running:
            await monitor.execute("cont")
        await guest_write(monitor, "virtio-disk0", 50, 8 * MIB)
        await blocks.commit(
            monitor,
            device_top="libvirt-1-format",
            top="libvirt-1-format",
            base=f"libvirt-{base + 1}-format",
            backing_file=None,
            active=True,
            job="merge",
            progress=lambda done, total: calls.append((done, total)),
        )
        assert await paths(monitor) == [str(path) for path in layers[base:]]
        assert len(await names(monitor)) == 2 * (4 - base)
        assert await monitor.execute("query-jobs") == []
        await guest_write(monitor, "virtio-disk0", 51, 9 * MIB)
        for path in layers[:base]:
            path.unlink()
    assert calls[-1][0] == calls[-1][1] > 0
    format = "raw" if base == 3 else "qcow2"
    for index in range(3):
        assert holds(layers[base], index + 1, index * MIB, MIB, format)
    for pattern, at in ((50, 8), (51, 9), (99, 10)):
        assert holds(layers[base], pattern, at * MIB, format=format)


async def test_merging_layers_below_down(tmp_path: Path) -> None:
    layers = chain_of(tmp_path, 4)
    async with machine_with(tmp_path, layers) as machine:
        await machine.monitor.execute("cont")
        await blocks.commit(
            machine.monitor,
            device_top="libvirt-1-format",
            top="libvirt-2-format",
            base="libvirt-4-format",
            backing_file=str(layers[3]),
            active=False,
            job="merge",
        )
        assert await paths(machine.monitor) == [str(layers[0]), str(layers[3])]
        assert len(await names(machine.monitor)) == 4
        await machine.monitor.execute("stop")
    for path in layers[1:3]:
        path.unlink()
    found = await images.info(str(layers[0]), format="qcow2")
    assert (found.backing_path, found.backing_format) == (str(layers[3]), "raw")
    for index in range(3):
        assert holds(layers[0], index + 1, index * MIB, MIB)


@pytest.mark.parametrize("top", [0, 1])
@pytest.mark.parametrize("to_the_end", [False, True])
async def test_merging_up(tmp_path: Path, top: int, to_the_end: bool) -> None:
    layers = chain_of(tmp_path, 5)
    async with machine_with(tmp_path, layers) as machine:
        await machine.monitor.execute("cont")
        await blocks.stream(
            machine.monitor,
            top=f"libvirt-{top + 1}-format",
            base=None if to_the_end else "libvirt-5-format",
            backing_file=None if to_the_end else str(layers[4]),
            job="merge",
        )
        left = [*layers[: top + 1], *(() if to_the_end else layers[4:])]
        assert await paths(machine.monitor) == [str(path) for path in left]
        assert len(await names(machine.monitor)) == 2 * len(left)
        await machine.monitor.execute("stop")
    for path in layers:
        if path not in left:
            path.unlink()
    found = await images.info(str(layers[top]), format="qcow2")
    assert found.backing_path == (None if to_the_end else str(layers[4]))
    for index in range(4):
        assert holds(layers[0], index + 1, index * MIB, MIB)
    assert holds(layers[0], 99, 10 * MIB)


async def begin_slowly(monitor: Monitor, **more: Any) -> None:
    """The job as a process before us began it, kept from ending by its speed."""
    arguments = {"device": "libvirt-1-format", "job-id": "merge", "auto-dismiss": False, "speed": 65536}
    arguments |= {"top-node": "libvirt-1-format", "base-node": "libvirt-3-format"}
    await monitor.execute_raw("block-commit", arguments | more)


async def merge(monitor: Monitor) -> None:
    await blocks.commit(
        monitor,
        device_top="libvirt-1-format",
        top="libvirt-1-format",
        base="libvirt-3-format",
        backing_file=None,
        active=True,
        job="merge",
    )


async def wait_for(monitor: Monitor, status: str) -> None:
    async with monitor.events("JOB_STATUS_CHANGE") as listener:
        while (await monitor.execute("query-jobs"))[0]["status"] != status:
            await listener.get()


async def test_job_of_a_process_before_us_is_taken_over_while_it_runs(tmp_path: Path) -> None:
    layers = chain_of(tmp_path, 3)
    async with machine_with(tmp_path, layers) as machine:
        await begin_slowly(machine.monitor)
        await machine.monitor.close()
        async with await Monitor.connect(machine.path) as monitor:
            task = asyncio.create_task(merge(monitor))
            await monitor.execute("block-job-set-speed", device="merge", speed=0)
            await task
            assert await paths(monitor) == [str(layers[2])]
            assert await names(monitor) == {"libvirt-3-format", "libvirt-3-storage"}


@pytest.mark.parametrize("complete", [False, True], ids=["ready", "concluded"])
@pytest.mark.parametrize("way", ["commit", "adopt"])
async def test_job_that_is_done_is_taken_over(tmp_path: Path, complete: bool, way: str) -> None:
    layers = chain_of(tmp_path, 3)
    async with machine_with(tmp_path, layers) as machine:
        monitor = machine.monitor
        await begin_slowly(monitor, speed=0)
        await wait_for(monitor, "ready")
        if complete:
            await monitor.execute("job-complete", id="merge")
            await wait_for(monitor, "concluded")
            assert await paths(monitor) == [str(layers[2])]
        if way == "commit":
            await merge(monitor)
        else:
            assert await blocks.adopt(monitor, "merge")
            assert not await blocks.adopt(monitor, "merge")
        assert await paths(monitor) == [str(layers[2])]
        assert await names(monitor) == {"libvirt-3-format", "libvirt-3-storage"}
        assert await monitor.execute("query-jobs") == []


async def test_job_that_waits_to_be_finalized_is_taken_over(tmp_path: Path) -> None:
    layers = chain_of(tmp_path, 3)
    async with machine_with(tmp_path, layers) as machine:
        await begin_slowly(machine.monitor, speed=0, **{"auto-finalize": False})
        await merge(machine.monitor)
        assert await paths(machine.monitor) == [str(layers[2])]


@pytest.mark.parametrize("when", [0, 1, 2, 3, 20, 100])
async def test_cancelled_merge_leaves_the_layers_as_they_were(tmp_path: Path, when: int) -> None:
    """`when`: how many turns of the event loop the merge has had."""
    layers = chain_of(tmp_path, 3)
    async with machine_with(tmp_path, layers) as machine:
        monitor = machine.monitor
        before = await names(monitor)
        await begin_slowly(monitor)
        task = asyncio.create_task(merge(monitor))
        for _ in range(1 + when):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await monitor.execute("query-jobs") == []
        assert await paths(monitor) == [str(path) for path in layers]
        assert await names(monitor) == before
        await merge(monitor)
        assert await paths(monitor) == [str(layers[2])]


@pytest.mark.parametrize("status", ["running", "pending"])
@pytest.mark.parametrize("way", ["stream", "adopt", "cancel"])
async def test_merge_upwards_of_a_process_before_us(tmp_path: Path, way: str, status: str) -> None:
    """What is merged is in the file at once; and QEMU can be asked for its nodes afterwards."""
    layers = chain_of(tmp_path, 3)
    async with machine_with(tmp_path, layers) as machine:
        monitor = machine.monitor
        speed = 65536 if status == "running" else 0
        arguments = {"device": "libvirt-1-format", "job-id": "merge", "auto-finalize": False, "speed": speed}
        await monitor.execute_raw("block-stream", arguments)
        await wait_for(monitor, status)
        if way == "cancel":
            for _ in range(2):
                await blocks.cancel(monitor, "merge")
                assert await monitor.execute("query-jobs") == []
            assert await paths(monitor) == [str(path) for path in layers]
            return
        if status == "running":
            await monitor.execute("block-job-set-speed", device="merge", speed=0)
        if way == "adopt":
            await blocks.adopt(monitor, "merge")
            assert not await blocks.adopt(monitor, "merge")
        else:
            await blocks.stream(monitor, top="libvirt-1-format", base=None, backing_file=None, job="merge")
        assert await paths(monitor) == [str(layers[0])]
        assert await names(monitor) == {"libvirt-1-format", "libvirt-1-storage"}
        await machine.kill()
    assert holds(layers[0], 2, MIB, MIB)
    assert holds(layers[0], 99, 10 * MIB)


async def test_a_merge_upwards_that_fails(tmp_path: Path) -> None:
    """The result is known although the job dismisses itself."""
    layers = chain_of(tmp_path, 3)
    async with machine_with(tmp_path, layers) as machine:
        monitor = machine.monitor
        arguments = {"device": "libvirt-1-format", "job-id": "merge", "auto-finalize": False, "speed": 65536}
        await monitor.execute_raw("block-stream", arguments)
        reported = asyncio.Event()
        task = asyncio.create_task(
            blocks.stream(
                monitor,
                top="libvirt-1-format",
                base=None,
                backing_file=None,
                job="merge",
                progress=lambda done, total: reported.set(),
            )
        )
        await reported.wait()
        await monitor.execute("job-cancel", id="merge")
        with pytest.raises(Failed, match="block job 'merge' failed: it was cancelled"):
            await task
        assert await paths(monitor) == [str(path) for path in layers]


async def test_death_of_qemu_in_a_merge(tmp_path: Path) -> None:
    layers = chain_of(tmp_path, 3)
    async with machine_with(tmp_path, layers) as machine:
        await begin_slowly(machine.monitor)
        task = asyncio.create_task(merge(machine.monitor))
        await wait_for(machine.monitor, "running")
        await machine.kill()
        with pytest.raises(MonitorLost):
            await task
    # The same merge, at rest.
    await images.commit(str(layers[0]), str(layers[2]))
    assert holds(layers[2], 1, 0, MIB, "raw")
    assert holds(layers[2], 2, MIB, MIB, "raw")


async def test_full_disk(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        base, middle, top = tmp_path / "base", mount / "middle", tmp_path / "top"
        create(base, format="raw")
        create(middle, "-b", str(base), "-F", "raw")
        create(top, "-b", str(middle), "-F", "qcow2")
        offline_write(top, 5, 0, 16 * MIB)
        async with machine_with(tmp_path, [top, middle, base]) as machine:
            monitor = machine.monitor
            arguments: dict[str, Any] = {
                "device_top": "libvirt-1-format",
                "top": "libvirt-1-format",
                "base": "libvirt-2-format",
                "backing_file": None,
                "active": True,
                "job": "merge",
            }
            for _ in range(2):
                with pytest.raises(Failed) as caught:
                    await blocks.commit(monitor, **arguments)
                assert str(caught.value) == (
                    "operation failed: block job 'merge' failed: No space left on device"
                )
                assert await monitor.execute("query-jobs") == []
                assert await paths(monitor) == [str(top), str(middle), str(base)]
            await guest_write(monitor, "virtio-disk0", 6, 0)
        assert holds(top, 6, 0)
        assert holds(top, 5, MIB)
    finally:
        subprocess.run(["umount", str(mount)], check=True)


async def test_bases_that_are_not_below(tmp_path: Path) -> None:
    layers = chain_of(tmp_path, 3)
    async with machine_with(tmp_path, layers) as machine:
        with pytest.raises(Failed, match="is not below node"):
            await blocks.stream(
                machine.monitor,
                top="libvirt-3-format",
                base="libvirt-1-format",
                backing_file=None,
                job="j",
            )


def test_numbers() -> None:
    assert blocks.number_after([]) == 1
    assert blocks.number_after(["libvirt-7-format", "libvirt-12-storage", "libvirt-x-format", "n99"]) == 13
