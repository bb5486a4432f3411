"""Keeps the heap of a process that stays for months from going to pieces.

glibc takes large pieces of memory from the kernel and gives them back whole, but after the first that is
freed takes pieces of that size from its heap, too. Each read of a socket is such a piece for a moment
(asyncio has room for 256 KiB), and what is kept of it, or made meanwhile, stays in the middle of that room.
"""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 128 * 1024
"""glibc's own limit at a program's start; set by hand it stays."""


def settle() -> None:
    """Have large pieces never come from the heap. Nothing to do with a C library that is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
