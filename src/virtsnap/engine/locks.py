"""One process at a time changes a domain: a lock file per domain, held with flock(2).

The kernel lets go of it when the holder dies, however it dies. The file says who holds it, for the message
of the one who waits. What is not here: the slots of a daemon that serves many clients in one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from virtsnap.model.errors import ErrorCode, Refused

_POLL_SECONDS = 0.02
DEFAULT_WAIT_SECONDS = 30.0
"""libvirt's own limit for its state change lock."""


class LockTimeout(Refused):
    """Another process changes the domain (code 68)."""

    code = ErrorCode.OPERATION_TIMEOUT


class DomainLock:
    """The lock of one domain. Not reentrant."""

    def __init__(self, root: Path, uuid: str) -> None:
        self._path = root / "lock" / f"{uuid}.lock"
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """By this object."""
        return self._descriptor is not None

    def try_acquire(self) -> bool:
        """Take the lock if it is free."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder().encode(), 0)
        self._descriptor = descriptor
        return True

    def holder(self) -> str:
        """Who holds it, as that process wrote it down."""
        try:
            return self._path.read_text(errors="replace").strip() or "another process"
        except FileNotFoundError:
            return "another process"

    def release(self) -> None:
        """Let go. Quiet when it is not held."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    @contextlib.asynccontextmanager
    async def acquired(self, timeout: float = DEFAULT_WAIT_SECONDS) -> AsyncIterator[None]:
        """Hold the lock in the block; wait for it up to `timeout` seconds. Raises LockTimeout."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        # flock has no readiness event: waiting means asking again.
        while not self.try_acquire():
            if loop.time() >= deadline:
                raise LockTimeout(f"cannot acquire state change lock (held by {self.holder()})")
            await asyncio.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            self.release()


def holder() -> str:
    """This process, for people: pid and command."""
    command = " ".join([os.path.basename(sys.argv[0]) or "python", *sys.argv[1:]])
    return f"pid {os.getpid()}: {command[:200]}"
