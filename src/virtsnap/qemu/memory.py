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
gzip to zstd. What is not here: who pauses the guest and when (`engine`), and the faster ways to come.

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
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from virtsnap.formats.save_image import (
    FIXED_BYTES,
    MAGIC,
    SaveFormat,
    SaveImageHeader,
    decode,
    head_length,
)
from virtsnap.model.errors import ErrorCode, Failed, OperationFailed, SystemRefused
from virtsnap.model.facts import MemoryWay
from virtsnap.qemu.compress import COMPRESSED, Filter
from virtsnap.qemu.monitor import Listener, Monitor, MonitorLost, QmpCommandFailed
from virtsnap.qemu.paths import sync_folder_of
from virtsnap.qemu.process import read_log_tail

ProgressCallback = Callable[[int, int], None]
"""(done, total) in bytes of guest memory."""

_MAPPED_RAM = (9, 0)
_PROGRESS_SECONDS = 0.2
_SETTLE_SECONDS = 0.001
_UNLIMITED = 2**63 - 1
"""Bytes per second; QEMU's default of 128 MiB/s is meant for networks."""
_LAST_BYTES_SECONDS = 5.0
_DESCRIPTION = b"\x06"
"""QEMU_VM_VMDESCRIPTION: a length of four bytes and JSON follow (QEMU's docs/devel/migration)."""
_TAIL_BYTES = 4 << 20
_DESCRIPTOR_NAME = "virtsnap-memory"
_ENDED = frozenset({"none", "completed", "failed", "cancelled"})
"""States of a migration (QAPI MigrationStatus) in which nothing is under way."""
_FORMATS = {MemoryWay.STREAM: SaveFormat.RAW, MemoryWay.SPARSE: SaveFormat.SPARSE}


