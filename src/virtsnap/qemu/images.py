"""Disk images that no QEMU has open, through qemu-img as a rule: reading, making and merging them.

Two rules. The format of an image is what the caller says, never what the content looks like: a guest can
write a qcow2 header into its raw disk, and following it would open any file of the host for that guest.
For the same reason a backing image is followed only when the overlay's header names its format. And no file
that exists is ever written over: new images are made with O_EXCL.

Paths are made absolute before qemu-img sees them, so that no name is taken for an option, a protocol
(`nbd:...`) or a `json:` description. What is not here: images of a running guest (`qemu.blocks`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from virtsnap.formats import qcow2
from virtsnap.model.errors import (
    ConfigUnsupported,
    ErrorCode,
    Failed,
    InternalRefused,
    OperationInvalid,
    SystemRefused,
    VirtsnapError,
)
from virtsnap.model.facts import ImageFacts, InternalSnapshot
from virtsnap.model.frozen import dataclass
from virtsnap.qemu.paths import sync_file, sync_folder_of

ProgressCallback = Callable[[int, int], None]
"""(done, total) in bytes."""

_WATCH_SECONDS = 0.25
_MAX_DEPTH = 200
"""libvirt's limit of a backing chain (VIR_STORAGE_MAX_CHAIN)."""
_TABLE_ENTRY_BYTES = 2048
"""Room for an entry of a qcow2 snapshot table, whose name may have 1023 bytes."""
_PROGRESS = re.compile(rb"\((\d+(?:\.\d+)?)/100%\)")


@dataclass(frozen=True)
class ImageSnapshot:
    """An internal snapshot of a qcow2 image. `vm_state_size` in bytes, `date` in seconds."""

    id: str
    name: str
    vm_state_size: int
    date: int


@dataclass(frozen=True)
class ImageInfo:
    """One image as its header tells, read as `format`. Sizes in bytes."""

    path: str
    format: str
    virtual_size: int
    actual_size: int
    """Allocated on the host's file system."""
    backing_path: str | None = None
    """Absolute; None: stands on nothing."""
    backing_format: str | None = None
    """As the header names it; None: it does not say."""
    cluster_size: int | None = None
    extended_l2: bool = False
    compat: str | None = None
    """qcow2's version: '0.10' or '1.1'."""
    snapshots: tuple[ImageSnapshot, ...] = ()
    dirty: bool = False
    corrupt: bool = False
    encrypted: bool = False
    block_device: bool = False


async def info(path: str, *, format: str, emulator_img: str = "qemu-img") -> ImageInfo:
    """What the header of an image says. Takes no lock, so that an image in use can be read too.

    Raises SystemRefused when it cannot be accessed, InternalRefused when it is not of that format.
    """
    path = os.path.abspath(path)
    status = _stat(path)
    if format == "raw":
        # There is no header to read, and its content must not be looked at.
        return _raw_info(path, status)
    # -U: a running guest's lock does not matter to a reader of the header.
    text = await run(emulator_img, "info", "-U", "--output=json", "-f", format, path)
    found: dict[str, Any] = json.loads(text)
    details: dict[str, Any] = found.get("format-specific", {}).get("data", {})
    backing = found.get("backing-filename")
    return ImageInfo(
        path=path,
        format=format,
        virtual_size=found["virtual-size"],
        actual_size=status.st_blocks * 512,
        backing_path=None if not backing else backing_file(path, backing),
        backing_format=found.get("backing-filename-format"),
        cluster_size=found.get("cluster-size"),
        extended_l2=bool(details.get("extended-l2", False)),
        compat=details.get("compat"),
        snapshots=tuple(
            ImageSnapshot(item["id"], item["name"], item["vm-state-size"], item["date-sec"])
            for item in found.get("snapshots", ())
        ),
        dirty=bool(found.get("dirty-flag", False)),
        corrupt=bool(details.get("corrupt", False)),
        encrypted=bool(found.get("encrypted", False)),
        block_device=stat.S_ISBLK(status.st_mode),
    )


def backing_file(path: str, name: str) -> str:
    """The absolute path that `name`, in the header of the image at `path`, means to QEMU.

    Raises ConfigUnsupported when it is not a file or block device of this host.
    """
    if name.startswith("json:"):
        name = _described_file(path, name)
    elif name.startswith("file:"):
        name = name.removeprefix("file:")
    elif re.match(r"[^/:]*:", name):
        raise ConfigUnsupported(f"backing store '{name}' of image '{path}' is not a file or a block device")
    joined = os.path.join(os.path.dirname(path), name)
    plain = os.path.normpath(joined)
    if plain == joined:
        return plain
    # Dropping 'x/..' is right only where x is no symbolic link.
    return plain if os.path.realpath(plain) == os.path.realpath(joined) else os.path.realpath(joined)


