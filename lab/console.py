"""Talks to the agent in the guest (`rootfs/lib/agent.sh`) over its serial console, a unix socket or a pty.

Every command carries an id that was never used before and every answer names it, so whatever else is on
the line is passed over: boot messages, the tail of an answer that a revert cut off, answers to commands of
another life of the guest. After a revert the old line is dead (`ConsoleClosed`): connect again and go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import secrets
import socket
import stat
import tty
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

_T = TypeVar("_T")

LONGEST_COMMAND = 3900
"""Bytes. The guest's terminal takes lines of at most 4095 with the two ids."""


class ConsoleError(Exception):
    """Something is wrong with the console; carries the last that the guest said."""


class ConsoleClosed(ConsoleError):
    """The other end is gone: the guest ended, or was reverted and has a new console."""


class ConsoleTimeout(ConsoleError):
    """No answer in time."""


class CommandFailed(ConsoleError):
    """The guest ran the command, and it ended with another status than 0."""


@dataclass(frozen=True)
class Result:
    """What a command in the guest ended with, and what it wrote (both streams, trailing newlines removed)."""

    rc: int
    out: str


class GuestConsole:
    """A connection to the guest's agent. One command at a time; use one console per guest."""

    def __init__(self, fd: int) -> None:
        """Take over `fd`, an open and connected serial line. `connect` is the usual way."""
        os.set_blocking(fd, False)
        self._fd = fd
        self._seen = bytearray()
        self._news = asyncio.Event()
        self._closed = False
        self._nonce = secrets.token_hex(4)
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._readable)

    @classmethod
    async def connect(cls, address: str | Path) -> GuestConsole:
        """Connect to a unix socket or a pty. Raises OSError when there is nobody."""
        if stat.S_ISSOCK(os.stat(address).st_mode):
            line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                line.connect(str(address))
            except OSError:
                line.close()
                raise
            return cls(line.detach())
        fd = os.open(address, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(fd)
        return cls(fd)

    async def __aenter__(self) -> GuestConsole:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the line. The guest does not notice."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._news.set()

    @property
    def transcript(self) -> str:
        """The last that came over the line and was not the answer to a command: for error messages."""
        return self._seen[-2000:].decode(errors="replace")

    async def wait_ready(self, timeout: float = 60) -> None:
        """Return when the guest's agent answers, be it still booting, long since up, or just reverted.

        Bytes sent before the guest's terminal is open are lost, so the question is put again when the agent
        says that it is ready, and once a second.
        """
        try:
            async with asyncio.timeout(timeout):
                while True:
                    said = len(self._seen)
                    token = await self._send("true")
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1):
                            answered = re.compile(rb"@%b rc=0 len=0\n\n@%b end\n" % (token, token))
                            await self._find(re.compile(answered.pattern + rb"|@ready \S+\n"), said)
                            if answered.search(self._seen):
                                self._seen.clear()
                                return
        except TimeoutError:
            raise ConsoleTimeout(
                f"the guest is not ready after {timeout} s; it said: {self.transcript}"
            ) from None

    async def run(self, command: str, timeout: float = 30) -> Result:
        """Run one line of shell in the guest, which knows the functions of `rootfs/lib`."""
        self._seen.clear()
        token = await self._send(command)
        try:
            async with asyncio.timeout(timeout):
                head = await self._find(re.compile(rb"@%b rc=(\d+) len=(\d+)\n" % token))
                start, rc, length = head.end(), int(head[1]), int(head[2])
                end = b"\n@%b end\n" % token
                while len(self._seen) < start + length + len(end):
                    await self._more()
        except TimeoutError:
            raise ConsoleTimeout(f"no answer to {command!r} in {timeout} s; got: {self.transcript}") from None
        if self._seen[start + length : start + length + len(end)] != end:
            raise ConsoleError(f"the answer to {command!r} is mixed with other text: {self.transcript}")
        out = self._seen[start : start + length].decode(errors="replace")
        self._seen.clear()
        return Result(rc, out)

    async def check(self, command: str, timeout: float = 30) -> str:
        """Run a command that must succeed; return what it wrote. Raises `CommandFailed`."""
        result = await self.run(command, timeout)
        if result.rc:
            raise CommandFailed(f"{command!r} ended with {result.rc} in the guest: {result.out}")
        return result.out

    async def send(self, command: str) -> None:
        """Have the guest run a command whose answer never comes, such as `poweroff -f`."""
        await self._send(command)

    async def seen(self, text: str, timeout: float = 30) -> None:
        """Return when the guest has written `text`, as an answer or on its own."""
        try:
            async with asyncio.timeout(timeout):
                await self._find(re.compile(re.escape(text.encode())))
        except TimeoutError:
            raise ConsoleTimeout(f"no {text!r} in {timeout} s; got: {self.transcript}") from None

    async def write(self, data: bytes) -> None:
        """Put bytes on the line as they are."""
        waiting = memoryview(data)
        while waiting:
            if self._closed:
                raise ConsoleClosed("the console is closed")
            try:
                waiting = waiting[os.write(self._fd, waiting) :]
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                self.close()
                raise ConsoleClosed(f"the console is gone: {error.strerror}") from error

    async def wait_closed(self, timeout: float = 30) -> None:
        """Return when the other end is gone."""
        try:
            async with asyncio.timeout(timeout):
                while not self._closed:
                    await self._more()
        except ConsoleClosed:
            return
        except TimeoutError:
            raise ConsoleTimeout(f"the console is still open after {timeout} s") from None

    async def _send(self, command: str) -> bytes:
        if "\n" in command or len(command.encode()) > LONGEST_COMMAND:
            raise ValueError("a command is one line of at most 3900 bytes")
        self._count += 1
        token = f"{self._nonce}-{self._count}"
        # The newline in front ends whatever half line the guest may hold.
        await self.write(f"\n@{token} {command} #{token}\n".encode())
        return token.encode()

    async def _find(self, pattern: re.Pattern[bytes], start: int = 0) -> re.Match[bytes]:
        while True:
            found = pattern.search(self._seen, start)
            if found:
                return found
            await self._more()

    async def _more(self) -> None:
        """Wait until something came. Raises `ConsoleClosed` when nothing will."""
        if self._closed:
            raise ConsoleClosed(f"the console is gone; the guest said: {self.transcript}")
        self._news.clear()
        await self._news.wait()

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO and not isinstance(error, ConnectionError):
                raise
            data = b""
        if data:
            self._seen += data
            self._news.set()
        else:
            self.close()

    async def _writable(self) -> None:
        ready = asyncio.Event()
        self._loop.add_writer(self._fd, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_writer(self._fd)


class SyncConsole:
    """`GuestConsole` for code without an event loop: the same calls, each waiting for its end."""

    def __init__(self, address: str | Path) -> None:
        """Connect to a unix socket or a pty. Raises OSError when there is nobody."""
        self._runner = asyncio.Runner()
        try:
            self._console = self._runner.run(GuestConsole.connect(address))
        except BaseException:
            self._runner.close()
            raise

    def __enter__(self) -> SyncConsole:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """See `GuestConsole.close`."""
        self._console.close()
        self._runner.close()

    def wait_ready(self, timeout: float = 60) -> None:
        """See `GuestConsole.wait_ready`."""
        self._do(self._console.wait_ready(timeout))

    def run(self, command: str, timeout: float = 30) -> Result:
        """See `GuestConsole.run`."""
        return self._do(self._console.run(command, timeout))

    def check(self, command: str, timeout: float = 30) -> str:
        """See `GuestConsole.check`."""
        return self._do(self._console.check(command, timeout))

    def send(self, command: str) -> None:
        """See `GuestConsole.send`."""
        self._do(self._console.send(command))

    def wait_closed(self, timeout: float = 30) -> None:
        """See `GuestConsole.wait_closed`."""
        self._do(self._console.wait_closed(timeout))

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._runner.run(work)