@dataclass(frozen=True)
class Saved:
    """What a save cost. `bytes`: allocated for the file; `downtime_ms`: as QEMU counts it, the guest's pause
    that the migration itself caused."""

    bytes: int
    seconds: float
    way: MemoryWay
    downtime_ms: int


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
    job: str = "snapshot",
    progress: ProgressCallback | None = None,
) -> Saved:
    """Write memory and device state to a new file, which stays marked as partial until `seal`.

    `live=False`: the caller has paused the guest. `live=True`: the guest runs while memory is copied, and
    QEMU stops it at the end. Either way it is stopped on return and its disks may be inactive (see the
    module's text). When it fails, or is cancelled, the file is gone and the guest is as it was before: a
    paused one can go on, a live one runs.

    `compression` (with STREAM): through that program. `channels` (with SPARSE): that many of QEMU's threads
    write at once; `direct`: they pass the host's cache by.

    Raises Failed: "Failed to create file ..." (code 38), "job 'snapshot' failed: ..." with QEMU's cause.
    """
    header = SaveImageHeader(xml, cookie, was_running, compression or _FORMATS[way])
    descriptor = _create(path)
    filter = None
    try:
        _write_head(descriptor, path, header)
        if not live:
            await _leave_postmigrate(monitor)
        if compression is not None:
            filter = await Filter.start(compression, descriptor, writing=True)
        transport = _Transport(descriptor, path, header.stream_offset, filter, direct)
        async with _settings(monitor, way, channels, direct), monitor.events("MIGRATION") as listener:
            try:
                async with _migrate(monitor, "migrate", transport):
                    status = await _finished(monitor, listener, progress)
            except asyncio.CancelledError:
                await _cancel(monitor, listener)
                raise
            if status["status"] != "completed" and filter is not None:
                await filter.finish()  # its own words, if it was the one that failed
            if status["status"] != "completed":
                raise Failed(f"job '{job}' failed: {_cause(status, path)}")
        if filter is not None:
            await filter.finish()
        allocated = os.fstat(descriptor).st_blocks * 512
    except BaseException:
        if filter is not None:
            await filter.abandon()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.close(descriptor)
        raise
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

    May be repeated. Raises Failed (code 38) with the system's cause.
    """
    await asyncio.to_thread(_seal, path)


async def cancel(monitor: Monitor) -> None:
    """Stop a save that a process before us began, if one is under way, and take back its settings.

    Nothing when QEMU is gone. The file is the caller's to remove.
    """
    try:
        # With the capability `events`, set when the save began, this hears of the end.
        async with monitor.events("MIGRATION") as listener:
            await _cancel(monitor, listener)
        await _set_mapped_ram(monitor, False)
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
            await _leave_postmigrate(monitor)


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
    job: str = "snapshot",
    progress: ProgressCallback | None = None,
    log_path: str | None = None,
) -> SaveImageHeader:
    """Read a memory image into a QEMU that was started with `-S -incoming defer`; the guest stays paused.

    Raises what `read_header` does, OperationFailed when the program that compressed it is missing, and
    Failed when QEMU cannot take it in. QEMU before 9.1 ends when it cannot; `log_path` is then read for its
    last words.
    """
    header = read_header(path)
    way = MemoryWay.SPARSE if header.format is SaveFormat.SPARSE else MemoryWay.STREAM
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SystemRefused(f"Failed to open file '{path}': {error.strerror}") from error
    filter = None
    try:
        if header.format in COMPRESSED:
            os.lseek(descriptor, header.stream_offset, os.SEEK_SET)
            filter = await Filter.start(header.format, descriptor, writing=False)
        transport = _Transport(descriptor, path, header.stream_offset, filter, direct)
        async with _settings(monitor, way, channels, direct), monitor.events("MIGRATION") as listener:
            async with _migrate(monitor, "migrate-incoming", transport):
                status = await _arrived(monitor, listener, progress, filter)
            if status["status"] != "completed":
                raise Failed(f"job '{job}' failed: {status.get('error-desc', 'load of migration failed')}")
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


def _create(path: str) -> int:
    try:
        # Write only: QEMU picks from a descriptor set by access mode.
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failed(
            f"Failed to create file '{path}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR
        ) from error


def _write_head(descriptor: int, path: str, header: SaveImageHeader) -> None:
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


@dataclass(frozen=True)
class _Transport:
    """How the stream gets between QEMU and the file."""

    descriptor: int
    path: str
    offset: int
    filter: Filter | None = None
    direct: bool = False


@contextlib.asynccontextmanager
async def _settings(
    monitor: Monitor, way: MemoryWay, channels: int = 0, direct: bool = False
) -> AsyncIterator[None]:
    """Migration set up for a file, and put back at the end, however it ends."""
    before = await monitor.execute("query-migrate-parameters")
    await monitor.execute("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    try:
        await _set_mapped_ram(monitor, way is MemoryWay.SPARSE)
        await monitor.execute("migrate-set-parameters", max_bandwidth=_UNLIMITED)
        if channels:
            await _set_capability(monitor, "multifd", True)
            await monitor.execute("migrate-set-parameters", multifd_channels=channels)
        if direct:
            await monitor.execute("migrate-set-parameters", direct_io=True)
        yield
    finally:
        with contextlib.suppress(MonitorLost):
            if direct:
                await monitor.execute("migrate-set-parameters", direct_io=False)
            if channels:
                await _set_capability(monitor, "multifd", False)
            await _set_mapped_ram(monitor, False)
            await monitor.execute("migrate-set-parameters", max_bandwidth=before["max-bandwidth"])


async def _set_mapped_ram(monitor: Monitor, state: bool) -> None:
    """Switch mapped-ram; off is right on a QEMU that has never heard of it."""
    if state or monitor.version >= (9, 0, 0):
        await _set_capability(monitor, "mapped-ram", state)


async def _set_capability(monitor: Monitor, name: str, state: bool) -> None:
    await monitor.execute("migrate-set-capabilities", capabilities=[{"capability": name, "state": state}])


@contextlib.asynccontextmanager
async def _migrate(monitor: Monitor, command: str, transport: _Transport) -> AsyncIterator[None]:
    """Start `migrate` or `migrate-incoming`; QEMU can open the file again and again within the block."""
    arguments: dict[str, Any] = {}
    if command == "migrate-incoming" and monitor.version >= (9, 1, 0):
        # Else QEMU ends, and its reason with it.
        arguments["exit-on-error"] = False
    if transport.filter is not None or monitor.version < (8, 2, 0):
        # No file: yet; a plain file as fd: does the same, from where the descriptor stands.
        if transport.filter is None:
            os.lseek(transport.descriptor, transport.offset, os.SEEK_SET)
        end = transport.descriptor if transport.filter is None else transport.filter.descriptor
        await monitor.send_fd(end, name=_DESCRIPTOR_NAME)
        if transport.filter is not None:
            transport.filter.hand_over()
        await monitor.execute_raw(command, {"uri": f"fd:{_DESCRIPTOR_NAME}", **arguments})
        yield
        return
    number = await monitor.send_fd(transport.descriptor, opaque="virtsnap memory image")
    try:
        if transport.direct:
            await _send_direct(monitor, transport, number)
        await monitor.execute_raw(
            command, {"uri": f"file:/dev/fdset/{number},offset={transport.offset:#x}", **arguments}
        )
        yield
    finally:
        # QEMU has duplicated it; the set goes when the duplicates are closed.
        with contextlib.suppress(MonitorLost, QmpCommandFailed):
            await monitor.execute_raw("remove-fd", {"fdset-id": number})


async def _send_direct(monitor: Monitor, transport: _Transport, number: int) -> None:
    """Add to the set a descriptor that passes the cache by: QEMU picks by the flags that it needs."""
    mode = fcntl.fcntl(transport.descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    try:
        descriptor = os.open(transport.path, mode | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        raise Failed(
            f"the file system of '{transport.path}' cannot bypass the cache: {error.strerror}"
        ) from error
    try:
        await monitor.send_fd(descriptor, opaque="virtsnap memory image, direct", set_id=number)
    finally:
        os.close(descriptor)


async def _finished(
    monitor: Monitor, listener: Listener, progress: ProgressCallback | None
) -> dict[str, Any]:
    """Wait for the end of the migration; the answer of query-migrate at that moment."""
    while True:
        try:
            async with asyncio.timeout(None if progress is None else _PROGRESS_SECONDS):
                event = await listener.get()
        except TimeoutError:
            await _report(monitor, progress)
            continue
        if event.data["status"] in _ENDED - {"none"}:
            break
    status = await _settled(monitor)
    if status["status"] == "completed":
        await _report(monitor, progress)
    return status


async def _arrived(
    monitor: Monitor, listener: Listener, progress: ProgressCallback | None, filter: Filter | None
) -> dict[str, Any]:
    """`_finished` for an incoming migration, whose pipe may end before QEMU has read a byte.

    QEMU does not notice that: it waits for something to read, and an end is nothing to read. Raises Failed.
    """
    if filter is None:
        return await _finished(monitor, listener, progress)
    finished = asyncio.ensure_future(_finished(monitor, listener, progress))
    ended = asyncio.ensure_future(filter.finish())
    try:
        await asyncio.wait({finished, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not finished.done():
            await ended
            await asyncio.wait({finished}, timeout=_LAST_BYTES_SECONDS)
            before = (await monitor.execute("query-migrate")).get("status", "none")
            if not finished.done() and before in ("none", "setup"):
                raise Failed("load of migration failed: there is nothing in the image")
        return await finished
    finally:
        for task in (finished, ended):
            task.cancel()
        await asyncio.wait({finished, ended})


async def _settled(monitor: Monitor) -> dict[str, Any]:
    """query-migrate, once QEMU is done with the migration altogether.

    The event comes a moment before QEMU has brought the guest to its final run state; until then it refuses
    `cont`. Nothing announces that moment.
    """
    while (await monitor.execute("query-status"))["status"] == "finish-migrate":  # noqa: ASYNC110
        await asyncio.sleep(_SETTLE_SECONDS)
    status: dict[str, Any] = await monitor.execute("query-migrate")
    return status


async def _report(monitor: Monitor, progress: ProgressCallback | None) -> None:
    if progress is not None:
        ram = (await monitor.execute("query-migrate")).get("ram")
        if ram is not None:
            total = int(ram["total"])
            progress(total - min(int(ram["remaining"]), total), total)


async def _cancel(monitor: Monitor, listener: Listener) -> None:
    """Cancel the migration that is under way and wait until it has ended."""
    while (await monitor.execute("query-migrate")).get("status", "none") not in _ENDED:
        await monitor.execute("migrate_cancel")
        # The time limit is for a QEMU whose events nobody switched on.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PROGRESS_SECONDS):
                await listener.get()
    await _settled(monitor)


async def _leave_postmigrate(monitor: Monitor) -> None:
    """Bring a stopped guest from `postmigrate` back to `paused`."""
    if (await monitor.execute("query-status"))["status"] == "postmigrate":
        # Sent in one go, so that the guest runs for no longer than QEMU's loop takes from one to the other.
        await asyncio.gather(monitor.execute("cont"), monitor.execute("stop"))


def _cause(status: dict[str, Any], path: str) -> str:
    """Why a save failed, in words that name a full disk as such."""
    if status["status"] == "cancelled":
        return "canceled by client"
    cause = str(status.get("error-desc", ""))
    if not cause and os.statvfs(os.path.dirname(os.path.abspath(path))).f_bavail == 0:
        # Older QEMUs keep the cause of a failed write to themselves.
        cause = os.strerror(28)
    return cause or "unexpectedly failed"
