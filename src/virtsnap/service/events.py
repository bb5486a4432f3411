"""The call on events: what happens to the domains from now on, whoever does it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from virtsnap.model.event import DomainEvent
from virtsnap.service.context import Context


class EventCalls(Context):
    """See `service.interface.Service`."""

    @contextlib.asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[DomainEvent]]:
        """Events from the moment the block is entered. Raises SystemRefused."""
        from virtsnap.engine.watch import Watch

        with Watch(self.root, self.store) as watch:
            yield watch
