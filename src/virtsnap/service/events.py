"""The call on events: what happens to the domains from now on, whoever does it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from virtsnap.model.errors import VirtsnapError
from virtsnap.model.event import DomainEvent
from virtsnap.service.context import Context


class EventCalls(Context):
    """See `service.interface.Service`."""

    @contextlib.asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[DomainEvent]]:
        """Events from the moment the block is entered. Raises SystemRefused."""
        from virtsnap.engine.watch import Watch

        attending: dict[str, asyncio.Task[None]] = {}
        again: set[str] = set()

        def news(uuid: str) -> None:
            # A short job may be over before whoever begins it has noted it: he is waited for.
            if self.readonly or not (self.store.block_jobs(uuid, active=True) or self.store.journal(uuid)):
                return
            if uuid in attending:
                again.add(uuid)
                return
            # Also while the watch is being opened, which is over when the task begins.
            attending[uuid] = asyncio.create_task(self._attend(lambda: watch.unlocked(uuid), uuid))
            attending[uuid].add_done_callback(lambda _: done(uuid))

        def done(uuid: str) -> None:
            del attending[uuid]
            if uuid in again:
                again.discard(uuid)
                news(uuid)

        with Watch(self.root, self.store, news) as watch:
            try:
                yield watch
            finally:
                while attending:
                    await asyncio.wait(attending.values())

    async def _attend(self, unlocked: Callable[[], bool], uuid: str) -> None:
        """A block job may wait to be brought to its end, which is told then: whoever watches does it."""
        try:
            if unlocked():
                await self.look(uuid)
        except VirtsnapError as error:
            logging.getLogger("virtsnap").warning("domain %s: %s", uuid, error)
