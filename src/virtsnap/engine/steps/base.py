"""What most kinds of step have in common: nothing to undo, nothing to tell."""

from __future__ import annotations

from typing import Any

from virtsnap.engine.world import World


class Irreversible:
    """A finish step: repeated until it succeeds, never undone."""

    async def undo(self, world: World, step: Any, /) -> None:
        """Nothing to take back."""

    async def probe(self, world: World, step: Any, /) -> bool | None:
        """Nobody asks: only a commit is probed."""
        return None


class Undoable:
    """A prepare step: has an undo of its own, and is never the commit."""

    async def probe(self, world: World, step: Any, /) -> bool | None:
        """Nobody asks: only a commit is probed."""
        return None
