"""What the host's cache has of a file, and how to have nothing of it there."""

from __future__ import annotations

import ctypes
import os

from lab.packages import LabError

_CACHESTAT = 451
"""The number of the system call (Linux 6.5)."""
_TRIES = 100
"""A page that somebody holds for a moment stays."""


class _Range(ctypes.Structure):
    """struct cachestat_range."""

    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Stat(ctypes.Structure):
    """struct cachestat: numbers of pages."""

    _fields_ = tuple(
        (name, ctypes.c_uint64) for name in ("cache", "dirty", "writeback", "evicted", "recently_evicted")
    )


def cached(path: str, start: int = 0, end: int | None = None) -> int:
    """Bytes between two offsets that are there, or being read. Raises `LabError` where nobody tells."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = _Stat()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        which = _Range(start, (os.fstat(descriptor).st_size if end is None else end) - start)
        done = libc.syscall(
            ctypes.c_long(_CACHESTAT),
            ctypes.c_uint(descriptor),
            ctypes.byref(which),
            ctypes.byref(found),
            ctypes.c_uint(0),
        )
    finally:
        os.close(descriptor)
    if done < 0:
        raise LabError(f"the kernel does not tell what is in its cache: {os.strerror(ctypes.get_errno())}")
    return int(found.cache) * os.sysconf("SC_PAGE_SIZE")


def drop(path: str) -> None:
    """Let go of all of it. Raises `LabError` while it is mapped, and where files are in memory anyway."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
        for _ in range(_TRIES):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            if not cached(path):
                return
    finally:
        os.close(descriptor)
    raise LabError(f"{path}: what is in the cache stays there")


def fetch(path: str) -> None:
    """Have all of it there."""
    with open(path, "rb") as file:
        while file.read(1 << 20):
            pass
