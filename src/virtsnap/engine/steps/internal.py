"""Steps on internal snapshots, in a running QEMU and at rest."""

from __future__ import annotations

import os

from virtsnap.engine.steps.base import Irreversible, Undoable
from virtsnap.engine.steps.guest import running_monitor
from virtsnap.engine.steps.layers import remove, tops_by_target
from virtsnap.engine.world import World
from virtsnap.model import steps as s
from virtsnap.qemu import blocks, internal


class SaveInternal(Undoable):
    """Memory and disks into internal snapshots of the running domain."""

    async def do(self, world: World, step: s.SaveInternal, /) -> None:
        """One job over all images. A job that fails half way leaves tags, which are taken off again."""
        monitor = await running_monitor(world)
        tops = await tops_by_target(world, monitor)
        try:
            await internal.save(
                monitor,
                job=step.job,
                name=step.name,
                memory_node=tops[step.memory_target].node_name,
                nodes=[tops[target].node_name for target in step.targets],
                progress=lambda done, total: world.report("Snapshot", done, total),
            )
        except BaseException:
            await self.undo(world, step)
            raise

    async def undo(self, world: World, step: s.SaveInternal, /) -> None:
        """Delete the tags wherever they are."""
        monitor = await world.monitor()
        if monitor is None:
            return  # QEMU died: the tags that it finished are deleted by `plan.create`'s own DeleteTag steps
        tops = await tops_by_target(world, monitor)
        await blocks.adopt(monitor, step.job)
        for number, target in enumerate(step.targets):
            if target in tops:
                await internal.delete_live(
                    monitor,
                    job=f"{step.job}-undo-{number}",
                    name=step.name,
                    node=tops[target].node_name,
                    writable=True,
                )


class LoadInternal(Undoable):
    """Memory and disks of an internal snapshot in a QEMU that stands still."""

    async def do(self, world: World, step: s.LoadInternal, /) -> None:
        """One job over all images."""
        monitor = await running_monitor(world, step.run_dir)
        tops = await tops_by_target(world, monitor)
        await internal.load(
            monitor,
            job=step.job,
            name=step.name,
            memory_node=tops[step.memory_target].node_name,
            nodes=[tops[target].node_name for target in step.targets],
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


class ExtractTag(Undoable):
    """A new image with an internal snapshot's content."""

    async def do(self, world: World, step: s.ExtractTag, /) -> None:
        """Copy it out."""
        await internal.extract(
            step.source, step.name, step.path, backing=step.backing, backing_format=step.backing_format
        )

    async def undo(self, world: World, step: s.ExtractTag, /) -> None:
        """Delete the new image."""
        remove(step.path)


class DeleteTag(Irreversible):
    """An internal snapshot goes."""

    async def do(self, world: World, step: s.DeleteTag, /) -> None:
        """Delete it in QEMU where it has the image open, with qemu-img where not."""
        monitor = await world.monitor()
        if monitor is not None:
            await blocks.adopt(monitor, step.job)
            for top in (await blocks.top_nodes(monitor)).values():
                for node in await blocks.query_chain(monitor, top.node_name):
                    if node.path == step.path:
                        await internal.delete_live(
                            monitor,
                            job=step.job,
                            name=step.name,
                            node=node.node_name,
                            writable=node == top,
                        )
                        return
        if os.path.exists(step.path):
            await internal.delete(step.path, step.name)
