"""QEMU's migration to and from a file, as `qemu.memory` and `qemu.background` need it.

Settings that are put back, a descriptor handed over, the wait for the end, its cause in words. What is not
here: what the file looks like (`formats.save_image`), and when the guest stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from virtsnap.model.errors import Failed, NotConverged
from virtsnap.model.facts import MemoryWay
from virtsnap.model.frozen import dataclass
from virtsnap.qemu.compress import Filter
from virtsnap.qemu.monitor import Listener, Monitor, MonitorLost, QmpCommandFailed

ProgressCallback = Callable[[int, int], None]
"""(done, total) in bytes of guest memory."""

_PROGRESS_SECONDS = 0.2
_SETTLE_SECONDS = 0.001
_UNLIMITED = 2**63 - 1
"""Bytes per second; QEMU's default of 128 MiB/s is meant for networks."""
_LAST_BYTES_SECONDS = 5.0
_DESCRIPTOR_NAME = "virtsnap-memory"
_SHORT_MS = 10
"""The pause at which a live migration ends, as QEMU expects it; its default of 300 ms is for networks."""
_DOWNTIME_MS = 50
"""The same for a guest that has not let it end at the short one: each round takes its time."""
_SHORT_PASSES = 2
_PASSES = 4
"""A guest that has changed its memory faster than it was written, so many times, is paused."""
_LONG_PAUSE_MS = 500
"""Longer than a guest should wait where there is another way, which costs all of the time again."""
BACKGROUND = "background-snapshot"
MAPPED = "mapped-ram"
MULTIFD = "multifd"
_ENDED = frozenset({"none", "completed", "failed", "cancelled"})
"""States of a migration (QAPI MigrationStatus) in which nothing is under way."""


@dataclass(frozen=True)
class Transport:
    """How the stream gets between QEMU and the file."""

    descriptor: int
    path: str
    offset: int
    filter: Filter | None = None
    direct: bool = False


@contextlib.asynccontextmanager
async def settings(
    monitor: Monitor, way: MemoryWay, channels: int = 0, direct: bool = False, *, incoming: bool = False
) -> AsyncIterator[None]:
    """Migration set up for a file, and put back at the end, however it ends.

    `incoming`: the memory comes in, for which no limit counts, into a QEMU that is as it started: it is not
    asked what it is set to.
    """
    before = None if incoming else await monitor.execute("query-migrate-parameters")
    wanted = {"events": True, MAPPED: way.sparse, BACKGROUND: way.background, MULTIFD: channels > 0}
    try:
        await set_capabilities(monitor, wanted, {} if incoming else None)
        if before is not None:
            await monitor.execute(
                "migrate-set-parameters", max_bandwidth=_UNLIMITED, downtime_limit=_SHORT_MS
            )
        if channels:
            await monitor.execute("migrate-set-parameters", multifd_channels=channels)
        if direct:
            await monitor.execute("migrate-set-parameters", direct_io=True)
        yield
    finally:
        with contextlib.suppress(MonitorLost):
            if direct:
                await monitor.execute("migrate-set-parameters", direct_io=False)
            await plain_settings(monitor, wanted if incoming else None)
            if before is not None:
                await monitor.execute(
                    "migrate-set-parameters",
                    max_bandwidth=before["max-bandwidth"],
                    downtime_limit=before["downtime-limit"],
                )


async def plain_settings(monitor: Monitor, present: Mapping[str, bool] | None = None) -> None:
    """The capabilities as QEMU starts with them; a process that died may have left others."""
    await set_capabilities(monitor, {BACKGROUND: False, MAPPED: False, MULTIFD: False}, present)


async def set_capabilities(
    monitor: Monitor, wanted: dict[str, bool], present: Mapping[str, bool] | None = None
) -> None:
    """Switch those that are otherwise, in one command. Off is right on a QEMU that has never heard of one.
    `present`: as they are, as far as they are on; None: QEMU is asked.

    Not for nothing: while `background-snapshot` is on, or goes on, QEMU tries with each such command whether
    it can protect the memory. The guest waits for that: 12 ms for each GiB that is not in huge pages.
    Raises QmpCommandFailed.
    """
    if present is None:
        listed = await monitor.execute("query-migrate-capabilities")
        present = {entry["capability"]: entry["state"] for entry in listed}
    changes = {name: state for name, state in wanted.items() if present.get(name, False) != state}
    if changes:
        capabilities = [{"capability": name, "state": state} for name, state in changes.items()]
        await monitor.execute("migrate-set-capabilities", capabilities=capabilities)


@contextlib.asynccontextmanager
async def migrate(monitor: Monitor, command: str, transport: Transport) -> AsyncIterator[None]:
    """Start `migrate` or `migrate-incoming`; QEMU can open the file again and again within the block."""
    arguments: dict[str, Any] = {}
    if command == "migrate-incoming" and monitor.version >= (9, 1, 0):
        # Else QEMU ends, and its reason with it.
        arguments["exit-on-error"] = False
    async with handed_over(monitor, transport) as uri:
        await monitor.execute_raw(command, {"uri": uri, **arguments})
        yield


