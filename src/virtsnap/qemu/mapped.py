"""A memory image that QEMU maps instead of reading: the guest's pages come when they are touched.

The image is the file of the new QEMU's memory, mapped privately (copy-on-write), so what the guest writes is
its own and the file stays as it is. What the migration stream then has to bring is the rest: device state
and the small blocks (video memory, firmware). For that it gets a copy of the image without the guest's
pages, in memory and not on disk, whose bitmap says that none is there.

Only with QEMU 9.0 to 10.0, until the code of a later one was read and tried: it may take "not there" for
"zero" and wipe what is mapped. What is not here: the choice (`plan.revert`), QEMU's command line (`machine`).

Leftovers: when a guest runs on and clears a page that was written already, QEMU takes its bit out of the
bitmap and leaves its bytes in the file. Who reads the image passes them over; who maps it would find them
where the guest has zeros. So they are taken out of the file (`clear_leftovers`), and an image that has some,
of whoever wrote it, is not mapped.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator

from virtsnap.formats.mapped_ram import RamBlock, ram_blocks
from virtsnap.formats.save_image import SaveFormat, SaveImageHeader
from virtsnap.model.errors import Damaged, SystemRefused
from virtsnap.model.facts import MappedMemory
from virtsnap.qemu.extents import extents

RAM = "pc.ram"
"""QEMU's name of the block that the guest takes for its memory."""

READ_VARIABLE = "VIRTSNAP_READ_MEMORY"
"""Set in the environment, memory images are read and not mapped: for storage that may go away."""

_FIRST, _BEFORE = (9, 0), (10, 1)
_COPY_BYTES = 1 << 20
_PUNCH_HOLE = 0x02 | 0x01
"""fallocate(2): FALLOC_FL_PUNCH_HOLE, which needs FALLOC_FL_KEEP_SIZE."""
_FICLONE = 0x40049409
"""ioctl_ficlone(2): the blocks of one file become those of another as well."""


def mappable(path: str, header: SaveImageHeader, version: tuple[int, ...]) -> MappedMemory | None:
    """Where a QEMU of this version finds the guest's pages in an image; None: it has to read it."""
    if (
        os.environ.get(READ_VARIABLE)
        or header.format is not SaveFormat.SPARSE
        or not _FIRST <= version < _BEFORE
    ):
        return None
    with open(path, "rb") as file:
        try:
            block = _ram(_blocks(file.fileno(), header.stream_offset))
        except Damaged:
            return None  # loading it will say what is wrong
        if file.seek(0, os.SEEK_END) < block.pages_offset + block.length:
            return None
        # What a file system puts around data, to fill its own larger blocks, is zero.
        if any(any(os.pread(file.fileno(), end - at, at)) for at, end in _unsaid(file.fileno(), block)):
            return None
    return MappedMemory(path, block.pages_offset, block.length)


def own_copy(path: str) -> int:
    """A descriptor of a file without a name that shares its blocks with `path`, to be mapped in its place.

    It costs no room, and whatever happens to `path` does not reach it. It goes with its last user. Raises
    OSError where the file system cannot do that (most of ext4's kind; XFS and Btrfs can).
    """
    with open(path, "rb") as source:
        folder = os.path.dirname(os.path.abspath(path))
        target = os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        try:
            share_blocks(source.fileno(), target)
            return os.open(f"/proc/self/fd/{target}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(target)


def share_blocks(source: int, target: int) -> None:
    """Give one open file the content of another without copying it. Raises OSError."""
    fcntl.ioctl(target, _FICLONE, source)


def open_state(path: str, header: SaveImageHeader) -> int:
    """A descriptor, to read from, of the image without the guest's pages. The caller closes it.

    Raises SystemRefused when the image cannot be read, Damaged when it is none of pages at fixed offsets.
    """
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SystemRefused(f"Failed to open file '{path}': {error.strerror}") from error
    try:
        ram = _ram(_blocks(source, header.stream_offset))
        target = os.memfd_create("virtsnap-state", os.MFD_CLOEXEC)
        try:
            size = os.fstat(source).st_size
            os.ftruncate(target, size)
            for start, end in ((0, ram.bitmap_offset), (ram.pages_offset + ram.length, size)):
                _copy(source, target, start, end)
            # QEMU takes from a set only a descriptor of exactly the access mode that it wants.
            return os.open(f"/proc/self/fd/{target}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(target)
    except OSError as error:
        raise SystemRefused(f"Failed to read file '{path}': {error.strerror}") from error
    finally:
        os.close(source)


def clear_leftovers(descriptor: int, stream_offset: int) -> int:
    """Make holes of the pages that a file holds and its bitmaps do not name; how many.

    Raises OSError, and Damaged when it is none of pages at fixed offsets.
    """
    count = 0
    for block in _blocks(descriptor, stream_offset):
        for at, end in _unsaid(descriptor, block):
            _make_hole(descriptor, at, end - at)
            count += 1
    return count


def _unsaid(descriptor: int, block: RamBlock) -> Iterator[tuple[int, int]]:
    bitmap = os.pread(descriptor, block.bitmap_length, block.bitmap_offset)
    # All extents first: to make holes moves them.
    found = list(extents(descriptor, block.pages_offset, block.pages_offset + block.length))
    return block.unsaid(bitmap, found)


def _make_hole(descriptor: int, at: int, length: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    offset, size = ctypes.c_int64(at), ctypes.c_int64(length)
    if libc.fallocate64(ctypes.c_int(descriptor), ctypes.c_int(_PUNCH_HOLE), offset, size) == 0:
        return
    if ctypes.get_errno() != errno.EOPNOTSUPP:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.pwrite(descriptor, bytes(length), at)


def _blocks(descriptor: int, stream_offset: int) -> tuple[RamBlock, ...]:
    return ram_blocks(lambda at, length: os.pread(descriptor, length, at), stream_offset)


def _ram(blocks: tuple[RamBlock, ...]) -> RamBlock:
    for block in blocks:
        if block.name == RAM:
            return block
    raise Damaged(f"the memory image has no block '{RAM}'")


def _copy(source: int, target: int, start: int, end: int) -> None:
    """What the file holds between two offsets; holes stay holes."""
    for at, stop in extents(source, start, end):
        while at < stop:
            data = os.pread(source, min(_COPY_BYTES, stop - at), at)
            if not data:
                return
            at += os.pwrite(target, data, at)
