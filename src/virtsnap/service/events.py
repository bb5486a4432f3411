"""The call on events: what happens to the domains from now on, whoever does it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from virtsnap.model.errors import NoDomain
from virtsnap.model.event import DomainEvent
from virtsnap.service.context import Context


class EventCalls(Context):
    """See `service.interface.Service`."""

    @contextlib.asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[DomainEvent]]:
        """Events from the moment the block is entered. Raises SystemRefused."""
        from virtsnap.engine.watch import Watch

        under_way: dict[str, asyncio.Task[None]] = {}

        def heard(uuid: str) -> None:
            """Whoever watches also sees to block jobs that wait for somebody."""
            if self.readonly or uuid in under_way or not self.store.block_jobs(uuid, active=True):
                return
            task = asyncio.get_running_loop().create_task(self._conclude(uuid))
            under_way[uuid] = task
            task.add_done_callback(lambda _: under_way.pop(uuid, None))

        with Watch(self.root, self.store, heard) as watch:
            try:
                yield watch
            finally:
                # What is begun comes to its end: a few commands to QEMU.
                await asyncio.gather(*under_way.values())

    async def _conclude(self, uuid: str) -> None:
        with contextlib.suppress(NoDomain):
            await self.look(uuid)
