"""A guest's memory of one instant, written while the guest runs on (QEMU's background snapshot).

QEMU protects every page (userfaultfd) and writes each once, as it was when the capture began: a page that
the guest wants to change meanwhile is written first. So the guest stands still only for the device state, and
the file never grows past the memory in use. The order that keeps memory and disks at one instant:

    Capture.prepare -> `stop` (the caller's) -> begin -> disks switch, `cont` (the caller's) -> complete

All that need not wait for the standstill is in `prepare`: each word with QEMU costs the guest a part of a
millisecond there, and on a busy host several.

With pages at fixed offsets QEMU (to 10.0 at least) forgets to say in its bitmaps which pages the file holds,
since only the other way of writing them does so; `complete` says it, from where the file has data.

The descriptor stays open here until the file is synced: its last close writes back what is dirty, and would
make QEMU's main loop, and with it the guest, stand still at the very end. What is not here: the choice
between this and the other ways (`choose` tells what is possible), durability (`memory.seal`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from virtsnap.formats.mapped_ram import ram_blocks
from virtsnap.formats.save_image import SaveImageHeader
from virtsnap.model.errors import ErrorCode, Failed, NotCaptured
from virtsnap.model.facts import MemoryWay
from virtsnap.qemu import guest_pages
from virtsnap.qemu.extents import extents
from virtsnap.qemu.memory import Saved, choose_way, create_file, format_of, write_head
from virtsnap.qemu.migration import (
    BACKGROUND,
    MAPPED,
    MULTIFD,
    ProgressCallback,
    Transport,
    cancel_running,
    cause_of,
    finished,
    handed_over,
    leave_postmigrate,
    plain_settings,
    report,
    set_capabilities,
    settings,
)
from virtsnap.qemu.monitor import Listener, Monitor, MonitorLost, QmpCommandFailed

_POLL_SECONDS = 0.0005


@contextlib.asynccontextmanager
async def chosen(monitor: Monitor) -> AsyncIterator[tuple[MemoryWay, str]]:
    """The best way for this guest on this host, found by asking its QEMU to prepare for it.

    With QEMU's words when that is none in the background. QEMU before 9.0 is not asked: it lets the guest run
    on by itself as soon as the memory is captured, and what it writes then would be on the disks already.

    QEMU refuses the capability where the kernel has no userfaultfd for this user, and where the guest's
    memory is of a kind that cannot be protected (a private mapping of a file). It tries that on the memory
    itself while the guest waits, so within the block the capability stays on: a capture does not ask again.
    """
    plain = choose_way(monitor.version)
    if not plain.sparse:
        yield plain, ""
        return
    try:
        try:
            await set_capabilities(monitor, {MAPPED: True, BACKGROUND: True, MULTIFD: False})
        except QmpCommandFailed as error:
            found = plain, error.description
        else:
            found = MemoryWay.BACKGROUND_SPARSE, ""
        yield found
    finally:
        with contextlib.suppress(MonitorLost, QmpCommandFailed):
            await plain_settings(monitor)


async def choose(monitor: Monitor) -> MemoryWay:
    """The best way, for those who do not go on to take it."""
    async with chosen(monitor) as (way, _):
        return way


class Capture:
    """One background snapshot that is under way. Made by `prepare`; ended by `complete` or `abandon`."""

    def __init__(self, monitor: Monitor, path: str, header: SaveImageHeader, way: MemoryWay) -> None:
        """For `prepare` only."""
        self._monitor, self._path, self._header, self._way = monitor, path, header, way
        self._stack = contextlib.AsyncExitStack()
        self._descriptor = -1
        self._pid: int | None = None
        self._listener: Listener | None = None
        self._uri = ""

    @classmethod
    async def prepare(
        cls,
        monitor: Monitor,
        *,
        path: str,
        xml: str,
        cookie: str | None = None,
        was_running: bool,
        way: MemoryWay,
        pid: int | None = None,
    ) -> Capture:
        """Make a new file, and QEMU ready to write to it. The guest may run.

        `pid`: of the QEMU, whose memory is mapped beforehand, and gets its huge pages back at the end.
        On error the file is gone. Raises Failed as `memory.save` does.
        """
        capture = cls(monitor, path, SaveImageHeader(xml, cookie, was_running, format_of(way)), way)
        capture._descriptor, capture._pid = create_file(path), pid
        try:
            await capture._prepare()
        except BaseException:
            await capture.abandon()
            raise
        return capture

    async def _prepare(self) -> None:
        write_head(self._descriptor, self._path, self._header)
        if self._pid is not None:
            await asyncio.to_thread(guest_pages.touch, self._pid)
        await leave_postmigrate(self._monitor)
        transport = Transport(self._descriptor, self._path, self._header.stream_offset)
        await self._stack.enter_async_context(settings(self._monitor, self._way))
        self._listener = await self._stack.enter_async_context(self._monitor.events("MIGRATION"))
        self._uri = await self._stack.enter_async_context(handed_over(self._monitor, transport))

    async def begin(self) -> None:
        """Start to write. On return the device state is captured and every page protected.

        The caller has paused the guest and may let it run from here on; on error the file is gone.
        Raises Failed as `memory.save` does.
        """
        try:
            await self._begin()
        except BaseException:
            await self.abandon()
            raise

    async def _begin(self) -> None:
        state = (await self._monitor.execute("query-status"))["status"]
        if state != "paused":
            # QEMU returns to the state that it found, and aborts where none leads to it (prelaunch).
            raise Failed(f"job 'snapshot' failed: the guest is '{state}' and not paused")
        await self._monitor.execute("migrate", uri=self._uri)
        while True:
            # 'active' comes before the state is captured; that pages are written, only after.
            status = await self._monitor.execute("query-migrate")
            if status["status"] == "failed":
                raise NotCaptured(f"job 'snapshot' failed: {cause_of(status, self._path)}")
            if status["status"] == "cancelled":
                raise Failed(f"job 'snapshot' failed: {cause_of(status, self._path)}")
            ram = status.get("ram", {})
            if status["status"] == "completed" or ram.get("normal", 0) + ram.get("duplicate", 0) > 0:
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def complete(self, progress: ProgressCallback | None = None) -> Saved:
        """Wait until everything is written. Raises Failed when it could not be; then call `abandon`."""
        assert self._listener is not None
        status = await finished(self._monitor, self._listener, progress)
        if status["status"] != "completed":
            raise Failed(f"job 'snapshot' failed: {cause_of(status, self._path)}")
        report(status, progress)
        await self._stack.aclose()
        # While the disk works.
        mended = asyncio.to_thread(guest_pages.mend, self._pid) if self._pid is not None else asyncio.sleep(0)
        allocated, _ = await asyncio.gather(asyncio.to_thread(self._close), mended)
        return Saved(
            bytes=allocated,
            seconds=status.get("total-time", 0) / 1000,
            way=self._way,
            downtime_ms=int(status.get("downtime", 0)),
        )

    async def abandon(self) -> None:
        """Stop writing and delete the file. Quiet when QEMU is gone, or when it was done before."""
        if self._listener is not None:
            with contextlib.suppress(MonitorLost):
                await cancel_running(self._monitor, self._listener)
            self._listener = None
        with contextlib.suppress(MonitorLost):
            await self._stack.aclose()
        if self._descriptor >= 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            self.release()

    def release(self) -> None:
        """Let go of the file as it is; QEMU goes on writing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _close(self) -> int:
        try:
            if self._way.sparse:
                _say_what_is_there(self._path, self._header.stream_offset)
            os.fsync(self._descriptor)
            return os.fstat(self._descriptor).st_blocks * 512
        except OSError as error:
            raise Failed(
                f"unable to sync memory image '{self._path}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR
            ) from error
        finally:
            self.release()


def _say_what_is_there(path: str, stream_offset: int) -> None:
    """Write the bitmap of every block that has none."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for block in ram_blocks(lambda at, length: os.pread(descriptor, length, at), stream_offset):
            if not any(os.pread(descriptor, block.bitmap_length, block.bitmap_offset)):
                bitmap = block.bitmap(
                    extents(descriptor, block.pages_offset, block.pages_offset + block.length)
                )
                os.pwrite(descriptor, bitmap, block.bitmap_offset)
    finally:
        os.close(descriptor)