@contextlib.asynccontextmanager
async def handed_over(monitor: Monitor, transport: Transport) -> AsyncIterator[str]:
    """QEMU has the descriptor within the block; the answer is the uri for `migrate`."""
    if transport.filter is not None or monitor.version < (8, 2, 0):
        # No file: yet; a plain file as fd: does the same, from where the descriptor stands.
        if transport.filter is None:
            os.lseek(transport.descriptor, transport.offset, os.SEEK_SET)
        end = transport.descriptor if transport.filter is None else transport.filter.descriptor
        await monitor.send_fd(end, name=_DESCRIPTOR_NAME)
        if transport.filter is not None:
            transport.filter.hand_over()
        try:
            yield f"fd:{_DESCRIPTOR_NAME}"
        finally:
            # Nothing when QEMU has used it.
            with contextlib.suppress(MonitorLost, QmpCommandFailed):
                await monitor.execute("closefd", fdname=_DESCRIPTOR_NAME)
        return
    number = await monitor.send_fd(transport.descriptor, opaque="virtsnap memory image")
    try:
        if transport.direct:
            await _send_direct(monitor, transport, number)
        yield f"file:/dev/fdset/{number},offset={transport.offset:#x}"
    finally:
        # QEMU has duplicated it; the set goes when the duplicates are closed.
        with contextlib.suppress(MonitorLost, QmpCommandFailed):
            await monitor.execute_raw("remove-fd", {"fdset-id": number})


async def _send_direct(monitor: Monitor, transport: Transport, number: int) -> None:
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


async def finished(
    monitor: Monitor,
    listener: Listener,
    progress: ProgressCallback | None,
    *,
    live: bool = False,
    gives_up: bool = False,
) -> dict[str, Any]:
    """Wait for the end of the migration; the answer of query-migrate at that moment, which is not reported.

    `live`: the guest runs; it is paused when it does not let the migration come to its end. `gives_up`: not
    when that would be a long pause. Raises NotConverged then, the migration still being under way.
    """
    short = live
    while True:
        try:
            async with asyncio.timeout(None if progress is None and not live else _PROGRESS_SECONDS):
                event = await listener.get()
        except TimeoutError:
            status = await monitor.execute("query-migrate")
            report(status, progress)
            if short and _passes(status) > _SHORT_PASSES:
                await monitor.execute("migrate-set-parameters", downtime_limit=_DOWNTIME_MS)
                short = False
            elif live and _passes(status) > _PASSES:
                if gives_up:
                    _check_pause(status)
                await monitor.execute("stop")
                live = False
            continue
        if event.data["status"] in _ENDED - {"none"}:
            break
    return await settled(monitor)


async def arrived(
    monitor: Monitor, listener: Listener, progress: ProgressCallback | None, filter: Filter | None
) -> dict[str, Any]:
    """`finished` for an incoming migration, whose pipe may end before QEMU has read a byte.

    QEMU does not notice that: it waits for something to read, and an end is nothing to read. Raises Failed.
    """
    if filter is None:
        return await finished(monitor, listener, progress)
    end = asyncio.ensure_future(finished(monitor, listener, progress))
    ended = asyncio.ensure_future(filter.finish())
    try:
        await asyncio.wait({end, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not end.done():
            await ended
            await asyncio.wait({end}, timeout=_LAST_BYTES_SECONDS)
            before = (await monitor.execute("query-migrate")).get("status", "none")
            if not end.done() and before in ("none", "setup"):
                raise Failed("load of migration failed: there is nothing in the image")
        return await end
    finally:
        for task in (end, ended):
            task.cancel()
        await asyncio.wait({end, ended})


async def settled(monitor: Monitor) -> dict[str, Any]:
    """query-migrate, once QEMU is done with the migration altogether.

    The event comes a moment before QEMU has brought the guest to its final run state; until then it refuses
    `cont`. Nothing announces that moment.
    """
    while (await monitor.execute("query-status"))["status"] == "finish-migrate":  # noqa: ASYNC110
        await asyncio.sleep(_SETTLE_SECONDS)
    status: dict[str, Any] = await monitor.execute("query-migrate")
    return status


def _passes(status: dict[str, Any]) -> int:
    """How often QEMU has gone through the memory, or what was left of it."""
    return int(status.get("ram", {}).get("dirty-sync-count", 0))


def _check_pause(status: dict[str, Any]) -> None:
    """By what was left after the last pass. Raises NotConverged when to write it takes long."""
    expected = int(status.get("expected-downtime", 0))
    if expected > _LONG_PAUSE_MS:
        raise NotConverged(
            f"after {_PASSES} rounds of its memory the guest would stand still for {expected} ms"
        )


def report(status: dict[str, Any], progress: ProgressCallback | None) -> None:
    """Tell of the progress that an answer of query-migrate speaks of."""
    if progress is not None and (ram := status.get("ram")) is not None:
        total = int(ram["total"])
        progress(total - min(int(ram["remaining"]), total), total)


async def cancel_running(monitor: Monitor, listener: Listener) -> None:
    """Cancel the migration that is under way and wait until it has ended."""
    while (await monitor.execute("query-migrate")).get("status", "none") not in _ENDED:
        await monitor.execute("migrate_cancel")
        # The time limit is for a QEMU whose events nobody switched on.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PROGRESS_SECONDS):
                await listener.get()
    await settled(monitor)


async def leave_postmigrate(monitor: Monitor) -> None:
    """Bring a stopped guest from `postmigrate` back to `paused`."""
    if (await monitor.execute("query-status"))["status"] == "postmigrate":
        # Sent in one go, so that the guest runs for no longer than QEMU's loop takes from one to the other.
        await asyncio.gather(monitor.execute("cont"), monitor.execute("stop"))


def cause_of(status: dict[str, Any], path: str) -> str:
    """Why a save failed, in words that name a full disk as such."""
    if status["status"] == "cancelled":
        return "canceled by client"
    cause = str(status.get("error-desc", ""))
    if not cause and os.statvfs(os.path.dirname(os.path.abspath(path))).f_bavail == 0:
        # Older QEMUs keep the cause of a failed write to themselves.
        cause = os.strerror(28)
    return cause or "unexpectedly failed"
