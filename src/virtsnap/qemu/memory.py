"""A guest's memory and device state, written to a file and read from one, through QEMU's migration.

The file is libvirt's save image (`formats.save_image`): either side reads the other's. It is opened here
and handed to QEMU as a descriptor, so that it is ours (mode 0600, never one that existed), and so that
QEMU's main loop does not stall in the close of a large file. Two ways:

- SPARSE (QEMU >= 9.0, capability mapped-ram): each page has its place in the file, offsets counting from the
  start of the file as libvirt's "sparse" format has them. A page that changes meanwhile is written again in
  place, so the file is never larger than the memory in use.
- STREAM (every QEMU): one stream, libvirt's "raw" format. With `live` pages that change are sent again.

A save has four stages, in separate calls since the guest's pause should end before the disk is synced:
`save` (file with the "partial" magic), `reactivate` for a guest that stays paused, `seal` (sync, then the
magic of a whole image). A STREAM may pass through a compressor (`qemu.compress`), as libvirt's formats do:
gzip to zstd. What is not here: who pauses the guest and when (`engine`), memory written while the guest runs
on (`background`), how QEMU is told (`migration`).

QEMU's inactive disks. When a migration has completed, QEMU gives up its block nodes, for the destination to
take them, and remembers in the run state `postmigrate` that this guest has been sent off. `cont` takes
all of that back, so a guest that runs on never notices; one that stays paused does:

- QEMU >= 10.0: `blockdev-set-active` makes the nodes usable. The run state stays `postmigrate`.
- Before: nothing but `cont` does, so `reactivate` is `cont` and `stop` in one breath: the guest runs for well
  under a millisecond. Harmless for a snapshot, which is complete by then.
- A guest that was loaded and does not go on has its nodes inactive too (QEMU >= 10.0): no layer can be put on
  them or merged, until `blockdev-set-active` or `cont`.
- A guest in `postmigrate` cannot be saved again ("Can't migrate the vm that was paused due to previous
  migration"), whatever the version: `save` does the same `cont` and `stop` first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from virtsnap.formats.save_image import (
    FIXED_BYTES,
    MAGIC,
    PARTIAL_MAGIC,
    SaveFormat,
    SaveImageHeader,
    decode,
    head_length,
)
from virtsnap.model.errors import ErrorCode, Failed, NotConverged, OperationFailed, SystemRefused
from virtsnap.model.facts import MemoryWay
from virtsnap.model.frozen import dataclass
from virtsnap.qemu.compress import COMPRESSED, Filter
from virtsnap.qemu.mapped import clear_leftovers, open_state
from virtsnap.qemu.migration import (
    ProgressCallback,
    Transport,
    arrived,
    cancel_running,
    cause_of,
    finished,
    leave_postmigrate,
    migrate,
    plain_settings,
    report,
    settings,
)
from virtsnap.qemu.monitor import Monitor, MonitorLost, QmpCommandFailed
from virtsnap.qemu.paths import sync_folder_of
from virtsnap.qemu.process import read_log_tail

_MAPPED_RAM = (9, 0)
_DESCRIPTION = b"\x06"
"""QEMU_VM_VMDESCRIPTION: a length of four bytes and JSON follow (QEMU's docs/devel/migration)."""
_TAIL_BYTES = 4 << 20


@dataclass(frozen=True)
class Saved:
    """What a save cost. `bytes`: allocated for the file; `downtime_ms`: as QEMU counts it, the guest's pause
    that the migration itself caused."""

    bytes: int
    seconds: float
    way: MemoryWay
    downtime_ms: int


def format_of(way: MemoryWay) -> SaveFormat:
    """libvirt's image format that a way writes."""
    return SaveFormat.SPARSE if way.sparse else SaveFormat.RAW


def choose_way(version: tuple[int, ...]) -> MemoryWay:
    """The best way that a QEMU of this version has."""
    return MemoryWay.SPARSE if version >= _MAPPED_RAM else MemoryWay.STREAM


async def save(
    monitor: Monitor,
    *,
    path: str,
    xml: str,
    cookie: str | None = None,
    was_running: bool,
    way: MemoryWay,
    live: bool,
    compression: SaveFormat | None = None,
    channels: int = 0,
    direct: bool = False,
    gives_up: bool = False,
    job: str = "snapshot",
    progress: ProgressCallback | None = None,
    afterwards: contextlib.AsyncExitStack | None = None,
) -> Saved:
    """Write memory and device state to a new file, which stays marked as partial until `seal`.

    `live=False`: the caller has paused the guest. `live=True`: the guest runs while memory is copied, and
    QEMU stops it at the end, or we do when it changes its memory faster than that is written. Either way it
    is stopped on return and its disks may be inactive (see the module's text). When it fails, or is
    cancelled, the file is gone and the guest is as it was before: a paused one can go on, a live one runs.

    `compression` (with STREAM): through that program. `channels` (with SPARSE): that many of QEMU's threads
    write at once; `direct`: they pass the host's cache by. `gives_up`: see `migration.finished`.
    `afterwards`: gets QEMU's settings to put back, for a caller who first lets the guest run again.

    `way`: a plain one. Raises Failed: "Failed to create file ..." (code 38), "job 'snapshot' failed: ..."
    with QEMU's cause.
    """
    header = SaveImageHeader(xml, cookie, was_running, compression or format_of(way))
    descriptor = create_file(path)
    filter = None
    try:
        write_head(descriptor, path, header)
        if not live:
            await leave_postmigrate(monitor)
        if compression is not None:
            filter = await Filter.start(compression, descriptor, writing=True)
        transport = Transport(descriptor, path, header.stream_offset, filter, direct)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(settings(monitor, way, channels, direct))
            listener = await stack.enter_async_context(monitor.events("MIGRATION"))
            try:
                await stack.enter_async_context(migrate(monitor, "migrate", transport))
                status = await finished(monitor, listener, progress, live=live, gives_up=gives_up)
            except (asyncio.CancelledError, NotConverged):
                await cancel_running(monitor, listener)
                raise
            if status["status"] != "completed" and filter is not None:
                await filter.finish()  # its own words, if it was the one that failed
            if status["status"] != "completed":
                raise Failed(f"job '{job}' failed: {cause_of(status, path)}")
            if filter is not None:
                await filter.finish()
            allocated = os.fstat(descriptor).st_blocks * 512
            if afterwards is None:
                report(status, progress)
            else:
                # Before QEMU's duplicate is closed ours must not be: the last close takes its time.
                afterwards.push_async_callback(asyncio.to_thread, os.close, descriptor)
                await afterwards.enter_async_context(stack.pop_all())
                afterwards.callback(report, status, progress)
    except BaseException:
        if filter is not None:
            await filter.abandon()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.close(descriptor)
        raise
    if afterwards is None:
        # The last close of a file that was just written may flush it (ext4 does), and the guest still waits.
        asyncio.get_running_loop().run_in_executor(None, os.close, descriptor)
    return Saved(
        bytes=allocated,
        seconds=status.get("total-time", 0) / 1000,
        way=way,
        downtime_ms=int(status.get("downtime", 0)),
    )


async def seal(path: str) -> None:
    """Make the image durable, then mark it as whole; in that order, so that the mark never lies.

    With nothing left in it of pages that the guest has cleared (`qemu.mapped`). May be repeated. Raises
    Failed (code 38) with the system's cause.
    """
    await asyncio.to_thread(_seal, path)


async def cancel(monitor: Monitor) -> None:
    """Stop a save that a process before us began, if one is under way, and take back its settings.

    Nothing when QEMU is gone. The file is the caller's to remove.
    """
    try:
        # With the capability `events`, set when the save began, this hears of the end.
        async with monitor.events("MIGRATION") as listener:
            await cancel_running(monitor, listener)
        await plain_settings(monitor)
    except MonitorLost:
        return


async def reactivate(monitor: Monitor) -> None:
    """Make a stopped guest's disks usable after a save or a load; see the module's text. May be repeated."""
    state = await monitor.execute("query-status")
    if state["running"]:
        return
    try:
        await monitor.execute("blockdev-set-active", active=True)
    except QmpCommandFailed as error:
        if error.class_ != "CommandNotFound":
            raise
        if state["status"] == "postmigrate":
            await leave_postmigrate(monitor)


def read_header(path: str) -> SaveImageHeader:
    """The head of a memory image.

    Raises SystemRefused when it cannot be opened, OperationFailed in libvirt's words when it is no image.
    """
    try:
        with open(path, "rb") as file:
            fixed = file.read(FIXED_BYTES)
            return decode(fixed + file.read(head_length(fixed) - FIXED_BYTES))
    except OSError as error:
        raise SystemRefused(f"Failed to open file '{path}': {error.strerror}") from error


async def rewrite_header(path: str, header: SaveImageHeader) -> None:
    """Replace the head of an image by one of the same length; the memory behind it stays as it is.

    Raises OperationFailed when the head does not fit, Failed (code 38) with the system's cause.
    """
    await asyncio.to_thread(_rewrite, path, header.encode(partial=False))


def _rewrite(path: str, head: bytes) -> None:
    try:
        with open(path, "r+b", buffering=0) as file:
            file.write(head)
            os.fsync(file.fileno())
    except OSError as error:
        raise Failed(
            f"failed to write header to domain save file '{path}': {error.strerror}",
            code=ErrorCode.SYSTEM_ERROR,
        ) from error


def check_whole(path: str, header: SaveImageHeader) -> None:
    """Whether the image has its end: QEMU closes a stream with a description of it, and that with its length.

    So a file that was cut off is found without starting a QEMU. Compressed images are not looked at: their
    program tells. Raises OperationFailed, and SystemRefused when it cannot be read.
    """
    if header.format in COMPRESSED:
        return
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(header.stream_offset, size - _TAIL_BYTES))
            tail = file.read()
    except OSError as error:
        raise SystemRefused(f"Failed to read file '{path}': {error.strerror}") from error
    at = tail.rfind(_DESCRIPTION)
    while at >= 0:
        if int.from_bytes(tail[at + 1 : at + 5], "big") == len(tail) - at - 5 and tail.endswith(b"}"):
            return
        at = tail.rfind(_DESCRIPTION, 0, at)
    raise OperationFailed(f"save image '{path}' is truncated: the end of the memory is missing")


