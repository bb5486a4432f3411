"""Block jobs that run on their own: begun, asked about, and concluded by whoever comes by.

Unlike the merges of `qemu.blocks`, nobody needs to watch these. Each is begun so that it changes no chain
before it is told to: a commit below the top and a pull wait, pending, to be finalized; a copy and an active
commit go on, ready, until they are told to complete. So a QEMU that works alone never gets ahead of what is
written down. The result of a commit or a copy stays until it is dismissed. A pull dismisses itself (QEMU
crashes when it is asked for its nodes while one is concluded): then the layers and the log of events tell.

What is not here: what the end of a job means for the domain (`plan.block_jobs`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from virtsnap.model.block_job import BlockJob, BlockJobInfo
from virtsnap.model.frozen import dataclass
from virtsnap.qemu.blocks import flush
from virtsnap.qemu.events import Event
from virtsnap.qemu.monitor import Listener, Monitor, QmpCommandFailed

EVENTS = ("JOB_STATUS_CHANGE", "BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED", "BLOCK_JOB_READY")
"""All that may happen to a job."""
_LOOK_SECONDS = 0.2
"""The progress of a job is news that QEMU does not tell by itself."""
_OVER = ("pending", "concluded", "null")


@dataclass(frozen=True)
class Ending:
    """How a job ended, as far as QEMU says. Whether the disk changed is told by its layers alone."""

    error: str | None = None
    cancelled: bool = False


async def commit(
    monitor: Monitor,
    job: str,
    *,
    device: str,
    top: str,
    base: str,
    active: bool,
    backing: str | None,
    speed: int,
) -> None:
    """Begin to copy `top` and what is between down into `base` (node names). Raises Failed."""
    arguments: dict[str, Any] = {
        "job-id": job,
        "device": device,
        "top-node": top,
        "base-node": base,
        "speed": speed,
        "auto-dismiss": False,
        "auto-finalize": active,
    }
    if backing is not None and not active:
        arguments["backing-file"] = backing
    await monitor.execute_raw("block-commit", arguments)


async def pull(
    monitor: Monitor, job: str, *, device: str, base: str | None, backing: str | None, speed: int
) -> None:
    """Begin to copy into `device` what is between it and `base` (node names; None: all). Raises Failed."""
    arguments: dict[str, Any] = {"job-id": job, "device": device, "speed": speed, "auto-finalize": False}
    if base is not None:
        arguments["base-node"] = base
        if backing is not None:
            arguments["backing-file"] = backing
    await monitor.execute_raw("block-stream", arguments)


async def mirror(
    monitor: Monitor,
    job: str,
    *,
    device: str,
    target: str,
    shallow: bool,
    speed: int,
    granularity: int,
    buf_size: int,
    synchronous: bool,
) -> None:
    """Begin to copy `device` to `target` (node names) and keep them equal. Raises Failed."""
    arguments: dict[str, Any] = {
        "job-id": job,
        "device": device,
        "target": target,
        "sync": "top" if shallow else "full",
        "speed": speed,
        "auto-dismiss": False,
        **({"granularity": granularity} if granularity else {}),
        **({"buf-size": buf_size} if buf_size else {}),
        **({"copy-mode": "write-blocking"} if synchronous else {}),
    }
    await monitor.execute_raw("blockdev-mirror", arguments)


async def info(monitor: Monitor, job: BlockJob) -> BlockJobInfo | None:
    """How far a job is; None when QEMU has none of that name, or it is over."""
    for found in await monitor.execute("query-block-jobs"):
        if found["device"] != job.name:
            continue
        if found["status"] in _OVER:
            return None
        cur, end, ready = int(found["offset"]), int(found["len"]), bool(found["ready"])
        if ready and not cur and not end:
            # Nothing was to be copied; by libvirt's rule a job that is ready is told by equal numbers.
            cur = end = 1
        elif not ready and end == cur:
            # Not known yet, or not done: never 100 per cent.
            cur, end = (0, 1) if not cur else (cur - 1, end)
        return BlockJobInfo(job.type, int(found["speed"]), cur, end, ready)
    return None


async def set_speed(monitor: Monitor, job: str, speed: int) -> None:
    """Limit a job to so many bytes per second; 0: no limit. Raises Failed."""
    await monitor.execute("block-job-set-speed", device=job, speed=speed)


async def cancel(monitor: Monitor, job: str) -> None:
    """Ask a job to end where it is, a copy that is ready as a whole copy of this moment; do not wait.

    Quiet when it is gone, or is being finalized.
    """
    with contextlib.suppress(QmpCommandFailed):
        await monitor.execute("block-job-cancel", device=job)


async def discard(monitor: Monitor, job: str) -> None:
    """End a job that nobody knows of, and wait for it. Its layers are as before."""
    async with monitor.events(*EVENTS) as listener:
        if await _find(monitor, job) is not None:
            with contextlib.suppress(QmpCommandFailed):
                await monitor.execute("job-cancel", id=job)
        while (found := await _find(monitor, job)) is not None:
            if found["status"] == "concluded":
                await monitor.execute("job-dismiss", id=job)
                return
            await news(listener)


async def conclude(monitor: Monitor, job: BlockJob, *, pivot: bool, wait: bool) -> Ending | None:
    """Bring a job to its end if it can be, and let go of its result. None: it goes on.

    `pivot`: one that is ready shall complete. `wait`: for one that is about to end, or was told to. What a
    commit or a pull has copied is durable before any header names it. Raises Failed.
    """
    told = False
    async with monitor.events(*EVENTS) as listener:
        while True:
            found = await _find(monitor, job.name)
            if found is None:
                return Ending()
            match found["status"]:
                case "concluded":
                    await monitor.execute("job-dismiss", id=job.name)
                    return Ending(found.get("error"))
                case "pending":
                    await flush(monitor)
                    with contextlib.suppress(QmpCommandFailed):  # it was cancelled meanwhile
                        await monitor.execute("job-finalize", id=job.name)
                case "ready" if pivot:
                    if not told:
                        told = True
                        await monitor.execute("job-complete", id=job.name)
                case "aborting" | "waiting":
                    pass
                case _ if not wait:
                    return None
            await news(listener)


def ending(log: Sequence[Event], job: str) -> Ending | None:
    """How a job ended, by QEMU's log of events; None when it did not."""
    for event in reversed(log):
        if event.data.get("device") != job:
            continue
        if event.name == "BLOCK_JOB_CANCELLED":
            return Ending(cancelled=True)
        if event.name == "BLOCK_JOB_COMPLETED":
            return Ending(event.data.get("error"))
    return None


def status(log: Sequence[Event], job: str) -> str | None:
    """The last status of a job, by QEMU's log of events."""
    for event in reversed(log):
        if event.name == "JOB_STATUS_CHANGE" and event.data.get("id") == job:
            return str(event.data["status"])
    return None


def is_due(log: Sequence[Event], job: BlockJob) -> bool:
    """Somebody has to bring it to its end."""
    return status(log, job.name) in _OVER


def is_ready(log: Sequence[Event], job: BlockJob) -> bool:
    """It has copied everything and follows the guest's writes."""
    return job.type.mirrors and status(log, job.name) in ("ready", "standby")


async def news(listener: Listener) -> None:
    """Return when something has happened to a job, or after a moment: progress is told by nobody."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOOK_SECONDS):
            await listener.get()


async def _find(monitor: Monitor, job: str) -> dict[str, Any] | None:
    jobs: list[dict[str, Any]] = await monitor.execute("query-jobs")
    return next((found for found in jobs if found["id"] == job), None)
