"""Who wants to hear of what: registrations of all clients, and one watch that serves them all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from uuid import UUID

from virtsnap.model.errors import InternalRefused
from virtsnap.model.event import DomainEvent, EventKind
from virtsnap.model.frozen import dataclass
from virtsnap.service.interface import Service
from virtsnap.wire.events import message, pool_message
from virtsnap.wire.frames import Frame
from virtsnap.wire.xdr import XdrError

logger = logging.getLogger("virtsnap.server")
WISHES_MAX = 16384
"""Registrations of one client."""


@dataclass(frozen=True)
class Registration:
    """One wish. `uuid` None: any domain's. `callback` None: of a client that knows no ids."""

    tell: Callable[[Frame], None]
    kind: EventKind
    uuid: str | None
    callback: int | None


class Events:
    """The daemon's only watch; it begins with the first registration."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._wishes: dict[object, Registration] = {}
        self._watch: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def add(self, key: object, wish: Registration) -> None:
        """From now on it is told. Raises what the service does when nothing can be watched."""
        async with self._starting:
            if self._watch is None or self._watch.done():
                begun = asyncio.get_running_loop().create_future()
                self._watch = asyncio.create_task(self._run(begun))
                await begun
        self._wishes[key] = wish

    def remove(self, key: object) -> None:
        """Tell no more."""
        self._wishes.pop(key, None)

    @property
    def wishes(self) -> int:
        """How many registrations there are, of all clients."""
        return len(self._wishes)

    async def close(self) -> None:
        """Watch no more."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch

    async def _run(self, begun: asyncio.Future[None]) -> None:
        try:
            async with self._service.events() as events:
                begun.set_result(None)
                async for event in events:
                    self._tell(event)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if begun.done():
                logger.exception("events are told no more")
            else:
                begun.set_exception(error)

    def _tell(self, event: DomainEvent) -> None:
        for wish in list(self._wishes.values()):
            if wish.kind is event.kind and wish.uuid in (None, event.uuid):
                try:
                    frame = message(event, wish.callback)
                except XdrError as error:
                    logger.warning("event %s of domain '%s': %s", event.kind.name, event.name, error)
                    return
                if frame is not None:
                    wish.tell(frame)


class PoolEvents:
    """Who wants to hear of storage pools. Only the daemon's clients change them: nothing is watched."""

    def __init__(self) -> None:
        self._wishes: dict[object, tuple[Callable[[Frame], None], bool, str | None, int]] = {}

    def add(
        self, key: object, tell: Callable[[Frame], None], *, refresh: bool, uuid: str | None, callback: int
    ) -> None:
        """`refresh`: of what is found in them, not of their life. `uuid` None: any pool's."""
        self._wishes[key] = tell, refresh, uuid, callback

    def remove(self, key: object) -> None:
        """Tell no more."""
        self._wishes.pop(key, None)

    def tell(self, pool: tuple[str, bytes], event: int | None) -> None:
        """virStoragePoolEventLifecycleType has happened to it; None: it was refreshed."""
        for tell, refresh, uuid, callback in list(self._wishes.values()):
            if refresh is (event is None) and uuid in (None, str(UUID(bytes=pool[1]))):
                tell(pool_message(pool, event, callback))


def _to_nobody(frame: Frame) -> None:
    pass


class ClientEvents:
    """One client's registrations. A key is a callback's id, or the name of a kind without one."""

    def __init__(
        self, events: Events, tell: Callable[[Frame], None], pools: PoolEvents | None = None
    ) -> None:
        self._events = events
        self.pools = pools or PoolEvents()
        self._tell = tell
        self._keys: set[int | str] = set()
        self._next = 0
        self._closed = False

    async def register(self, kind: EventKind | None, uuid: str | None = None) -> int:
        """Returns the callback's id. `kind` None: what never happens here."""
        number = self._next
        self._next += 1
        await self._add(number, None if kind is None else Registration(self._tell, kind, uuid, number))
        return number

    async def register_pool(self, *, refresh: bool, uuid: str | None) -> int:
        """The same of storage pools."""
        number = await self.register(None)
        if number in self._keys:
            self.pools.add((self, number), self._tell, refresh=refresh, uuid=uuid, callback=number)
        return number

    async def register_old(self, kind: EventKind) -> bool:
        """For clients that know no ids; of any domain. False when that is done already."""
        if kind.name in self._keys:
            return False
        await self._add(kind.name, Registration(self._tell, kind, None, None))
        return True

    async def _add(self, key: int | str, wish: Registration | None) -> None:
        if self._closed:  # a call that goes on when its client has hung up: nobody would ever take this back
            return
        if len(self._keys) >= WISHES_MAX:
            raise InternalRefused("too many event callbacks")
        self._keys.add(key)
        if wish is None:
            return
        try:
            await self._events.add((self, key), wish)
        except BaseException:
            self._keys.discard(key)
            raise
        if key not in self._keys:  # the client has gone meanwhile
            self._events.remove((self, key))

    def deregister(self, key: int | str) -> bool:
        """False when there is none of that key."""
        if key not in self._keys:
            return False
        self._keys.discard(key)
        self._events.remove((self, key))
        self.pools.remove((self, key))
        return True

    def close(self) -> None:
        """Forget them all, and what calls still under way ask for."""
        self._closed = True
        self._tell = _to_nobody
        for key in list(self._keys):
            self.deregister(key)
