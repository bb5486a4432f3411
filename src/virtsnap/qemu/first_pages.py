"""What a guest touches of its memory image first, noted once and asked for ahead the next time (ADR 0011).

The kernel tells which pages a QEMU has touched of the image that it maps. The record is an extended attribute
of the image, so it belongs to the image alone: it is as secret, goes and moves with it, a hard link has it
too, and no crash can leave it behind. Where a file system has no attributes there is no record, and nothing
depends on one. What is not here: when to look (`engine.first_pages`), the value's bytes (`formats`).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from virtsnap.formats import first_pages
from virtsnap.formats.first_pages import FirstPages, Range
from virtsnap.model.errors import Damaged
from virtsnap.model.facts import MappedMemory

ATTRIBUTE = "user.virtsnap.first-pages"

_ENTRY_BYTES = 8
_LOOK_BYTES = 64 << 20
"""Of memory, whose entries are read at once."""
_PIECE = 128 << 10
"""One call of POSIX_FADV_WILLNEED reads no more than the device's read-ahead: that, nearly everywhere."""


def noted(path: str) -> FirstPages | None:
    """The record of an image; None: there is none, or it is of an older content of the file, or garbled."""
    try:
        record = first_pages.decode(os.getxattr(path, ATTRIBUTE))
        status = os.stat(path)
    except (OSError, Damaged):
        return None
    return record if (record.size, record.changed_ns) == (status.st_size, status.st_mtime_ns) else None


def note(pid: int, memory: MappedMemory, seconds: float) -> None:
    """Look at what a QEMU has touched of its image, and keep it unless it is too much to be of use.

    `seconds`: for how long the guest has run. Raises OSError where the kernel or the file system refuses.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    status = os.stat(memory.path)
    marks = _marks(pid, memory, status.st_ino, page)
    _keep(memory.path, status, seconds, first_pages.touched(marks, page))


def pass_on(path: str, younger: str) -> None:
    """What a guest that came from one image has written into another is at the same places there.

    So the record, if there is one, is the other's too, until somebody has looked. Raises OSError as `note`.
    """
    record = noted(path)
    if record is not None:
        _keep(younger, os.stat(younger), 0, record.ranges)


def ask(memory: MappedMemory) -> threading.Thread | None:
    """Have the kernel read what the record of an image names, while others go on; None: there is none.

    It ends with its process at the latest, and nobody has to wait for it.
    """
    record = noted(memory.path)
    if record is None:
        return None
    thread = threading.Thread(target=_ask, args=(memory, record.ranges), name="first-pages", daemon=True)
    thread.start()
    return thread


def _keep(path: str, status: os.stat_result, seconds: float, ranges: tuple[Range, ...]) -> None:
    value = first_pages.encode(FirstPages(status.st_size, status.st_mtime_ns, seconds, ranges))
    if value is not None:
        os.setxattr(path, ATTRIBUTE, value)


def _ask(memory: MappedMemory, ranges: tuple[Range, ...]) -> None:
    # The file may be gone by now, and a file system may have no cache to read into.
    with contextlib.suppress(OSError):
        descriptor = os.open(memory.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for start, end in ranges:
                for at in range(memory.offset + start, memory.offset + end, _PIECE):
                    length = min(_PIECE, memory.offset + end - at)
                    os.posix_fadvise(descriptor, at, length, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)


def _marks(pid: int, memory: MappedMemory, inode: int, page: int) -> bytes:
    """A byte for each page of the guest's memory, 1 where it is touched; none when too many are."""
    marks = bytearray(memory.length // page)
    left = first_pages.MOST_BYTES // page
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for start, end, offset in _mappings(Path(f"/proc/{pid}/maps").read_text(), inode):
            for at in range(start, end, _LOOK_BYTES):
                count = (min(at + _LOOK_BYTES, end) - at) // page
                looked = first_pages.marks(
                    os.pread(pagemap.fileno(), count * _ENTRY_BYTES, at // page * _ENTRY_BYTES)
                )
                left -= looked.count(1)
                if left < 0:
                    return b""
                first = (offset + at - start - memory.offset) // page
                marks[first : first + count] = looked
    return bytes(marks)


def _mappings(maps: str, inode: int) -> Iterator[tuple[int, int, int]]:
    """Address, end and offset in the file of all mappings of a file (proc_pid_maps(5))."""
    for line in maps.splitlines():
        addresses, _, offset, _, number, *_ = line.split(None, 5)
        if int(number) == inode:
            start, end = addresses.split("-")
            yield int(start, 16), int(end, 16), int(offset, 16)
