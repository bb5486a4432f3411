"""Starts the user's own daemon when it does not run. It leaves by itself when nobody needs it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile

from virtsnap.model.errors import SystemRefused

IDLE_SECONDS = 120
_START_SECONDS = 20.0


async def start_daemon(path: str) -> None:
    """Return when it serves, as it says itself, or has given up. Raises SystemRefused if nothing starts."""
    words = [sys.executable, "-P", "-m", "virtsnap.daemon.main"]
    with (
        tempfile.TemporaryDirectory(prefix="virtsnap-") as scratch,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as ready,
    ):
        ready.bind(f"{scratch}/notify")
        try:
            # Not asyncio's: it outlives the loop.
            process = subprocess.Popen(  # noqa: ASYNC220
                [*words, "--session", "--socket", path, "--timeout", str(IDLE_SECONDS)],
                env=os.environ | {"NOTIFY_SOCKET": f"{scratch}/notify"},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise SystemRefused(f"cannot start virtsnapd: {error.strerror}") from error
        try:
            async with asyncio.timeout(_START_SECONDS):
                await _ready_or_gone(ready, process.pid)
        except TimeoutError as error:
            raise SystemRefused("virtsnapd does not start: Connection timed out") from error
        finally:
            if process.poll() is None:
                process.returncode = 0  # it is nobody's child to wait for: it goes on when we have ended


async def _ready_or_gone(ready: socket.socket, pid: int) -> None:
    """One that is gone has met another, which somebody else has just started; or whoever connects is told."""
    loop = asyncio.get_running_loop()
    heard = asyncio.ensure_future(loop.sock_recv(ready, 4096))
    gone = asyncio.Event()
    descriptor = os.pidfd_open(pid)
    loop.add_reader(descriptor, gone.set)
    ended = asyncio.ensure_future(gone.wait())
    try:
        await asyncio.wait({heard, ended}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        heard.cancel()
        ended.cancel()
        await asyncio.wait({heard, ended})
