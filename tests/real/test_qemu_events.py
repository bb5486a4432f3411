"""The event log that a real QEMU writes by itself."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.real.real_qemu import emulator_version, qemu
from virtsnap.model.domain import Reason
from virtsnap.qemu import process
from virtsnap.qemu.events import exit_reason, read_events

pytestmark = pytest.mark.real


def log_options(folder: Path, kind: str) -> tuple[str, ...]:
    """`file` needs QEMU 8.1 (input-path); a `pipe` of two plain files does the same on all."""
    hello = '{"execute":"qmp_capabilities"}\n'
    if kind == "file":
        (folder / "hello").write_text(hello)
        chardev = f"file,id=charevents,path={folder}/events,input-path={folder}/hello,append=on"
    else:
        (folder / "log.in").write_text(hello)
        (folder / "log.out").touch()
        (folder / "events").symlink_to("log.out")
        chardev = f"pipe,id=charevents,path={folder}/log"
    return "-chardev", chardev, "-mon", "chardev=charevents,mode=control"


@pytest.mark.parametrize("way", ["signal", "quit", "kill"])
@pytest.mark.parametrize("kind", ["file", "pipe"])
async def test_log_outlives_qemu(tmp_path: Path, kind: str, way: str) -> None:
    if kind == "file" and await emulator_version() < (8, 1):
        pytest.skip("needs QEMU 8.1")
    async with qemu(*log_options(tmp_path, kind)) as machine:
        await machine.monitor.execute("cont")
        await machine.monitor.execute("stop")
        if way == "quit":
            await machine.monitor.execute("quit")
        else:
            process.kill(machine.spawned, signal.SIGTERM if way == "signal" else signal.SIGKILL)
        assert await process.wait_gone(machine.spawned, 20)
    found = read_events(f"{tmp_path}/events")
    assert [event.name for event in found][:2] == ["RESUME", "STOP"]
    assert found[0].seconds > 0
    assert exit_reason(found) is (Reason.SHUTOFF_CRASHED if way == "kill" else Reason.SHUTOFF_DESTROYED)
