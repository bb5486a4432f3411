"""Guests that were asked to restart and have not done so yet.

The service waits for the guest, which may take its time or never react. Clients do not: they are answered as
soon as it is clear that the guest was asked. A destroy, reset, shutdown or another reboot gives the waiting
up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

_ASKED_SECONDS = 0.5
"""A refusal comes at once: the domain does not run, the agent says no."""

Start = Callable[[Coroutine[object, object, None], str], "asyncio.Task[None]"]


class Reboots:
    """For the whole daemon. `start`: runs a task that ends with the daemon."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._waiting: dict[str, asyncio.Task[None]] = {}

    async def ask(self, uuid: str, reboot: Coroutine[object, object, None]) -> None:
        """Begin it. Raises what it is refused with."""
        task = self._waiting[uuid] = self._start(reboot, f"reboot of {uuid}")
        task.add_done_callback(lambda done: self._over(uuid, done))
        done, _ = await asyncio.wait({task}, timeout=_ASKED_SECONDS)
        if done:
            task.result()

    async def give_up(self, uuid: str) -> None:
        """Nobody waits for that guest any more."""
        task = self._waiting.get(uuid)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    def _over(self, uuid: str, done: asyncio.Task[None]) -> None:
        if self._waiting.get(uuid) is done:
            del self._waiting[uuid]
        if not done.cancelled():
            done.exception()  # who asked was answered long ago
