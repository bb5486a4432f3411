"""Steps on the guest that runs: pausing, resuming, and its memory."""

from __future__ import annotations

from dataclasses import replace

from virtsnap.engine import first_pages, telling
from virtsnap.engine.steps.base import Irreversible, Undoable
from virtsnap.engine.steps.layers import remove
from virtsnap.engine.world import World
from virtsnap.formats.save_image import SaveFormat
from virtsnap.model import steps as s
from virtsnap.model.errors import ErrorCode, Failed
from virtsnap.qemu import memory
from virtsnap.qemu.monitor import Monitor, MonitorLost


async def running_monitor(world: World, run_dir: str | None = None) -> Monitor:
    """The monitor, or Failed when QEMU is gone: for steps that cannot do without."""
    monitor = await world.monitor(run_dir)
    if monitor is None:
        raise Failed("domain is not running", code=ErrorCode.OPERATION_INVALID)
    return monitor


async def resume(world: World, run_dir: str | None = None) -> None:
    """Let the guest run, if there still is one."""
    monitor = await world.monitor(run_dir)
    if monitor is None:
        return
    try:
        await monitor.execute("cont")
    except MonitorLost:
        return  # a guest that died has nothing to resume; the next look at it says so


class PauseGuest(Undoable):
    """The virtual CPUs stand still."""

    async def do(self, world: World, step: s.PauseGuest, /) -> None:
        """Stop them; QEMU drains and flushes the disks."""
        await (await running_monitor(world)).execute("stop")

    async def undo(self, world: World, step: s.PauseGuest, /) -> None:
        """A plan pauses only a guest that ran: let it run again."""
        await resume(world)
        if step.given_up is not None and world.instance() is not None:
            with world.store.transaction() as tx:
                tx.put_domain(replace(world.record(), reason=step.given_up))


class ResumeGuest(Irreversible):
    """The virtual CPUs run."""

    async def do(self, world: World, step: s.ResumeGuest, /) -> None:
        """Let them run; QEMU takes the disks back from a finished migration by itself."""
        await resume(world, step.run_dir)
        if (instance := world.instance(step.run_dir)) is not None:
            first_pages.look_later(instance.run_dir)


class SettleGuest(Irreversible):
    """The disks of a guest that stays paused are usable again."""

    async def do(self, world: World, step: s.SettleGuest, /) -> None:
        """Reopen what writing the memory left inactive."""
        monitor = await world.monitor(step.run_dir)
        if monitor is not None:
            await memory.reactivate(monitor)


class SaveMemory(Undoable):
    """Memory and device state in a file."""

    async def do(self, world: World, step: s.SaveMemory, /) -> None:
        """Write it. The file is not yet durable nor marked whole: that is SealMemory's."""
        await memory.save(
            await running_monitor(world),
            path=step.path,
            xml=step.domain_xml,
            cookie=step.cookie_xml,
            was_running=step.was_running if step.resumes is None else step.resumes,
            way=step.way,
            live=step.live,
            compression=None if step.compression is None else SaveFormat[step.compression.upper()],
            channels=step.channels,
            direct=step.direct,
            gives_up=step.gives_up,
            job=step.job,
            progress=lambda done, total: world.report(step.label, done, total),
            afterwards=world.afterwards if step.completed_later else None,
        )
        if not step.completed_later:
            telling.tell_job_completed(world)

    async def undo(self, world: World, step: s.SaveMemory, /) -> None:
        """Stop writing, delete the file, and give a guest that a live save has stopped its CPUs back."""
        await world.afterwards.aclose()
        monitor = await world.monitor()
        if monitor is not None:
            await memory.cancel(monitor)
            if step.live:
                await resume(world)
            elif not step.was_running:
                await memory.reactivate(monitor)
        remove(step.path)


class PrepareCapture(Undoable):
    """A file for memory, and a QEMU that is ready to write to it."""

    async def do(self, world: World, step: s.PrepareCapture, /) -> None:
        """Make it ready, while the guest runs."""
        from virtsnap.qemu.background import Capture

        monitor, instance = await running_monitor(world), world.instance()
        world.captures[step.path] = await Capture.prepare(
            monitor,
            path=step.path,
            xml=step.domain_xml,
            cookie=step.cookie_xml,
            was_running=step.was_running,
            way=step.way,
            pid=None if instance is None else instance.pid,
        )

    async def undo(self, world: World, step: s.PrepareCapture, /) -> None:
        """Take QEMU's settings back and delete the file."""
        await _give_up(world, step.path)


class CaptureMemory(Undoable):
    """Memory of one instant, on its way into a file."""

    async def do(self, world: World, step: s.CaptureMemory, /) -> None:
        """Begin. On return the guest may run: all that it changes from here on is not in the file."""
        await world.captures[step.path].begin()

    async def undo(self, world: World, step: s.CaptureMemory, /) -> None:
        """Stop writing and delete the file."""
        await _give_up(world, step.path)


async def _give_up(world: World, path: str) -> None:
    """No memory is written any more, and the file is gone. May be repeated."""
    capture = world.captures.pop(path, None)
    if capture is not None:
        await capture.abandon()
    elif (monitor := await world.monitor()) is not None:
        await memory.cancel(monitor)
    remove(path)


class CompleteMemory(Undoable):
    """All of it is in the file, which is not yet durable nor marked whole: that is SealMemory's."""

    async def do(self, world: World, step: s.CompleteMemory, /) -> None:
        """Wait, where QEMU writes by itself; or give QEMU its settings back."""
        if step.path in world.captures:
            await world.captures[step.path].complete(
                lambda done, total: world.report("Snapshot", done, total),
            )
            del world.captures[step.path]
        await world.afterwards.aclose()
        telling.tell_job_completed(world)

    async def undo(self, world: World, step: s.CompleteMemory, /) -> None:
        """Nothing: the file is CaptureMemory's."""


class SealMemory(Irreversible):
    """The memory image is durable and says so."""

    async def do(self, world: World, step: s.SealMemory, /) -> None:
        """Sync, then write the magic of a whole image."""
        await memory.seal(step.path)
        if (instance := world.instance()) is not None:
            first_pages.pass_on(instance.run_dir, step.path)


class LoadMemory(Undoable):
    """A memory image in a QEMU that waits for one."""

    async def do(self, world: World, step: s.LoadMemory, /) -> None:
        """Read it in; the guest stays paused."""
        monitor = await running_monitor(world, step.run_dir)
        status = (await monitor.execute("query-status"))["status"]
        if status == "inmigrate":
            await memory.load(
                monitor,
                path=step.path,
                channels=step.channels,
                direct=step.direct,
                mapped=step.mapped,
                job=step.job,
                progress=lambda done, total: world.report(step.label, done, total),
            )

    async def undo(self, world: World, step: s.LoadMemory, /) -> None:
        """Nothing: the QEMU that it was read into is ended by StartQemu's undo."""
