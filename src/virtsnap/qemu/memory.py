"""A guest's memory and device state, written to a file and read from one, through QEMU's migration.

The file is libvirt's save image (`formats.save_image`): either side reads the other's. It is opened here
and handed to QEMU as a descriptor, so that it is ours (mode 0600, never one that existed), and so that
QEMU's main loop does not stall in the close of a large file. Two ways:

- SPARSE (QEMU >= 9.0, capability mapped-ram): each page has its place in the file, offsets counting from the
  start of the file as libvirt's "sparse" format has them. A page that changes meanwhile is written again in
  place, so the file is never larger than the memory in use.
- STREAM (every QEMU): one stream, libvirt's "raw" format. With `live` pages that change are sent again.

A save has four stages, in separate calls since the guest's pause should end before the disk is synced: `save`
(file with the "partial" magic), `reactivate` for a guest that stays paused, `seal` (sync, then the magic of a
whole image). What is not here: who pauses the guest and when (`engine`), and the faster ways to come.

QEMU's inactive disks. When a migration has completed, QEMU gives up its block nodes, for the destination to
take them, and remembers in the run state `postmigrate` that this guest has been sent off. `cont` takes
all of that back, so a guest that runs on never notices; one that stays paused does:

- QEMU >= 10.0: `blockdev-set-active` makes the nodes usable. The run state stays `postmigrate`.
- Before: nothing but `cont` does, so `reactivate` is `cont` and `stop` in one breath: the guest runs for well
  under a millisecond. Harmless for a snapshot, which is complete by then.
- A guest in `postmigrate` cannot be saved again ("Can't migrate the vm that was paused due to previous
  migration"), whatever the version: `save` does the same `cont` and `stop` first.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from virtsnap.model.errors import ConfigUnsupported, ErrorCode, Failed, SystemRefused
from virtsnap.model.facts import MemoryWay
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
    progress: ProgressCallback | None = None,
) -> Saved:
    """Write memory and device state to a new file, which stays marked as partial until `seal`.

    `live=False`: the caller has paused the guest. `live=True`: the guest runs while memory is copied, and
    QEMU stops it at the end. Either way it is stopped on return and its disks may be inactive (see the
    module's text). When it fails, or is cancelled, the file is gone and the guest is as it was before: a
    paused one can go on, a live one runs.

    Raises Failed: "Failed to create file ..." (code 38), "job 'snapshot' failed: ..." with QEMU's cause.
    """
    header = SaveImageHeader(xml, cookie, was_running, _FORMATS[way])
    descriptor = _create(path)
    try:
        _write_head(descriptor, path, header)
        if not live:
            await _leave_postmigrate(monitor)
        async with _settings(monitor, way), monitor.events("MIGRATION") as listener:
            try:
                await _migrate(monitor, "migrate", descriptor, header.stream_offset)
                status = await _finished(monitor, listener, progress)
            except asyncio.CancelledError:
                await _cancel(monitor, listener)
                raise
            if status["status"] != "completed":
                raise Failed(f"job 'snapshot' failed: {_cause(status, path)}")
        allocated = os.fstat(descriptor).st_blocks * 512
    except BaseException:
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
    """Make the disks of a stopped guest usable after a save; see the module's text. May be repeated."""
    if (await monitor.execute("query-status"))["status"] != "postmigrate":
        return
    try:
        await monitor.execute("blockdev-set-active", active=True)
    except QmpCommandFailed as error:
        if error.class_ != "CommandNotFound":
            raise
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


async def load(
    monitor: Monitor,
    *,
    path: str,
    progress: ProgressCallback | None = None,
    log_path: str | None = None,
) -> SaveImageHeader:
    """Read a memory image into a QEMU that was started with `-S -incoming defer`; the guest stays paused.

    Raises what `read_header` does, ConfigUnsupported for an image that a helper program has compressed, and
    Failed when QEMU cannot take it in. QEMU before 9.1 ends when it cannot; `log_path` is then read for its
    last words.
    """
    header = read_header(path)
    if header.format not in _FORMATS.values():
        raise ConfigUnsupported(f"save image format {header.format.name.lower()} is not supported")
    way = MemoryWay.SPARSE if header.format is SaveFormat.SPARSE else MemoryWay.STREAM
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SystemRefused(f"Failed to open file '{path}': {error.strerror}") from error
    try:
        async with _settings(monitor, way), monitor.events("MIGRATION") as listener:
            await _migrate(monitor, "migrate-incoming", descriptor, header.stream_offset)
            status = await _finished(monitor, listener, progress)
            if status["status"] != "completed":
                raise Failed(f"job 'snapshot' failed: {status.get('error-desc', 'load of migration failed')}")
    except MonitorLost as error:
        log = "" if log_path is None else read_log_tail(log_path)
        raise Failed(
            f"QEMU unexpectedly closed the monitor{': ' if log else ''}{log}", code=ErrorCode.INTERNAL_ERROR
        ) from error
    finally:
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


@contextlib.asynccontextmanager
async def _settings(monitor: Monitor, way: MemoryWay) -> AsyncIterator[None]:
    """Migration set up for a file, and put back at the end, however it ends."""
    before = await monitor.execute("query-migrate-parameters")
    await monitor.execute("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    try:
        await _set_mapped_ram(monitor, way is MemoryWay.SPARSE)
        await monitor.execute("migrate-set-parameters", max_bandwidth=_UNLIMITED)
        yield
    finally:
        with contextlib.suppress(MonitorLost):
            await _set_mapped_ram(monitor, False)
            await monitor.execute("migrate-set-parameters", max_bandwidth=before["max-bandwidth"])


async def _set_mapped_ram(monitor: Monitor, state: bool) -> None:
    """Switch mapped-ram; off is right on a QEMU that has never heard of it."""
    if state or monitor.version >= (9, 0, 0):
        await monitor.execute(
            "migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": state}]
        )


async def _migrate(monitor: Monitor, command: str, descriptor: int, offset: int) -> None:
    """Start `migrate` or `migrate-incoming` on a descriptor of ours, with the stream at `offset`."""
    arguments: dict[str, Any] = {}
    if command == "migrate-incoming" and monitor.version >= (9, 1, 0):
        # Else QEMU ends, and its reason with it.
        arguments["exit-on-error"] = False
    if monitor.version < (8, 2, 0):
        # No file: yet; a plain file as fd: does the same, from where the descriptor stands.
        os.lseek(descriptor, offset, os.SEEK_SET)
        await monitor.send_fd(descriptor, name=_DESCRIPTOR_NAME)
        await monitor.execute_raw(command, {"uri": f"fd:{_DESCRIPTOR_NAME}", **arguments})
        return
    number = await monitor.send_fd(descriptor, opaque="virtsnap memory image")
    try:
        await monitor.execute_raw(
            command, {"uri": f"file:/dev/fdset/{number},offset={offset:#x}", **arguments}
        )
    finally:
        # QEMU has duplicated it; the set goes when the duplicate is closed.
        with contextlib.suppress(MonitorLost, QmpCommandFailed):
            await monitor.execute_raw("remove-fd", {"fdset-id": number})


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
