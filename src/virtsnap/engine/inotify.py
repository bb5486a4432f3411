"""inotify(7), of which Python's library has nothing: the kernel tells when a file changes."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

from virtsnap.model.errors import SystemRefused

MODIFY = 0x2
"""The file was written to."""
CLOSE_WRITE = 0x8
"""Somebody who could write to it let go of it, perhaps by dying."""
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_HEAD = struct.Struct("iIII")
_BYTES = 65536


class Inotify:
    """A set of watched paths, and a descriptor that is readable when one of them changed."""

    def __init__(self) -> None:
        """Raises SystemRefused: a user has so many and no more (fs.inotify.max_user_instances)."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(_FLAGS)
        if self._descriptor < 0:
            raise SystemRefused(f"cannot watch for events: {os.strerror(ctypes.get_errno())}")

    @property
    def closed(self) -> bool:
        """`close` was called."""
        return bool(self._descriptor < 0)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return int(self._descriptor)

    def add(self, path: Path | str, mask: int) -> int:
        """Watch a file, or what is in a folder; the number is in what `read` gives.

        Raises FileNotFoundError, SystemRefused.
        """
        watch = self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask)
        if watch < 0:
            code = ctypes.get_errno()
            if code == errno.ENOENT:
                raise FileNotFoundError(path)
            raise SystemRefused(f"cannot watch '{path}': {os.strerror(code)}")
        return int(watch)

    def remove(self, watch: int) -> None:
        """Watch it no more; quiet when the kernel has dropped it with the file."""
        self._libc.inotify_rm_watch(self._descriptor, watch)

    def read(self) -> list[tuple[int, str]]:
        """What changed since the last call: number of the watch, and name in the folder that is watched."""
        try:
            data = os.read(self._descriptor, _BYTES)
        except BlockingIOError:
            return []
        found, position = [], 0
        while position < len(data):
            watch, _, _, length = _HEAD.unpack_from(data, position)
            position += _HEAD.size
            found.append((watch, os.fsdecode(data[position : position + length].rstrip(b"\0"))))
            position += length
        return found

    def close(self) -> None:
        """Watch nothing any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
