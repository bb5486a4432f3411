"""One question to a QEMU and its answer, on a connection of its own that is closed again at once.

For monitors that several processes want to use: QEMU serves one client of a socket at a time, so whoever
stayed would keep the others out. Greeting, negotiation and question are one exchange of messages. What is
longer than that, or listens, is a conversation: `qemu.monitor`.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
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
    answer = (await ask_each(path, [(command, arguments)], timeout=timeout))[0]
    if isinstance(answer, QmpCommandFailed):
        raise answer
    return answer


async def ask_each(
    path: str, commands: Sequence[tuple[str, dict[str, Any]]], *, timeout: float
) -> list[Any | QmpCommandFailed]:
    """The same of several commands, in one exchange: what QEMU returns to each, or its refusal.

    Raises ResourceBusy and MonitorLost.
    """
    asked = [
        {"execute": command, "id": _MARK} | ({"arguments": arguments} if arguments else {})
        for command, arguments in commands
    ]
    try:
        async with asyncio.timeout(timeout):
            with await connect_socket(path) as sock:
                # QEMU reads no further than it has answered: nothing is gained by waiting for its greeting.
                message = _HELLO + b"\n".join(json.dumps(one).encode() for one in asked)
                await asyncio.get_running_loop().sock_sendall(sock, message)
                answers = await _answers(sock, len(asked))
                return [_returned(name, answer) for (name, _), answer in zip(commands, answers, strict=True)]
    except TimeoutError as error:
        raise ResourceBusy(
            f"QEMU does not answer on its monitor socket '{path}': another client is connected to it"
        ) from error
    except OSError as error:
        raise MonitorLost(f"failed to connect to monitor socket: {error.strerror}") from error


def _returned(command: str, message: dict[str, Any]) -> Any | QmpCommandFailed:
    if "error" in message:
        return QmpCommandFailed(command, message["error"]["class"], message["error"]["desc"])
    return message.get("return")


async def _answers(sock: socket.socket, count: int) -> list[dict[str, Any]]:
    """Ours, in the order of the commands, from among greetings and events; a line is a message."""
    loop = asyncio.get_running_loop()
    rest = b""
    found = []
    while data := await loop.sock_recv(sock, _READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError as error:
                raise MonitorLost("invalid JSON on the monitor") from error
            if isinstance(message, dict) and message.get("id") == _MARK:
                found.append(message)
                if len(found) == count:
                    return found
    raise MonitorLost()
