"""Steps that the guest agent carries out. A guest that was frozen is thawed, whatever happens.

A thaw that is not confirmed is no reason to lose a snapshot or to hold up its undoing: the agent has been
told, and does it when it can. What is left to say is a warning.
"""

from __future__ import annotations

import logging

from virtsnap.engine.steps.base import Irreversible, Undoable
from virtsnap.engine.world import World
from virtsnap.model import steps as s
from virtsnap.model.errors import Failed
from virtsnap.qemu import agent

_UNDO_SECONDS = 20.0
"""How long an agent that is still busy freezing is waited for when the operation is given up."""


class FreezeGuest(Undoable):
    """The guest's file systems are consistent on their disks and stand still."""

    async def do(self, world: World, step: s.FreezeGuest, /) -> None:
        """Ask for it; the plan made sure that nobody else had."""
        await agent.freeze(step.socket)

    async def undo(self, world: World, step: s.FreezeGuest, /) -> None:
        """Let them go on."""
        await thaw(world, step.socket, _UNDO_SECONDS)


class ThawGuest(Irreversible):
    """The guest's file systems go on."""

    async def do(self, world: World, step: s.ThawGuest, /) -> None:
        """Let them."""
        await thaw(world, step.socket, agent.SYNC_SECONDS)


async def thaw(world: World, socket: str, timeout: float) -> None:
    """Let the file systems go on, if there still is a guest; a warning when it does not say that they do."""
    if await world.monitor() is None:
        return
    try:
        await agent.thaw(socket, timeout=timeout)
    except Failed as error:
        logging.getLogger("virtsnap").warning(
            "the file systems of domain '%s' may still be frozen: %s", world.record().name, error
        )
