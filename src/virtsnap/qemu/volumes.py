"""Making and resizing the image files of storage pools. Nothing is left of one that could not be made.

Not here: who may (`service.storage`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator

from virtsnap.model.errors import Refused, SystemRefused
from virtsnap.model.storage import Volume, VolumeRequest
from virtsnap.qemu import images
from virtsnap.qemu.paths import sync_file, sync_folder_of

_MODE = 0o600
_PIECE = 1 << 20


async def create(path: str, wish: VolumeRequest, *, metadata: bool = False) -> None:
    """An empty volume at `path`, durable on return. `metadata`: a qcow2 image has all its tables at once.

    Raises SystemRefused, and Failed with what qemu-img says.
    """
    with _made(path, wish):
        if wish.format == "raw":
            await asyncio.to_thread(_fill, path, wish.capacity, wish.allocation)
            return
        options = _options(wish)
        if metadata:
            whole = wish.allocation is None or wish.allocation >= wish.capacity
            options.append(f"preallocation={'falloc' if whole else 'metadata'}")
        size = [str(wish.capacity)] if wish.capacity else []
        below = _below(wish, "-b", "-F")
        # An image that is in use elsewhere can be stood on: it is not opened where the size is known.
        unsafe = ["-u"] if below and size else []
        await images.run(
            "qemu-img", "create", "-q", *unsafe, "-f", wish.format, *below, *_joined(options), path, *size
        )


async def clone(path: str, wish: VolumeRequest, source: Volume) -> None:
    """A volume with the content of another one, at least as large. Raises as `create` does."""
    with _made(path, wish):
        formats = "-f", source.format, "-O", wish.format
        below = _below(wish, "-B", "-F")
        await images.run(
            "qemu-img", "convert", "-q", *formats, *below, *_joined(_options(wish)), source.path, path
        )
        if wish.capacity > source.capacity:
            await images.run("qemu-img", "resize", "-q", "-f", wish.format, path, str(wish.capacity))


async def resize(volume: Volume, capacity: int, *, shrink: bool, allocate: bool) -> None:
    """`allocate`: take the room of a raw file now. Raises as `create` does."""
    if allocate:
        try:
            await asyncio.to_thread(_fill, volume.path, capacity, capacity)
        except OSError as error:
            os.truncate(volume.path, volume.capacity)
            raise _refused(f"cannot allocate {capacity} bytes in file '{volume.path}'", error) from error
        return
    option = ["--shrink"] if shrink else []
    await images.run("qemu-img", "resize", "-q", "-f", volume.format, *option, volume.path, str(capacity))


async def wipe(path: str) -> None:
    """Nothing of what it holds can be read any more; a sparse file stays sparse. Raises SystemRefused."""
    try:
        await asyncio.to_thread(_zero, path)
    except OSError as error:
        raise _refused(f"Failed to wipe storage volume with path '{path}'", error) from error


def _zero(path: str) -> None:
    with open(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW), "r+b") as file:
        status = os.fstat(file.fileno())
        if status.st_blocks * 512 < status.st_size:
            file.truncate(0)
            file.truncate(status.st_size)
        else:
            left, zeros = status.st_size, bytes(_PIECE)
            while left > 0:
                left -= file.write(zeros[:left])
        file.flush()
        os.fsync(file.fileno())


def _options(wish: VolumeRequest) -> list[str]:
    found = {
        "compat": wish.compat,
        "cluster_size": wish.cluster_size,
        "lazy_refcounts": "on" if wish.lazy_refcounts else None,
        "extended_l2": "on" if wish.extended_l2 else None,
        "nocow": "on" if wish.nocow and wish.format != "raw" else None,
    }
    return [f"{name}={value}" for name, value in found.items() if value is not None]


def _joined(options: list[str]) -> list[str]:
    return ["-o", ",".join(options)] if options else []


def _below(wish: VolumeRequest, path_option: str, format_option: str) -> list[str]:
    if wish.backing is None:
        return []
    return [path_option, wish.backing, format_option, wish.backing_format or "raw"]


@contextlib.contextmanager
def _made(path: str, wish: VolumeRequest) -> Iterator[None]:
    """A new empty file for the block to fill; it goes away again when that raises."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
    except OSError as error:
        raise _refused(f"cannot create file '{path}'", error) from error
    try:
        yield
        os.chmod(path, _MODE if wish.mode is None else wish.mode)
        if wish.owner is not None or wish.group is not None:
            owner, group = (-1 if one is None else one for one in (wish.owner, wish.group))
            os.chown(path, owner, group)
        sync_file(path)
        sync_folder_of(path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if isinstance(error, OSError):
            raise _refused(f"cannot create file '{path}'", error) from error
        raise


def _fill(path: str, capacity: int, allocation: int | None) -> None:
    with open(path, "r+b") as file:
        file.truncate(capacity)
        now = capacity if allocation is None else min(allocation, capacity)
        if now:
            os.posix_fallocate(file.fileno(), 0, now)


def _refused(what: str, error: OSError) -> Refused:
    return SystemRefused(f"{what}: {error.strerror}")
