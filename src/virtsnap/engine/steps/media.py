"""The medium of a drive of a running domain: opened beside it, then put in instead of the one before."""

from __future__ import annotations

from virtsnap.engine.steps.base import Undoable
from virtsnap.engine.steps.layers import format_node, live_disk, storage_node, tops_by_target
from virtsnap.engine.world import World
from virtsnap.machine.disk_args import blockdevs
from virtsnap.machine.launch import Layer
from virtsnap.model import steps as s
from virtsnap.model.errors import ErrorCode, Failed
from virtsnap.qemu import blocks
from virtsnap.qemu.monitor import Monitor


class OpenMedium(Undoable):
    """An image opened in QEMU, in no drive yet."""

    async def do(self, world: World, step: s.OpenMedium, /) -> None:
        """Add its nodes, as the drive's settings want them."""
        monitor, drive = await _monitor(world), live_disk(world, step.target)
        for node in blockdevs(drive, (Layer(step.path, step.format, step.type),), step.node):
            await monitor.execute_raw("blockdev-add", node)

    async def undo(self, world: World, step: s.OpenMedium, /) -> None:
        """Remove the nodes that are there."""
        monitor = await world.monitor()
        if monitor is not None:
            await blocks.del_nodes(monitor, [format_node(step.node), storage_node(step.node)])


class ChangeMedium(Undoable):
    """The tray opens, and closes with another medium in it, or none."""

    async def do(self, world: World, step: s.ChangeMedium, /) -> None:
        """Raises Failed where the guest has locked the tray, unless `force`."""
        monitor = await _monitor(world)
        node = None if step.node is None else format_node(step.node)
        await _put_in(monitor, step.alias, node, force=step.force)

    async def undo(self, world: World, step: s.ChangeMedium, /) -> None:
        """Put the one from before back in, which is still open."""
        monitor = await world.monitor()
        if monitor is None:
            return
        top = (await tops_by_target(world, monitor)).get(step.target)
        if (top.node_name if top is not None else None) != step.before:
            await _put_in(monitor, step.alias, step.before, force=True)
        else:
            await monitor.execute("blockdev-close-tray", id=step.alias)


async def _put_in(monitor: Monitor, alias: str, node: str | None, *, force: bool) -> None:
    await monitor.execute("blockdev-open-tray", id=alias, force=force)
    await monitor.execute("blockdev-remove-medium", id=alias)
    if node is not None:
        await monitor.execute("blockdev-insert-medium", id=alias, node_name=node)
    await monitor.execute("blockdev-close-tray", id=alias)


async def _monitor(world: World) -> Monitor:
    monitor = await world.monitor()
    if monitor is None:
        raise Failed("domain is not running", code=ErrorCode.OPERATION_INVALID)
    return monitor
