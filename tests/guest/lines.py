"""Serial lines of guests that call: a socket on which every new QEMU of a domain connects.

Whose line it is says the kernel (the peer's pid), so two QEMUs of one domain, as in the middle of a revert,
are never mistaken for each other.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import tempfile
from pathlib import Path

from lab.console import GuestConsole

_CREDENTIALS = struct.Struct("iII")


class Lines:
    """Listens at `path` from the first to the last."""

    def __init__(self) -> None:
        # Not in the test's folder: a socket's path may have 107 bytes, and it is no file of the guest's.
        self._folder = tempfile.TemporaryDirectory(prefix="virtsnap-line-")
        self.path = Path(self._folder.name) / "line"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.bind(str(self.path))
        self._socket.listen(16)
        self._lines: dict[int, GuestConsole] = {}
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        try:
            line, _ = self._socket.accept()
        except BlockingIOError:
            return
        pid, _, _ = _CREDENTIALS.unpack(
            line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if (old := self._lines.pop(pid, None)) is not None:
            old.close()
        self._lines[pid] = GuestConsole(line.detach())
        self._news.set()

    async def of_process(self, pid: int) -> GuestConsole:
        """The line of that QEMU, once it has called."""
        async with asyncio.timeout(30):
            while pid not in self._lines:
                self._news.clear()
                await self._news.wait()
        return self._lines[pid]

    def close(self) -> None:
        """Let go of all lines. The guests do not notice. Quiet when it was done before."""
        for console in self._lines.values():
            console.close()
        self._lines.clear()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._folder.cleanup()
