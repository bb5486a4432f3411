"""Steps that begin block jobs. No disk changes before its job is concluded (`service.concluding`)."""

from __future__ import annotations

from typing import Any

from virtsnap.engine.steps.base import Irreversible, Undoable
from virtsnap.engine.steps.guest import running_monitor
from virtsnap.engine.steps.layers import format_node, tops_by_target
from virtsnap.engine.world import World
from virtsnap.model import steps as s
from virtsnap.model.errors import ErrorCode, Failed
from virtsnap.qemu import block_jobs, blocks
from virtsnap.qemu.monitor import Monitor


class _Begins(Undoable):
    """Undone by ending the job."""

    async def undo(self, world: World, step: Any, /) -> None:
        """A job that has no record must not be there."""
        monitor = await world.monitor()
        if monitor is not None:
            await block_jobs.discard(monitor, step.job)


class StartCommit(_Begins):
    """Layers down into one below them."""

    async def do(self, world: World, step: s.StartCommit, /) -> None:
        """Begin; the job goes on by itself."""
        monitor = await running_monitor(world)
        nodes = await _nodes(world, monitor, step.target)
        await block_jobs.commit(
            monitor,
            step.job,
            device=next(iter(nodes.values())),
            top=_node(nodes, step.top),
            base=_node(nodes, step.base),
            active=step.active,
            backing=step.backing_name,
            speed=step.speed,
        )


class StartPull(_Begins):
    """What the disk stands on into its image."""

    async def do(self, world: World, step: s.StartPull, /) -> None:
        """Begin; the job goes on by itself."""
        monitor = await running_monitor(world)
        nodes = await _nodes(world, monitor, step.target)
        await block_jobs.pull(
            monitor,
            step.job,
            device=next(iter(nodes.values())),
            base=_node(nodes, step.base) if step.base is not None else None,
            backing=step.backing_name,
            speed=step.speed,
        )


class StartCopy(_Begins):
    """The disk into another image."""

    async def do(self, world: World, step: s.StartCopy, /) -> None:
        """Begin; the job goes on by itself."""
        monitor = await running_monitor(world)
        nodes = await _nodes(world, monitor, step.target)
        await block_jobs.mirror(
            monitor,
            step.job,
            device=next(iter(nodes.values())),
            target=format_node(step.node),
            shallow=step.shallow,
            speed=step.speed,
            granularity=step.granularity,
            buf_size=step.buf_size,
            synchronous=step.synchronous,
        )


class DropUnusedNodes(Irreversible):
    """No image is open that no disk uses."""

    async def do(self, world: World, step: s.DropUnusedNodes, /) -> None:
        """Close them; what a job still works with stays."""
        monitor = await world.monitor()
        if monitor is not None:
            await blocks.remove_unused(monitor)


async def _nodes(world: World, monitor: Monitor, target: str) -> dict[str, str]:
    """Path to node name of the disk's layers, top first."""
    top = (await tops_by_target(world, monitor)).get(target)
    if top is None:
        raise Failed(f"disk '{target}' is not in the running domain", code=ErrorCode.INTERNAL_ERROR)
    return {layer.path: layer.node_name for layer in await blocks.query_chain(monitor, top.node_name)}


def _node(nodes: dict[str, str], path: str) -> str:
    if path not in nodes:
        raise Failed(f"'{path}' is not open in QEMU", code=ErrorCode.INTERNAL_ERROR)
    return nodes[path]
