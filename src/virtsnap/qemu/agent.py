"""The QEMU guest agent: a program in the guest that answers on a virtio channel, one question at a time.

The channel has no memory of who asked: an answer may be for somebody who has gone, and half a question may
still be in the guest. So every conversation begins with guest-sync-delimited, whose answer says that all
before it is over. The limits of time are libvirt's: five seconds for that answer, none for a command that
the agent has begun. Source: QEMU's qga/qapi-schema.json; libvirt's behaviour for limits and texts.
Not here: which channel it is (`formats.guest_agent`) and when a guest is frozen (`engine.steps.guest`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from typing import Any

from virtsnap.formats.guest_agent import AgentChannel
from virtsnap.model.errors import AgentCommandFailed, ErrorCode, Failed
from virtsnap.qemu.monitor import Monitor, connect_socket

SYNC_SECONDS = 5.0
"""How long an agent that does not answer is waited for."""
SHUTDOWN_SECONDS = 60.0
"""How long a guest may take from being asked to shut down until it begins to."""
DELIVERY_SECONDS = 2.0
"""How long QEMU may take to read a command that nobody waits for."""
_LONGEST_ANSWER = 16 << 20
_DELIMITER = b"\xff"


class AgentUnresponsive(Failed):
    """There is no agent, or it does not answer (code 86)."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, code=ErrorCode.AGENT_UNRESPONSIVE)


class Agent:
    """One conversation. Made by `connect`; use as an async context manager, or `close`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes over a connected socket; for `connect` only."""
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, path: str, *, timeout: float = SYNC_SECONDS) -> Agent:
        """Open the socket at `path`, of any length. Raises AgentUnresponsive when QEMU does not listen."""
        try:
            async with asyncio.timeout(timeout):
                sock = await connect_socket(path)
        except (OSError, TimeoutError) as error:  # TimeoutError: the queue of those who wait is full
            raise AgentUnresponsive("QEMU guest agent is not connected") from error
        try:
            return cls(*await asyncio.open_unix_connection(sock=sock, limit=_LONGEST_ANSWER))
        except BaseException:
            sock.close()
            raise

    async def __aenter__(self) -> Agent:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def deliver(self, timeout: float = DELIVERY_SECONDS) -> None:
        """Return when QEMU has taken all that was said; nothing can be said afterwards.

        QEMU drops what it has not read when a client hangs up; told of the end in the orderly way, it reads
        up to there and hangs up itself. Raises AgentUnresponsive when the guest takes nothing in `timeout`
        seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                self._writer.write_eof()
                while await self._reader.read(_LONGEST_ANSWER):
                    pass
        except (TimeoutError, OSError) as error:
            raise AgentUnresponsive("Guest agent not available for now") from error

    async def close(self) -> None:
        """End the conversation."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def sync(self, timeout: float = SYNC_SECONDS) -> None:
        """Return when the agent listens to us and all older answers are out of the way.

        `timeout` in seconds. Raises AgentUnresponsive. Another client on the channel shows in the same way.
        """
        number = int.from_bytes(os.urandom(4), "big")
        try:
            async with asyncio.timeout(timeout):
                # The byte ends whatever half a question the agent may hold.
                self._writer.write(_DELIMITER)
                self.send("guest-sync-delimited", id=number)
                while True:
                    await self._reader.readuntil(_DELIMITER)
                    answer = _parsed((await self._line()).rpartition(_DELIMITER)[2])
                    if answer is not None and answer.get("return") == number:
                        return
        except TimeoutError as error:
            raise AgentUnresponsive("Guest agent not available for now") from error
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
            raise AgentUnresponsive("Guest agent disappeared while executing command") from error

    def send(self, command: str, **arguments: Any) -> None:
        """Say a command without waiting for its answer."""
        message = {"execute": command} | ({"arguments": arguments} if arguments else {})
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def execute(self, command: str, *, timeout: float | None = None, **arguments: Any) -> Any:
        """Run a command and return what it returns. `timeout` in seconds; None: as long as it takes.

        Raises AgentCommandFailed when the agent refuses, AgentUnresponsive when it is gone or too slow.
        """
        try:
            async with asyncio.timeout(timeout):
                self.send(command, **arguments)
                answer = _parsed(await self._line())
        except TimeoutError as error:
            raise AgentUnresponsive("Guest agent not available for now") from error
        except (asyncio.IncompleteReadError, OSError) as error:
            raise AgentUnresponsive("Guest agent disappeared while executing command") from error
        if answer is None or not ("return" in answer or "error" in answer):
            raise AgentUnresponsive("Guest agent sent what is no answer")
        if "error" in answer:
            said = answer["error"]
            raise AgentCommandFailed(command, said.get("class", ""), said.get("desc", ""))
        return answer["return"]

    async def _line(self) -> bytes:
        try:
            return await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            raise AgentUnresponsive("Guest agent sent what is no answer") from error


async def open_socket(monitor: Monitor, channel: AgentChannel) -> str:
    """The channel's socket, when there is an agent at the other end. Raises AgentUnresponsive."""
    if channel.socket is None:
        raise AgentUnresponsive("QEMU guest agent is not available due to an error")
    for device in await monitor.execute("query-chardev"):
        if device["label"] == f"char{channel.alias}" and device["frontend-open"]:
            return channel.socket
    raise AgentUnresponsive("QEMU guest agent is not connected")


async def is_frozen(path: str) -> bool:
    """Whether the guest's file systems stand still. Raises AgentUnresponsive, AgentCommandFailed."""
    async with await Agent.connect(path) as agent:
        await agent.sync()
        return await _frozen(agent)


async def freeze(path: str) -> int:
    """Make the guest's file systems consistent on their disks and let them stand still; how many.

    Raises AgentUnresponsive, AgentCommandFailed.
    """
    async with await Agent.connect(path) as agent:
        await agent.sync()
        return int(await agent.execute("guest-fsfreeze-freeze"))


async def thaw(path: str, *, timeout: float = SYNC_SECONDS) -> int:
    """Let the guest's file systems go on, if they stand still; how many did.

    Raises AgentUnresponsive when the agent does not answer in `timeout` seconds. Even then the command is on
    its way, and an agent that is only busy, with the freeze for one, carries it out afterwards.
    """
    async with await Agent.connect(path) as agent:
        try:
            await agent.sync(timeout)
        except AgentUnresponsive:
            agent.send("guest-fsfreeze-thaw")
            await agent.deliver()
            raise
        if not await _frozen(agent):
            return 0
        return int(await agent.execute("guest-fsfreeze-thaw"))


async def _frozen(agent: Agent) -> bool:
    return bool(await agent.execute("guest-fsfreeze-status", timeout=SYNC_SECONDS) == "frozen")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
