"""Meeting a QEMU that says more than it is asked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from virtsnap.qemu.monitor import Monitor

GREETING = {
    "QMP": {
        "version": {"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": ""},
        "capabilities": ["oob"],
    }
}
EVENT = {"event": "RESET", "data": {"guest": False}, "timestamp": {"seconds": 1, "microseconds": 2}}


@pytest.mark.parametrize("besides", [[], [GREETING], [EVENT], [EVENT, GREETING, EVENT]])
async def test_negotiation(tmp_path: Path, besides: list[object]) -> None:
    async def qemu(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for message in (GREETING, *besides):
            writer.write(json.dumps(message).encode() + b"\r\n")
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
                    writer.write(json.dumps(message).encode() + b"\r\n")
        writer.close()

    server = await asyncio.start_unix_server(qemu, tmp_path / "qmp")
    async with server, await Monitor.connect(str(tmp_path / "qmp"), timeout=5) as monitor:
        assert monitor.version == (10, 0, 2)
        async with monitor.events("RESET") as listener:
            assert await monitor.execute("first") == {"got": "first"}
            assert await monitor.execute("second") == {"got": "second"}
            assert (await listener.get()).name == "RESET"
