"""Rows of steps side by side: most of what a row takes is the start of a QEMU, which needs a processor."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from virtsnap.engine.steps.base import Undoable
from virtsnap.engine.uninterrupted import uninterrupted
from virtsnap.engine.world import World
from virtsnap.model import steps as s
from virtsnap.model.errors import Failed, VirtsnapError

_Handle = Callable[[World, s.Step], Awaitable[None]]


class Together(Undoable):
    """Each row in order, as many rows at once as there are processors, and one more, which waits for QEMU."""

    def __init__(self, do: _Handle, undo: _Handle) -> None:
        """Do and undo of any other kind of step."""
        self._do, self._undo = do, undo

    async def do(self, world: World, step: s.Together, /) -> None:
        """All rows. Raises the first error of a row, by name, after no other goes on and all are undone."""
        turns = asyncio.Semaphore(len(os.sched_getaffinity(0)) + 1)
        rows = [asyncio.ensure_future(self._row(world, row, turns)) for row in step.rows]
        try:
            await asyncio.gather(*rows)
        except BaseException:
            for row in rows:
                row.cancel()
            # What is undone now must not meet a row that is still at work.
            await uninterrupted(asyncio.wait(rows))
            await uninterrupted(self.undo(world, step))
            raise

    async def undo(self, world: World, step: s.Together, /) -> None:
        """Row by row, the last step of each first."""
        for row in step.rows:
            for one in reversed(row.steps):
                await self._undo(world, one)

    async def _row(self, world: World, row: s.Row, turns: asyncio.Semaphore) -> None:
        async with turns:
            try:
                for one in row.steps:
                    await self._do(world, one)
            except VirtsnapError as error:
                raise Failed(f"{row.subject}: {error.detail}", code=error.code) from error
