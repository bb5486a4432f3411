"""A real QEMU without a guest, for tests of what speaks to it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass

from virtsnap.qemu import process
from virtsnap.qemu.monitor import Monitor

EMULATOR = os.environ.get("VIRTSNAP_TEST_QEMU", "qemu-system-x86_64")
"""Another QEMU to test with; VIRTSNAP_TEST_QEMU_ARGS are its extra arguments (such as -L)."""
EMULATOR_IMG = os.environ.get("VIRTSNAP_TEST_QEMU_IMG", "qemu-img")
QEMU_IO = os.environ.get("VIRTSNAP_TEST_QEMU_IO", "qemu-io")


@dataclass
class Qemu:
    """A running QEMU, its monitor and the folder it may write to."""

    spawned: process.Spawned
    monitor: Monitor
    folder: str
    path: str
    log: str

    async def kill(self) -> None:
        """SIGKILL, to its end."""
        process.kill(self.spawned)
        assert await process.wait_gone(self.spawned, 20)


@contextlib.asynccontextmanager
async def qemu(*arguments: str, memory: str = "64", machine: str = "q35") -> AsyncIterator[Qemu]:
    """Start one, stopped (-S), and take it down at the end."""
    with tempfile.TemporaryDirectory() as folder:
        path, log = f"{folder}/qmp.sock", f"{folder}/log"
        with process.listen(path) as sock:
            spawned = process.spawn(
                [
                    *(EMULATOR, *os.environ.get("VIRTSNAP_TEST_QEMU_ARGS", "").split()),
                    *("-accel", "tcg", "-M", machine, "-m", memory, "-nodefaults", "-display", "none", "-S"),
                    *("-chardev", f"socket,id=mon,fd={sock.fileno()},server=on,wait=off"),
                    *("-mon", "chardev=mon,mode=control", *arguments),
                ],
                pass_fds=[sock.fileno()],
                log_path=log,
            )
        try:
            monitor = await process.await_monitor(spawned, path, log)
            try:
                yield Qemu(spawned, monitor, folder, path, log)
            finally:
                await monitor.close()
        finally:
            process.kill(spawned)
            await process.wait_gone(spawned, 20)


async def emulator_version() -> tuple[int, int]:
    """(major, minor) of the QEMU under test."""
    async with qemu() as machine:
        return machine.monitor.version[:2]
