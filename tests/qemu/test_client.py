"""Meeting a QEMU that says more than it is asked."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from virtsnap.qemu import process
from virtsnap.qemu.monitor import Monitor

GREETING = {
    "QMP": {
        "version": {"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": ""},
        "capabilities": ["oob"],
    }
}
EVENT = {"event": "RESET", "data": {"guest": False}, "timestamp": {"seconds": 1, "microseconds": 2}}


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every command, and say more than that after each."""
    text = ""
    while data := await reader.read(4096):
        text += data.decode()
        # The client puts nothing between its messages. None of them comes in pieces here.
        while text.strip():
            command, end = json.JSONDecoder().raw_decode(text.lstrip())
            text = text.lstrip()[end:]
            answer = {"return": {"got": command["execute"]}}
            answer |= {"id": command["id"]} if "id" in command else {}
            for message in (answer, EVENT, GREETING):
                _say(writer, message)
    writer.close()


def _say(writer: asyncio.StreamWriter, message: object) -> None:
    writer.write(json.dumps(message).encode() + b"\r\n")


@pytest.mark.parametrize("besides", [[], [GREETING], [EVENT], [EVENT, GREETING, EVENT]])
async def test_negotiation(tmp_path: Path, besides: list[object]) -> None:
    async def qemu(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for message in (GREETING, *besides):
            _say(writer, message)
        await _converse(reader, writer)

    server = await asyncio.start_unix_server(qemu, tmp_path / "qmp")
    async with server, await Monitor.connect(str(tmp_path / "qmp"), timeout=5) as monitor:
        assert monitor.version == (10, 0, 2)
        async with monitor.events("RESET") as listener:
            assert await monitor.execute("first") == {"got": "first"}
            assert await monitor.execute("second") == {"got": "second"}
            assert (await listener.get()).name == "RESET"


async def test_a_start_at_which_callers_are_hung_up_on(tmp_path: Path) -> None:
    calls = 0

    async def qemu(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        if calls not in (1, 3):
            _say(writer, GREETING)
            await _converse(reader, writer)
        writer.close()

    server = await asyncio.start_unix_server(qemu, tmp_path / "qmp")
    async with server:
        myself = process.identify(os.getpid())
        assert myself is not None
        monitor = await process.await_monitor(myself, str(tmp_path / "qmp"), str(tmp_path / "log"), timeout=5)
        async with monitor:
            assert await monitor.execute("first") == {"got": "first"}
    assert calls == 4


def test_nobody_waits_at_the_door(tmp_path: Path) -> None:
    with process.listen(str(tmp_path / "qmp")) as sock:
        assert not os.get_blocking(sock.fileno())
