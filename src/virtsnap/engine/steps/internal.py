"""Steps on internal snapshots, in a running QEMU and at rest."""

from __future__ import annotations

import contextlib
import os

from virtsnap.engine.steps.base import Irreversible, Undoable
from virtsnap.engine.steps.guest import running_monitor
from virtsnap.engine.steps.layers import tops_by_target
from virtsnap.engine.world import World
from virtsnap.model import steps as s
from virtsnap.model.errors import Failed
from virtsnap.qemu import blocks, internal


class GuardTag(Undoable):
    """The way back from a tag that a later step makes."""

    async def do(self, world: World, step: s.GuardTag, /) -> None:
        """Nothing: the plan made sure that no tag of the name is there."""

    async def undo(self, world: World, step: s.GuardTag, /) -> None:
        """Delete the tag wherever the image is, if it is there."""
        await delete_tag(world, step.path, step.name, step.job)


class TagDisks(Undoable):
    """Disks into internal snapshots of the running domain."""

    async def do(self, world: World, step: s.TagDisks, /) -> None:
        """One transaction over all images; the guards take it back."""
        monitor = await running_monitor(world)
        tops = await tops_by_target(world, monitor)
        await blocks.tag(monitor, step.name, [tops[target].node_name for target in step.targets])

    async def undo(self, world: World, step: s.TagDisks, /) -> None:
        """Nothing: what it made is deleted by the guards."""


class SaveInternal(Undoable):
    """Memory and disks into internal snapshots of the running domain."""

    async def do(self, world: World, step: s.SaveInternal, /) -> None:
        """One job over all images."""
        monitor = await running_monitor(world)
        tops = await tops_by_target(world, monitor)
        await internal.save(
            monitor,
            job=step.job,
            name=step.name,
            memory_node=tops[step.memory_target].node_name,
            nodes=[tops[target].node_name for target in step.targets],
            progress=lambda done, total: world.report("Snapshot", done, total),
        )

    async def undo(self, world: World, step: s.SaveInternal, /) -> None:
        """See a job that a crash left to its end; what it made is deleted by the guards."""
        monitor = await world.monitor()
        if monitor is not None:
            with contextlib.suppress(Failed):
                await blocks.adopt(monitor, step.job)


class LoadInternal(Undoable):
    """Memory and disks of an internal snapshot in a QEMU that stands still."""

    async def do(self, world: World, step: s.LoadInternal, /) -> None:
        """One job over all images."""
        monitor = await running_monitor(world, step.run_dir)
        nodes = {top.path: top.node_name for top in (await blocks.top_nodes(monitor)).values()}
        await internal.load(
            monitor,
            job=step.job,
            name=step.name,
            memory_node=nodes[step.memory_image],
            nodes=[nodes[path] for path in step.images],
            progress=lambda done, total: world.report("Snapshot revert", done, total),
        )

    async def undo(self, world: World, step: s.LoadInternal, /) -> None:
        """Nothing: never prepared, since the disks change with it."""


class TagImage(Undoable):
    """An internal snapshot of an image at rest."""

    async def do(self, world: World, step: s.TagImage, /) -> None:
        """Make it."""
        await internal.create(step.path, step.name)

    async def undo(self, world: World, step: s.TagImage, /) -> None:
        """Delete it, if it got that far; the plan made sure that none of the name was there before."""
        await internal.delete(step.path, step.name)


class ApplyTag(Irreversible):
    """An image at rest goes back to its internal snapshot."""

    async def do(self, world: World, step: s.ApplyTag, /) -> None:
        """Go back; doing it twice changes nothing."""
        await internal.apply(step.path, step.name)


class DeleteTag(Irreversible):
    """An internal snapshot goes."""

    async def do(self, world: World, step: s.DeleteTag, /) -> None:
        """Delete it in QEMU where it has the image open, with qemu-img where not."""
        await delete_tag(world, step.path, step.name, step.job)


async def delete_tag(world: World, path: str, name: str, job: str) -> None:
    """Delete an internal snapshot, in QEMU where it has the image open; quiet when it is not there."""
    if not os.path.exists(path) or await internal.find(path, name) is None:
        return
    monitor = await world.monitor()
    if monitor is not None:
        await blocks.adopt(monitor, job)
        for top in (await blocks.top_nodes(monitor)).values():
            for node in await blocks.query_chain(monitor, top.node_name):
                if node.path == path:
                    await internal.delete_live(
                        monitor, job=job, name=name, node=node.node_name, writable=node == top
                    )
                    return
    await internal.delete(path, name)