async def load(
    monitor: Monitor,
    *,
    path: str,
    channels: int = 0,
    direct: bool = False,
    mapped: bool = False,
    job: str = "snapshot",
    progress: ProgressCallback | None = None,
    log_path: str | None = None,
) -> SaveImageHeader:
    """Read a memory image into a QEMU that was started with `-S -incoming defer`; the guest stays paused.

    Raises what `read_header` does, OperationFailed when the program that compressed it is missing, and
    Failed when QEMU cannot take it in. QEMU before 9.1 ends when it cannot; `log_path` is then read for its
    last words. `mapped`: the guest's pages are there already (`qemu.mapped`), only the rest is read.
    """
    header = read_header(path)
    way = MemoryWay.SPARSE if header.format is SaveFormat.SPARSE else MemoryWay.STREAM
    descriptor = open_state(path, header) if mapped else _open(path)
    filter = None
    try:
        if header.format in COMPRESSED:
            os.lseek(descriptor, header.stream_offset, os.SEEK_SET)
            filter = await Filter.start(header.format, descriptor, writing=False)
        transport = Transport(descriptor, path, header.stream_offset, filter, direct)
        async with (
            settings(monitor, way, channels, direct, incoming=True),
            monitor.events("MIGRATION") as listener,
        ):
            async with migrate(monitor, "migrate-incoming", transport):
                status = await arrived(monitor, listener, progress, filter)
            if status["status"] != "completed":
                raise Failed(f"job '{job}' failed: {status.get('error-desc', 'load of migration failed')}")
            report(status, progress)
        if filter is not None:
            await filter.finish()
    except MonitorLost as error:
        log = "" if log_path is None else read_log_tail(log_path)
        raise Failed(
            f"QEMU unexpectedly closed the monitor{': ' if log else ''}{log}", code=ErrorCode.INTERNAL_ERROR
        ) from error
    finally:
        if filter is not None:
            await filter.abandon()
        os.close(descriptor)
    return header


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SystemRefused(f"Failed to open file '{path}': {error.strerror}") from error


def create_file(path: str) -> int:
    """A new file for a memory image, mode 0600, open to write. Raises Failed (code 38)."""
    try:
        # Write only: QEMU picks from a descriptor set by access mode.
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failed(
            f"Failed to create file '{path}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR
        ) from error


def write_head(descriptor: int, path: str, header: SaveImageHeader) -> None:
    """The head, with the magic of an image that is not whole yet. Raises Failed (code 38)."""
    data = header.encode(partial=True)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError as error:
        raise Failed(
            f"failed to write header to domain save file '{path}': {error.strerror}",
            code=ErrorCode.SYSTEM_ERROR,
        ) from error


def _seal(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            # Read as what it will be, once it is marked.
            head = os.pread(descriptor, FIXED_BYTES, 0).replace(PARTIAL_MAGIC, MAGIC)
            header = decode(head + os.pread(descriptor, head_length(head) - FIXED_BYTES, FIXED_BYTES))
            if header.format is SaveFormat.SPARSE:
                clear_leftovers(descriptor, header.stream_offset)
            os.fsync(descriptor)
            os.pwrite(descriptor, MAGIC, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder_of(path)
    except OSError as error:
        raise Failed(
            f"unable to sync memory image '{path}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR
        ) from error
