"""Steps on QEMU processes: starting one that waits, ending one for good."""

from __future__ import annotations

from virtsnap.engine import launch
from virtsnap.engine.steps.base import Irreversible, Undoable
from virtsnap.engine.world import World
from virtsnap.model import steps as s


class StartQemu(Undoable):
    """A QEMU in its run folder, paused, its monitor answering."""

    async def do(self, world: World, step: s.StartQemu, /) -> None:
        """Start it. One left in the folder by a crash in the middle of this is ended first."""
        await launch.end(world, step.run_dir)
        await launch.start(
            world,
            id=step.id,
            run_dir=step.run_dir,
            domain_xml=step.domain_xml,
            incoming=step.incoming,
            memory=step.memory,
            own_tpm=step.own_tpm,
        )

    async def undo(self, world: World, step: s.StartQemu, /) -> None:
        """End it and remove its folder."""
        await launch.end(world, step.run_dir)


class KillQemu(Irreversible):
    """No QEMU and no folder."""

    async def do(self, world: World, step: s.KillQemu, /) -> None:
        """End the process, which flushes its disks, and remove its folder."""
        await launch.end(world, step.run_dir)
