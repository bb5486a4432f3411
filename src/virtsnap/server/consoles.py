"""Serial lines that clients hold: one client for each, unless another one insists."""

from __future__ import annotations

import asyncio
import os
import socket

from virtsnap.model.errors import InternalRefused, OperationFailed
from virtsnap.qemu.paths import socket_address
from virtsnap.server.streams import LineSource


class Consoles:
    """Who holds what, for the whole daemon."""

    def __init__(self) -> None:
        self._held: dict[str, LineSource] = {}

    async def open(self, path: str, *, force: bool) -> LineSource:
        """Hold the line that is reached at `path`, a pty's or `unix:PATH`.

        `force`: whoever holds it loses it. Raises OperationFailed when it is held, InternalRefused when it
        cannot be opened.
        """
        holder = self._held.get(path)
        if holder is not None:
            if not force:
                raise OperationFailed("Active console session exists for this domain")
            holder.close()
        try:
            descriptor = await _open(path)
        except OSError as error:
            raise InternalRefused(f"unable to open console {path}: {error.strerror}") from error
        if path in self._held:  # somebody was faster
            if not force:
                os.close(descriptor)
                raise OperationFailed("Active console session exists for this domain")
            self._held[path].close()
        source = LineSource(descriptor, lambda: self._release(path, source))
        self._held[path] = source
        return source

    def _release(self, path: str, source: LineSource) -> None:
        if self._held.get(path) is source:
            del self._held[path]


async def _open(path: str) -> int:
    if not path.startswith("unix:"):
        return os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        with socket_address(path.removeprefix("unix:")) as address:
            await asyncio.get_running_loop().sock_connect(sock, address)
        return sock.detach()
