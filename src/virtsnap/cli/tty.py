"""This terminal joined to a serial line: every byte both ways, until the escape character.

Raw mode is left again whatever happens. What is not here: finding the line (`commands.console`).
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable

from virtsnap.cli.errors import CliError

_CHUNK = 4096


def escape_byte(escape: str) -> int:
    """The byte that a terminal sends for `^]` or for a plain character."""
    if escape.startswith("^") and len(escape) == 2:
        return ord(escape[1].upper()) & 0x1F
    return ord(escape)


def open_line(path: str) -> int:
    """A descriptor of a pty's path or of `unix:PATH`, not blocking. Raises CliError."""
    try:
        if path.startswith("unix:"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.connect(path[5:])
                sock.setblocking(False)
                return sock.detach()
        return os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CliError(f"unable to open console {path}: {error.strerror}") from error


async def passthrough(line: int, escape: str, started: Callable[[], Awaitable[None]] | None = None) -> None:
    """Copy bytes between this terminal and `line`, which is closed at the end.

    `started` runs when the terminal is ready. Ends at the escape character, at the end of stdin and when
    the guest's side goes away.
    """
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal)
        pump = _Pump(line, terminal, sys.stdout.fileno(), escape_byte(escape))
        pump.start()
        try:
            if started is not None:
                await started()
            await pump.finished
        finally:
            pump.stop()
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
        os.close(line)


class _Pump:
    """The two directions, driven by the event loop's readiness callbacks."""

    def __init__(self, line: int, keyboard: int, screen: int, escape: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._line = line
        self._keyboard = keyboard
        self._screen = screen
        self._escape = escape
        self._waiting = b""
        self.finished: asyncio.Future[None] = self._loop.create_future()

    def start(self) -> None:
        self._loop.add_reader(self._keyboard, self._from_keyboard)
        self._loop.add_reader(self._line, self._from_line)

    def stop(self) -> None:
        self._loop.remove_reader(self._keyboard)
        self._loop.remove_reader(self._line)
        self._loop.remove_writer(self._line)

    def _end(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)

    def _from_keyboard(self) -> None:
        data = os.read(self._keyboard, _CHUNK)
        keys, escape, _ = data.partition(bytes([self._escape]))
        self._waiting += keys
        # At once, so that what stands before the escape character is sent too. But no waiting for a
        # guest that does not read: the escape character must always work.
        self._to_line()
        if escape or not data:
            self._end()

    def _to_line(self) -> None:
        try:
            if self._waiting:
                self._waiting = self._waiting[os.write(self._line, self._waiting) :]
        except BlockingIOError:
            pass  # Called again when there is room.
        except OSError:
            self._end()  # The guest's side is gone: nobody is left to read it.
            return
        if self._waiting:
            self._loop.add_writer(self._line, self._to_line)
        else:
            self._loop.remove_writer(self._line)

    def _from_line(self) -> None:
        try:
            data = os.read(self._line, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # EIO is how a pty says that its other side was closed.
        if not data:
            self._end()
        while data:
            data = data[os.write(self._screen, data) :]
