"""Steps that merge image files, in a running QEMU where it has them open and with qemu-img where not."""

from __future__ import annotations

import os
from functools import partial

from virtsnap.engine import telling
from virtsnap.engine.steps.base import Undoable
from virtsnap.engine.world import World
from virtsnap.model import steps as s
from virtsnap.qemu import blocks, images
from virtsnap.qemu.monitor import Monitor


class MergeImages(Undoable):
    """A run of images becomes one."""

    async def do(self, world: World, step: s.MergeImages, /) -> None:
        """Merge; repeatable, since copying the same content again changes nothing.

        But for one moment: once the guest writes to `base` itself, `top` is old. That is settled while QEMU
        holds the disk still between the last copied byte and the first new one.
        """

        def progress(done: int, total: int) -> None:
            world.report("Snapshot delete", done, total)

        monitor = await world.monitor()
        if monitor is not None:
            # A process that died may have left the job behind, running or done.
            settled = partial(world.settle, True) if step.down else None
            await blocks.adopt(monitor, step.job, progress, settled)
        if monitor is not None and (chain := await _open_chain(monitor, step)) is not None:
            if step.top in chain and step.base in chain:
                if world.settled:
                    world.settle(False)  # QEMU did not go over to the base after all
                await _merge_live(world, monitor, step, chain, progress)
            return
        if world.settled or not os.path.exists(step.top):
            return  # merged down before a crash
        if step.down:
            await images.commit(step.top, step.base, progress, format=step.top_format)
        else:
            await images.rebase(
                step.top,
                step.below,
                step.below_format,
                unsafe=False,
                format=step.top_format,
                progress=progress,
            )

    async def undo(self, world: World, step: s.MergeImages, /) -> None:
        """Only merges upwards are ever prepared: they change nobody's content, so what was done may stay.

        A process that died may have left the job running, which must not change the layers any more later.
        """
        monitor = await world.monitor()
        if monitor is not None:
            await blocks.cancel(monitor, step.job)


class GuardLayer(Undoable):
    """A base gets back what the guest wrote above it, if the operation that put the layer there is undone."""

    async def do(self, world: World, step: s.GuardLayer, /) -> None:
        """Nothing yet."""

    async def undo(self, world: World, step: s.GuardLayer, /) -> None:
        """Merge the overlay into its base, while the guest runs or after its QEMU is gone."""
        merge = s.MergeImages(
            target=step.target,
            top=step.path,
            top_format=step.format,
            base=step.backing,
            base_format=step.backing_format,
            down=True,
            below=None,
            below_format=None,
            job=step.job,
            bytes=0,
        )
        await MergeImages().do(world, merge)


class RelinkBacking(Undoable):
    """An image that is not open stands on the new name of what it stood on."""

    async def do(self, world: World, step: s.RelinkBacking, /) -> None:
        """Rewrite the name in its header, unless QEMU already did while merging."""
        if not os.path.exists(step.path):
            return
        info = await images.info(step.path, format=step.format)
        if info.backing_path != step.backing:
            await images.rebase(step.path, step.backing, step.backing_format, unsafe=True, format=step.format)

    async def undo(self, world: World, step: s.RelinkBacking, /) -> None:
        """Never prepared: only follows a decided merge."""


async def _open_chain(monitor: Monitor, step: s.MergeImages) -> dict[str, str] | None:
    """Path to node name of the chain in QEMU that holds top or base; None when it has neither open."""
    for top in (await blocks.top_nodes(monitor)).values():
        chain = await blocks.query_chain(monitor, top.node_name)
        paths = {node.path: node.node_name for node in chain}
        if step.top in paths or step.base in paths:
            return paths
    return None


async def _merge_live(
    world: World,
    monitor: Monitor,
    step: s.MergeImages,
    chain: dict[str, str],
    progress: blocks.ProgressCallback,
) -> None:
    active_path, active_node = next(iter(chain.items()))
    if step.down:
        if step.top == active_path:
            telling.expect_move(world.store, world.uuid, step.job, step.base)
        await blocks.commit(
            monitor,
            device_top=active_node,
            top=chain[step.top],
            base=chain[step.base],
            backing_file=step.base,
            active=step.top == active_path,
            job=step.job,
            progress=progress,
            settled=partial(world.settle, True),
        )
    else:
        await blocks.stream(
            monitor,
            top=chain[step.top],
            base=chain[step.below] if step.below is not None else None,
            backing_file=step.below,
            job=step.job,
            progress=progress,
        )
