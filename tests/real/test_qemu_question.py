"""`qemu.question` against a real QEMU that runs no guest, and against what it may say besides."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.real.real_qemu import qemu
from virtsnap.model.errors import ResourceBusy
from virtsnap.qemu.monitor import Monitor, MonitorLost, QmpCommandFailed
from virtsnap.qemu.question import ask

pytestmark = pytest.mark.real


async def test_one_after_the_other_and_beside_a_conversation() -> None:
    async with qemu() as machine:
        with pytest.raises(ResourceBusy, match="another client"):
            await ask(machine.path, "query-status", {}, timeout=0.3)
        await machine.monitor.close()
        for _ in range(20):
            assert (await ask(machine.path, "query-status", {}, timeout=20))["running"] is False
        assert len(await ask(machine.path, "query-qmp-schema", {}, timeout=20)) > 500
        found = await ask(machine.path, "human-monitor-command", {"command-line": "info name"}, timeout=20)
        assert isinstance(found, str)
        with pytest.raises(QmpCommandFailed) as caught:
            await ask(machine.path, "query-balloon", {}, timeout=20)
        assert caught.value.class_ == "DeviceNotActive"
        answers = await asyncio.gather(*(ask(machine.path, "query-name", {}, timeout=30) for _ in range(5)))
        assert answers == [{}] * 5
        async with await Monitor.connect(machine.path, timeout=20) as monitor:
            await monitor.execute("query-status")
        await machine.kill()
        with pytest.raises(MonitorLost):
            await ask(machine.path, "query-status", {}, timeout=20)


async def test_what_comes_besides(tmp_path: Path) -> None:
    said: list[bytes] = []

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in said:
            writer.write(piece)
            await writer.drain()
        await reader.readline()
        writer.close()

    server = await asyncio.start_unix_server(served, tmp_path / "sock")
    path = str(tmp_path / "sock")
    greeting = b'{"QMP": {"version": {}}}\r\n'
    async with server:
        said[:] = [greeting, greeting, b'{"return": {}}\r\n{"ev', b'ent": "STOP"}\r\n']
        with pytest.raises(MonitorLost):
            await ask(path, "query-name", {}, timeout=20)
        said.append(b'{"return": [1], "id": "virtsnap"}\r\n')
        assert await ask(path, "query-name", {}, timeout=20) == [1]
        said[:] = [b"HTTP/1.1 400\r\n"]
        with pytest.raises(MonitorLost, match="JSON"):
            await ask(path, "query-name", {}, timeout=20)
