"""Huge pages of a guest's memory, put together again after a background snapshot has taken them apart.

QEMU asks the kernel for huge pages (2 MiB on x86). A background snapshot gives back page by page what it had
protected, and with that the kernel maps the memory by small pages: the guest is slower from then on, and the
next snapshot holds it up for 30 ms a GiB instead of 3 (ADR 0005). The kernel repairs that by itself, but in
hours. process_madvise(2) with MADV_COLLAPSE (Linux 6.1, CAP_SYS_NICE) does it in a fifth of a second a GiB,
while the guest runs.

Only where QEMU asked for huge pages, and only ranges whose pages are all there: that takes no memory that
was not in use. Where it is not possible nothing happens, since nothing depends on it.
What is not here: memory that nobody has touched yet; small zero pages stand for it afterwards.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

_PROCESS_MADVISE = 440
"""The number of the system call, on every architecture; there is no other way to it before Python 3.15."""
_MADV_COLLAPSE = 25
_ENTRY_BYTES = 8
_IN_MEMORY = 0x81
"""The highest byte of an entry of /proc/PID/pagemap: present, and nobody else's (so not the zero page)."""
_ONLY_HERE = (errno.EAGAIN, errno.EBUSY, errno.ENOMEM)
_MOST_BYTES = 64 << 20
"""Put together by one call, which nothing interrupts."""
_SIZE_FILE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def restore(pid: int) -> int:
    """Put together what was taken apart in the memory of a QEMU; the bytes that are in huge pages again."""
    try:
        size = int(_SIZE_FILE.read_text())
        process = os.pidfd_open(pid)
    except (OSError, ValueError):
        return 0
    try:
        return sum(_collapse(process, start, end) for start, end in _apart(pid, size))
    except OSError:
        return 0  # no right to it, an older kernel, or QEMU is gone
    finally:
        os.close(process)


def _apart(pid: int, size: int) -> Iterator[tuple[int, int]]:
    """Address and end of what could be huge pages, all of it in memory."""
    page = os.sysconf("SC_PAGE_SIZE")
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for start, end in eligible(Path(f"/proc/{pid}/smaps").read_text(), size):
            for at in range(start, end, _MOST_BYTES):
                until = min(at + _MOST_BYTES, end)
                entries = os.pread(
                    pagemap.fileno(), (until - at) // page * _ENTRY_BYTES, at // page * _ENTRY_BYTES
                )
                for first, last in whole(entries, size // page):
                    yield at + first * page, at + last * page


def eligible(smaps: str, size: int) -> Iterator[tuple[int, int]]:
    """Mappings for which the process asked for huge pages and may have them, as far as those fit in."""
    start = end = 0
    may = False
    for line in smaps.splitlines():
        key, _, value = line.partition(":")
        if "-" in key and " " in key:
            low, high = key.split(" ", 1)[0].split("-")
            start, end = -(-int(low, 16) // size) * size, int(high, 16) // size * size
        elif key == "THPeligible":
            may = value.strip() == "1"
        elif key == "VmFlags" and may and "hg" in value.split() and start < end:
            yield start, end


def whole(entries: bytes, pages: int) -> Iterator[tuple[int, int]]:
    """First and last page (exclusive) of the runs of ranges, `pages` pages each, that are all in memory."""
    marks = entries[_ENTRY_BYTES - 1 :: _ENTRY_BYTES]
    begin: int | None = None
    for at in range(0, len(marks) + 1, pages):
        full = marks[at : at + pages].count(_IN_MEMORY) == pages
        if full and begin is None:
            begin = at
        elif not full and begin is not None:
            yield begin, at
            begin = None


def _collapse(process: int, start: int, end: int) -> int:
    """The bytes. Raises OSError when it is of no use to try another range."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    vector = _Vector(start, end - start)
    done = libc.syscall(
        ctypes.c_long(_PROCESS_MADVISE),
        ctypes.c_int(process),
        ctypes.byref(vector),
        ctypes.c_size_t(1),
        ctypes.c_int(_MADV_COLLAPSE),
        ctypes.c_uint(0),
    )
    if done < 0:
        number = ctypes.get_errno()
        if number in _ONLY_HERE:
            return 0
        raise OSError(number, os.strerror(number))
    return int(done)
