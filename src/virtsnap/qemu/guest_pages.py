"""How the kernel maps a guest's memory, seen to from outside: before a background snapshot and after it.

Both cost the guest nothing and spare it milliseconds for each GiB while it stands still (ADR 0010). Where
they are not possible nothing happens, since nothing depends on them.

`touch`, before. QEMU protects only pages that are mapped, so it reads one byte of each while the guest stands
still. What was never touched, or is swapped out, has to be mapped or brought in first: that is done here,
from outside (process_vm_readv(2) maps what it reads), while the guest runs.

`mend`, after. QEMU asks the kernel for huge pages (2 MiB on x86). A background snapshot gives back page by
page what it had protected, and with that the kernel maps the memory by small pages: the guest is slower
from then on, and takes longer to protect. The kernel repairs that by itself, but in hours.
process_madvise(2) with MADV_COLLAPSE (Linux 6.1, CAP_SYS_NICE) does it in a fifth of a second a GiB. Only
ranges are put together whose pages are all there, so that it takes no memory that was not in use.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

_PROCESS_MADVISE = 440
"""The number of the system call, on every architecture; there is no other way to it from Python."""
_MADV_COLLAPSE = 25
_ENTRY_BYTES = 8
_IN_MEMORY = 0x81
"""The highest byte of an entry of /proc/PID/pagemap: present, and nobody else's (so not the zero page)."""
_PRESENT = bytes(value & 0x80 and 1 for value in range(256))
"""For bytes.translate: 1 where that byte says 'present'."""
_ONLY_HERE = (errno.EAGAIN, errno.EBUSY, errno.ENOMEM)
_MOST_BYTES = 64 << 20
"""Put together by one call, which nothing interrupts."""
_MOST_VECTORS = 1024
_SIZE_FILE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def touch(pid: int) -> int:
    """Map what is not mapped of the guest's memory of a QEMU; how many reads that took."""
    count = 0
    with contextlib.suppress(OSError, ValueError):
        addresses: list[int] = []
        for at in _absent(pid, int(_SIZE_FILE.read_text())):
            addresses.append(at)
            if len(addresses) == _MOST_VECTORS:
                count += _read_bytes(pid, addresses)
                addresses = []
        count += _read_bytes(pid, addresses)
    return count


def mend(pid: int) -> int:
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


def _absent(pid: int, size: int) -> Iterator[int]:
    """An address in each page to be mapped, huge where that can be."""
    page = os.sysconf("SC_PAGE_SIZE")
    for at, entries in _entries(pid, size, page):
        for number in missing(entries, size // page):
            yield at + number * page


def _apart(pid: int, size: int) -> Iterator[tuple[int, int]]:
    """Address and end of what could be huge pages, all of it in memory."""
    page = os.sysconf("SC_PAGE_SIZE")
    for at, entries in _entries(pid, size, page):
        for first, last in whole(entries, size // page):
            yield at + first * page, at + last * page


def _entries(pid: int, size: int, page: int) -> Iterator[tuple[int, bytes]]:
    """An address, and the entries of /proc/PID/pagemap from there on, for all of the guest's memory."""
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for start, end in eligible(Path(f"/proc/{pid}/smaps").read_text(), size):
            for at in range(start, end, _MOST_BYTES):
                length = (min(at + _MOST_BYTES, end) - at) // page * _ENTRY_BYTES
                yield at, os.pread(pagemap.fileno(), length, at // page * _ENTRY_BYTES)


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


def missing(entries: bytes, pages: int) -> Iterator[int]:
    """Numbers of pages that are not mapped; of a range (`pages` pages) that is not at all only the first."""
    present = entries[_ENTRY_BYTES - 1 :: _ENTRY_BYTES].translate(_PRESENT)
    for first in range(0, len(present), pages):
        within = present[first : first + pages]
        if not any(within):
            yield first
            continue
        at = within.find(0)
        while at >= 0:
            yield first + at
            at = within.find(0, at + 1)


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


def _read_bytes(pid: int, addresses: list[int]) -> int:
    """Read one byte at each address. Raises OSError."""
    if not addresses:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.process_vm_readv.restype = ctypes.c_ssize_t
    buffer = ctypes.create_string_buffer(len(addresses))
    here = _Vector(ctypes.addressof(buffer), len(addresses))
    there = (_Vector * len(addresses))(*(_Vector(at, 1) for at in addresses))
    done = libc.process_vm_readv(
        ctypes.c_int(pid),
        ctypes.byref(here),
        ctypes.c_ulong(1),
        there,
        ctypes.c_ulong(len(addresses)),
        ctypes.c_ulong(0),
    )
    return _checked(done)


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
    if done < 0 and ctypes.get_errno() in _ONLY_HERE:
        return 0
    return _checked(done)


def _checked(done: int) -> int:
    if done < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return done
