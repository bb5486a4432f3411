"""File descriptors that an answer brings: they follow it on the socket, each beside a byte of its own.

asyncio's streams know nothing of them, so the socket is used directly once all that was written is out.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Passed:
    """What a procedure answers that has no fields but descriptors. Who gets it closes them."""

    descriptors: tuple[int, ...]

    def close(self) -> None:
        """Close ours; the client's duplicates stay open."""
        for descriptor in self.descriptors:
            os.close(descriptor)


NOTHING = Passed(())


def can_pass(writer: asyncio.StreamWriter) -> bool:
    """Only within a host, and not through TLS."""
    sock = writer.get_extra_info("socket")
    return sock is not None and sock.family == socket.AF_UNIX and not writer.get_extra_info("ssl_object")


async def pass_on(writer: asyncio.StreamWriter, descriptors: Sequence[int]) -> None:
    """Send them behind what was written; nobody may write meanwhile. Raises ConnectionError."""
    writer.transport.set_write_buffer_limits(0)
    try:
        await writer.drain()
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as sock:
            for descriptor in descriptors:
                while not _sent(sock, descriptor):
                    await _room(sock)
    finally:
        writer.transport.set_write_buffer_limits()


def _sent(sock: socket.socket, descriptor: int) -> bool:
    try:
        return socket.send_fds(sock, [b"\0"], [descriptor]) == 1
    except BlockingIOError:
        return False


async def _room(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(sock)
