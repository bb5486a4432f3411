"""One question to a QEMU and its answer, on a connection of its own that is closed again at once.

For monitors that several processes want to use: QEMU serves one client of a socket at a time, so whoever
stayed would keep the others out. Greeting, negotiation and question are one exchange of messages. What is
longer than that, or listens, is a conversation: `qemu.monitor`.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from virtsnap.model.errors import ResourceBusy
from virtsnap.qemu.monitor import MonitorLost, QmpCommandFailed, connect_socket

_HELLO = b'{"execute":"qmp_capabilities"}\n'
_READ_BYTES = 256 * 1024
_MARK = "virtsnap"


async def ask(path: str, command: str, arguments: dict[str, Any], *, timeout: float) -> Any:
    """What QEMU returns. `timeout`: seconds, for all of it.

    Raises QmpCommandFailed when it refuses, ResourceBusy when it does not answer in time (another client is
    connected, most likely), MonitorLost when nobody listens there or QEMU ends meanwhile.
    """
    asked: dict[str, Any] = {"execute": command, "id": _MARK}
    if arguments:
        asked["arguments"] = arguments
    try:
        async with asyncio.timeout(timeout):
            with await connect_socket(path) as sock:
                # QEMU reads no further than it has answered: nothing is gained by waiting for its greeting.
                await asyncio.get_running_loop().sock_sendall(sock, _HELLO + json.dumps(asked).encode())
                return _returned(command, await _answer(sock))
    except TimeoutError as error:
        raise ResourceBusy(
            f"QEMU does not answer on its monitor socket '{path}': another client is connected to it"
        ) from error
    except OSError as error:
        raise MonitorLost(f"failed to connect to monitor socket: {error.strerror}") from error


def _returned(command: str, message: dict[str, Any]) -> Any:
    if "error" in message:
        raise QmpCommandFailed(command, message["error"]["class"], message["error"]["desc"])
    return message.get("return")


async def _answer(sock: socket.socket) -> dict[str, Any]:
    """Ours, from among greetings and events; a line is a message."""
    loop = asyncio.get_running_loop()
    rest = b""
    while data := await loop.sock_recv(sock, _READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError as error:
                raise MonitorLost("invalid JSON on the monitor") from error
            if isinstance(message, dict) and message.get("id") == _MARK:
                return message
    raise MonitorLost()