async def read(path: str, format: str, *, emulator_img: str = "qemu-img") -> ImageFacts:
    """What plans know of an image. A qcow2 file's header is read here; qemu-img is asked about all else.

    Raises as `info` does, and OSError.
    """
    quick = _from_header(path) if format == "qcow2" else None
    if quick is not None:
        return quick
    told = await info(path, format=format, emulator_img=emulator_img)
    return ImageFacts(
        path=path,
        format=told.format,
        virtual_size=told.virtual_size,
        actual_size=told.actual_size,
        backing=told.backing_path,
        backing_format=told.backing_format,
        cluster_size=told.cluster_size,
        extended_l2=told.extended_l2,
        block_device=told.block_device,
        tags=tuple(InternalSnapshot(x.id, x.name, x.vm_state_size) for x in told.snapshots),
    )


async def look(path: str, format: str) -> ImageFacts | ImageInfo:
    """The same; what cannot be opened is told in libvirt's words. Raises SystemRefused, InternalRefused."""
    try:
        return await read(path, format)
    except OSError:
        return await info(path, format=format)


def _from_header(path: str) -> ImageFacts | None:
    """What the header of a qcow2 file tells; None when qemu-img must be asked."""
    with open(path, "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        header = qcow2.parse(file.read(qcow2.HEADER_BYTES))
        if header is None or header.corrupt or stat.S_ISBLK(status.st_mode):
            return None
        tags: tuple[InternalSnapshot, ...] | None = ()
        if header.snapshot_count:
            table = os.pread(
                file.fileno(), header.snapshot_count * _TABLE_ENTRY_BYTES, header.snapshots_offset
            )
            tags = qcow2.parse_snapshots(table, header.snapshot_count)
    if tags is None:
        return None
    return ImageFacts(
        path=path,
        format="qcow2",
        virtual_size=header.virtual_size,
        actual_size=status.st_blocks * 512,
        backing=backing_file(path, header.backing) if header.backing is not None else None,
        backing_format=header.backing_format,
        backing_name=header.backing,
        cluster_size=header.cluster_size,
        extended_l2=header.extended_l2,
        tags=tags,
    )


async def chain(path: str, format: str, *, emulator_img: str = "qemu-img") -> tuple[ImageFacts, ...]:
    """The image and everything under it, top first.

    Raises SystemRefused for a missing image, InternalRefused for one that stands on itself, and
    OperationInvalid for a backing image whose format the header above it does not name.
    """
    found: list[ImageFacts] = []
    seen: set[tuple[int, int]] = set()
    top = os.path.abspath(path)
    at: str | None = top
    while at is not None:
        status = _stat(at, top if found else None)
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            raise InternalRefused(f"backing store for {at} ({found[-1].path}) is self-referential")
        if len(found) >= _MAX_DEPTH:
            raise InternalRefused(f"backing chain of '{path}' is deeper than {_MAX_DEPTH} images")
        seen.add(identity)
        image = await read(at, format, emulator_img=emulator_img)
        found.append(image)
        at = image.backing
        if at is not None:
            if image.backing_format is None:
                raise OperationInvalid(
                    f"format of backing image '{at}' of image '{image.path}' was not specified in the image"
                    " metadata (See https://libvirt.org/kbase/backing_chains.html for troubleshooting)"
                )
            format = image.backing_format
    return tuple(found)


async def create_overlay(
    path: str,
    *,
    format: str,
    backing_path: str,
    backing_format: str,
    size: int,
    cluster_size: int | None = None,
    extended_l2: bool | None = None,
    existing: bool = False,
    emulator_img: str = "qemu-img",
) -> None:
    """Make an empty image of `size` bytes on top of another one, with mode 0600, durable on return.

    The backing image is not opened: it may be in use. With `existing` the file (or block device) must be
    there and is formatted in place. When it fails, a file that it made is removed again.
    Raises Failed with the cause: the file exists, the disk is full...
    """
    if format == "qcow2" and not existing:
        content = qcow2.empty(
            size,
            backing=os.path.abspath(backing_path),
            backing_format=backing_format,
            cluster_size=cluster_size,
            extended_l2=bool(extended_l2),
        )
        if content is not None:
            _write_new(os.path.abspath(path), content)
            return
    options = []
    if cluster_size is not None:
        options.append(f"cluster_size={cluster_size}")
    if extended_l2:
        options.append("extended_l2=on")
    await _create(
        path,
        *("-u", "-f", format, "-b", os.path.abspath(backing_path), "-F", backing_format),
        *(("-o", ",".join(options)) if options else ()),
        size=size,
        existing=existing,
        emulator_img=emulator_img,
    )


async def create(
    path: str, *, format: str, size: int, existing: bool = False, emulator_img: str = "qemu-img"
) -> None:
    """Make an empty image of `size` bytes that stands on nothing, as `create_overlay` does."""
    await _create(path, "-f", format, size=size, existing=existing, emulator_img=emulator_img)


async def _create(path: str, *options: str, size: int, existing: bool, emulator_img: str) -> None:
    path = os.path.abspath(path)
    made = False
    try:
        if not existing:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            made = True
        await run(emulator_img, "create", "-q", *options, path, str(size))
        sync_file(path)
        sync_folder_of(path)
    except BaseException as error:
        if made:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        if isinstance(error, OSError):
            raise Failed(
                f"failed to create image file '{path}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR
            ) from error
        raise


def _write_new(path: str, content: bytes) -> None:
    """A new file with that in it, durable with its name. Raises Failed; the file is removed then."""
    made = False
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        made = True
        try:
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder_of(path)
    except OSError as error:
        if made:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        raise Failed(
            f"failed to create image file '{path}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR
        ) from error


async def copy(source: str, path: str, progress: ProgressCallback | None = None) -> None:
    """A new file with the same bytes, sparse where the source is, durable, with mode 0600.

    Raises Failed; a file that it made is removed then.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Failed(
            f"failed to create image file '{path}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR
        ) from error
    try:
        copying = run("cp", "--reflink=auto", "--sparse=always", "--", source, path)
        await (copying if progress is None else _watched(copying, source, path, progress))
        sync_file(path)
        sync_folder_of(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        raise


async def _watched(
    copying: Coroutine[Any, Any, bytes], source: str, path: str, progress: ProgressCallback
) -> None:
    """cp tells nothing of how far it is; the blocks of its file do."""
    total = os.stat(source).st_blocks * 512
    task = asyncio.create_task(copying)
    try:
        while not (await asyncio.wait({task}, timeout=_WATCH_SECONDS))[0]:
            progress(min(os.stat(path).st_blocks * 512, total), total)
        await task
    except BaseException:
        task.cancel()
        await asyncio.wait({task})
        raise
    progress(total, total)


async def commit(
    top: str,
    base: str,
    progress: ProgressCallback | None = None,
    *,
    format: str = "qcow2",
    emulator_img: str = "qemu-img",
) -> None:
    """Write the content of `top` and of all between into `base`, durable on return; `top` stays as it is.

    Afterwards `top` and what is between are of no use. It may be repeated after a crash: writing the same
    clusters again changes nothing. Raises as `chain` does, and Failed when qemu-img does.
    """
    images = await chain(top, format, emulator_img=emulator_img)
    paths = [image.path for image in images]
    base = os.path.abspath(base)
    if base not in paths[1:]:
        raise InternalRefused(f"'{base}' is not below '{top}' in its backing chain")
    above = images[: paths.index(base)]
    # qemu-img finds the base by the name that the header of the image above it has.
    await _run_with_progress(
        *(emulator_img, "commit", "-p", "-d", "-t", "writeback", "-f", format, "-b", base, paths[0]),
        total=sum(image.actual_size for image in above),
        progress=progress,
    )
    _sync(base)


async def rebase(
    path: str,
    backing: str | None,
    backing_format: str | None,
    *,
    unsafe: bool,
    format: str = "qcow2",
    progress: ProgressCallback | None = None,
    emulator_img: str = "qemu-img",
) -> None:
    """Make `path` stand on `backing` (None: on nothing), durable on return.

    `unsafe`: only the name in the header changes; right where the new file has the same content. Otherwise
    what differs is copied into `path` first, and the whole chain is read: raises as `chain` does.
    """
    path = os.path.abspath(path)
    target: tuple[str, ...] = ("-b", "") if backing is None else ("-b", os.path.abspath(backing))
    if backing is not None and backing_format is not None:
        target = (*target, "-F", backing_format)
    if unsafe:
        await run(emulator_img, "rebase", "-q", "-u", "-f", format, *target, path)
    else:
        images = await chain(path, format, emulator_img=emulator_img)
        if backing is not None:
            await chain(backing, backing_format or "raw", emulator_img=emulator_img)
        await _run_with_progress(
            *(emulator_img, "rebase", "-p", "-t", "writeback", "-f", format, *target, path),
            total=sum(image.actual_size for image in images[1:]),
            progress=progress,
        )
    _sync(path)


def _stat(path: str, top: str | None = None) -> os.stat_result:
    """stat, with libvirt's words for an image that cannot be reached."""
    try:
        status = os.stat(path)
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        return status
    except OSError as error:
        who = f"(as uid:{os.geteuid()}, gid:{os.getegid()})"
        what = (
            f"Cannot access storage file '{path}' {who}"
            if top is None
            else f"Cannot access backing file '{path}' of storage file '{top}' {who}"
        )
        raise SystemRefused(f"{what}: {error.strerror}") from error


def _raw_info(path: str, status: os.stat_result) -> ImageInfo:
    size = status.st_size
    block_device = stat.S_ISBLK(status.st_mode)
    if block_device:
        with open(path, "rb") as device:
            size = device.seek(0, os.SEEK_END)
    # QEMU shows a guest whole sectors.
    return ImageInfo(
        path=path,
        format="raw",
        virtual_size=(size + 511) // 512 * 512,
        actual_size=status.st_blocks * 512,
        block_device=block_device,
    )


def _described_file(path: str, description: str) -> str:
    """The file that a `json:` backing name means, where it means one."""
    try:
        node: Any = json.loads(description.removeprefix("json:"))
    except ValueError as error:
        raise InternalRefused(f"failed to parse JSON backing volume definition '{description}'") from error
    while isinstance(node, dict):
        name = node.get("filename", node.get("file.filename"))
        driver = node.get("driver") if "filename" in node else node.get("file.driver")
        if isinstance(name, str) and driver in ("file", "host_device", None):
            return name
        node = node.get("file")
    raise ConfigUnsupported(
        f"backing store '{description}' of image '{path}' is not a file or a block device"
    )


def _sync(path: str) -> None:
    try:
        sync_file(path)
    except OSError as error:
        raise Failed(f"cannot sync '{path}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR) from error


def _environment() -> dict[str, str]:
    """Ours, with qemu-img's messages in plain English."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def _failed(argv: Sequence[str], status: int, error: bytes) -> VirtsnapError:
    """libvirt's words for a helper program that failed."""
    text = error.decode(errors="replace").strip()
    if argv[1] == "info":
        return InternalRefused(f"Child process ({' '.join(argv)}) unexpected exit status {status}: {text}")
    return Failed(
        f"Child process ({' '.join(argv)}) unexpected exit status {status}: {text}",
        code=ErrorCode.INTERNAL_ERROR,
    )


async def _start(argv: Sequence[str]) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
        )
    except OSError as error:
        raise Failed(
            f"Cannot find '{argv[0]}' in path: {error.strerror}", code=ErrorCode.INTERNAL_ERROR
        ) from error


async def run(*argv: str) -> bytes:
    """Run to the end and return the output. A cancelled caller takes the program down with it."""
    child = await _start(argv)
    try:
        output, error = await child.communicate()
    except BaseException:
        await _end(child)
        raise
    if child.returncode:
        raise _failed(argv, child.returncode, error)
    return output


async def _run_with_progress(*argv: str, total: int, progress: ProgressCallback | None) -> None:
    """As `run`, for commands with -p; percentages become shares of `total` bytes."""
    child = await _start(argv)
    assert child.stdout is not None
    assert child.stderr is not None
    errors = asyncio.create_task(child.stderr.read())
    try:
        while True:
            # Lines end in a carriage return, so that a terminal shows them in one place.
            chunk = await child.stdout.read(4096)
            if not chunk:
                break
            shares = _PROGRESS.findall(chunk)
            if shares and progress is not None:
                progress(int(total * float(shares[-1]) / 100), total)
        error = await errors
        await child.wait()
    except BaseException:
        errors.cancel()
        await asyncio.wait({errors})
        await _end(child)
        raise
    if child.returncode:
        raise _failed(argv, child.returncode, error)


async def _end(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    # The pipes are read to their end too, else the transport is closed by the garbage collector.
    await child.communicate()
