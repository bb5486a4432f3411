"""The one moment of an active merge that must be written down: everything copied, nothing new written yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.test_qemu_blocks import MIB, chain_of, guest_write, holds, machine_with, names, paths
from virtsnap.qemu import blocks
from virtsnap.qemu.monitor import Monitor

pytestmark = pytest.mark.real


class Death(BaseException):
    """Of the process that merges, at that moment."""


def die() -> None:
    raise Death


async def merge(monitor: Monitor) -> None:
    await blocks.commit(
        monitor,
        device_top="libvirt-1-format",
        top="libvirt-1-format",
        base="libvirt-3-format",
        backing_file=None,
        active=True,
        job="merge",
        settled=die,
    )


async def write_without_waiting(monitor: Monitor, pattern: int, at: int) -> None:
    path = "/machine/peripheral/virtio-disk0/virtio-backend"
    line = f'qemu-io -d {path} "aio_write -q -P {pattern} {at} 65536"'
    assert await monitor.execute_raw("human-monitor-command", {"command-line": line}) == ""


async def test_nothing_is_written_while_it_is_settled(tmp_path: Path) -> None:
    layers = chain_of(tmp_path, 3)
    async with machine_with(tmp_path, layers) as machine:
        monitor = machine.monitor
        await monitor.execute("cont")
        await guest_write(monitor, "virtio-disk0", 50, 8 * MIB)
        with pytest.raises(Death):
            await merge(monitor)
        (job,) = await monitor.execute("query-jobs")
        assert job["status"] == "pending"
        assert await paths(monitor) == [str(path) for path in layers]
        await write_without_waiting(monitor, 60, 9 * MIB)
        await monitor.execute("query-block")  # time in which it would have been done
        await machine.kill()
    for path, format in ((layers[0], "qcow2"), (layers[2], "raw")):
        assert holds(path, 50, 8 * MIB, format=format), "both have all of it"
        assert holds(path, 99, 9 * MIB, format=format), "neither has what came after"


async def test_the_next_process_ends_it(tmp_path: Path) -> None:
    layers = chain_of(tmp_path, 3)
    calls: list[str] = []
    async with machine_with(tmp_path, layers) as machine:
        monitor = machine.monitor
        if monitor.version < (8,):
            # What a guest writes to a virtio disk meanwhile waits further out, and harms nobody.
            pytest.skip("QEMU 7.2 dies of what its monitor has written while a job is pending")
        await monitor.execute("cont")
        with pytest.raises(Death):
            await merge(monitor)
        await write_without_waiting(monitor, 60, 9 * MIB)
        assert await blocks.adopt(monitor, "merge", settled=lambda: calls.append("settled"))
        assert await paths(monitor) == [str(layers[2])]
        assert await names(monitor) == {"libvirt-3-format", "libvirt-3-storage"}
        await guest_write(monitor, "virtio-disk0", 61, 10 * MIB)
    assert calls == ["settled"]
    assert holds(layers[2], 60, 9 * MIB, format="raw"), "what waited went to the base"
    assert holds(layers[2], 61, 10 * MIB, format="raw")


async def test_an_error_while_settling_gives_the_disk_back(tmp_path: Path) -> None:
    layers = chain_of(tmp_path, 3)

    def full() -> None:
        raise OSError(28, "No space left on device")

    async with machine_with(tmp_path, layers) as machine:
        monitor = machine.monitor
        await monitor.execute("cont")
        with pytest.raises(OSError, match="No space left"):
            await blocks.commit(
                monitor,
                device_top="libvirt-1-format",
                top="libvirt-1-format",
                base="libvirt-2-format",
                backing_file=None,
                active=True,
                job="merge",
                settled=full,
            )
        assert await monitor.execute("query-jobs") == []
        assert await paths(monitor) == [str(path) for path in layers]
        await guest_write(monitor, "virtio-disk0", 62, 10 * MIB)
    assert holds(layers[0], 62, 10 * MIB)
