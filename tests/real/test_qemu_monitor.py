"""`qemu.monitor` against a real QEMU that runs no guest."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from pathlib import Path

import pytest

from tests.real.real_qemu import qemu
from virtsnap.model.errors import Failed, ResourceBusy
from virtsnap.qemu.monitor import Monitor, MonitorLost, QmpCommandFailed

pytestmark = pytest.mark.real


async def test_command_its_error_and_the_version() -> None:
    async with qemu() as machine:
        monitor = machine.monitor
        assert (await monitor.execute("query-status"))["running"] is False
        assert monitor.version >= (7, 2, 0)
        with pytest.raises(QmpCommandFailed) as caught:
            await monitor.execute("blockdev-del", node_name="nobody")
        assert caught.value.class_ == "GenericError"
        assert "nobody" in caught.value.description
        assert str(caught.value).startswith("internal error: unable to execute QEMU command 'blockdev-del': ")
        with pytest.raises(QmpCommandFailed) as caught:
            await monitor.execute("no-such-command")
        assert caught.value.class_ == "CommandNotFound"
        assert isinstance(caught.value, Failed)


async def test_many_commands_at_once() -> None:
    async with qemu() as machine:
        answers = await asyncio.gather(*(machine.monitor.execute("query-name") for _ in range(50)))
        assert len(answers) == 50


async def test_a_cancelled_command_does_not_hurt_the_next() -> None:
    async with qemu() as machine:
        for _ in range(10):
            task = asyncio.create_task(machine.monitor.execute("query-commands"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await machine.monitor.execute("query-status"))["running"] is False


async def test_events_are_heard_from_before_the_command() -> None:
    async with qemu() as machine, machine.monitor.events("RESUME", "STOP") as listener:
        await machine.monitor.execute("cont")
        await machine.monitor.execute("stop")
        names = [(await listener.get()).name for _ in range(2)]
        assert names == ["RESUME", "STOP"]


async def test_second_client_gets_a_time_limit_that_names_the_cause() -> None:
    async with qemu() as machine:
        waiting = [Monitor.connect(machine.path, timeout=0.3) for _ in range(4)]
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, ResourceBusy)
            assert machine.path in outcome.detail
        await machine.monitor.close()
        async with await Monitor.connect(machine.path, timeout=10) as second:
            await second.execute("query-status")


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(MonitorLost, match="failed to connect to monitor socket: No such file or directory"):
        await Monitor.connect(str(tmp_path / "none.sock"))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "dead.sock"))
    with pytest.raises(MonitorLost, match="Connection refused"):
        await Monitor.connect(str(tmp_path / "dead.sock"))


async def test_death_of_qemu_ends_commands_and_listeners_without_warnings() -> None:
    async with qemu() as machine:
        async with machine.monitor.events() as listener:
            waiting = asyncio.create_task(listener.get())
            await machine.kill()
            with pytest.raises(MonitorLost):
                await waiting
        await machine.monitor.wait_lost()
        assert machine.monitor.lost
        with pytest.raises(MonitorLost) as caught:
            await machine.monitor.execute("query-status")
        assert str(caught.value) == "internal error: End of file from qemu monitor"
    # Whatever was not retrieved would complain here, and warnings are errors.
    gc.collect()


async def test_command_in_flight_when_qemu_quits() -> None:
    async with qemu() as machine:
        outcomes = await asyncio.gather(
            machine.monitor.execute("quit"),
            *(machine.monitor.execute("query-status") for _ in range(20)),
            return_exceptions=True,
        )
        assert all(isinstance(outcome, dict | MonitorLost) for outcome in outcomes), outcomes
    gc.collect()


async def test_close_is_final_and_may_be_repeated() -> None:
    async with qemu() as machine:
        await machine.monitor.close()
        await machine.monitor.close()
        with pytest.raises(MonitorLost):
            await machine.monitor.execute("query-status")


async def test_descriptors_travel(tmp_path: Path) -> None:
    async with qemu() as machine:
        descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        try:
            number = await machine.monitor.send_fd(descriptor, opaque="note")
            assert await machine.monitor.send_fd(descriptor, name="held") == 0
        finally:
            os.close(descriptor)
        [found] = await machine.monitor.execute("query-fdsets")
        assert found["fdset-id"] == number
        assert found["fds"][0]["opaque"] == "note"
        await machine.monitor.execute("closefd", fdname="held")
