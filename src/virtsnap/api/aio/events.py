"""Callbacks for events, under libvirt-python's names and with its arguments."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from virtsnap.api.aio.domain import Domain
from virtsnap.model.errors import InvalidArg
from virtsnap.model.event import Change, DomainEvent, EventKind
from virtsnap.model.frozen import dataclass
from virtsnap.service.interface import DomainHandle

if TYPE_CHECKING:
    from virtsnap.api.aio.connection import Connection

EventCallback: TypeAlias = Callable[..., object]
"""Called with connection, domain, the values of the event's kind, and what was registered with it."""


@dataclass(frozen=True)
class _Registered:
    kind: EventKind
    uuid: str | None
    callback: EventCallback
    opaque: object


class Callbacks:
    """Those of one connection. Watches as long as there are any."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._registered: dict[int, _Registered] = {}
        self._next = 0
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def register(
        self, domain: Domain | None, kind: int, callback: EventCallback, opaque: object
    ) -> int:
        """On return everything that happens reaches the callback. Raises InvalidArg, SystemRefused."""
        if not 0 <= kind < len(EventKind):
            raise InvalidArg(
                f"eventID in virConnectDomainEventRegisterAny must be less than {len(EventKind)}"
            )
        uuid = None if domain is None else domain.UUIDString()
        async with self._lock:
            if self._task is None:
                stack = contextlib.AsyncExitStack()
                events = await stack.enter_async_context(self._connection._service.events())
                self._task = asyncio.create_task(self._deliver(stack, events))
            number = self._next
            self._next += 1
            self._registered[number] = _Registered(EventKind(kind), uuid, callback, opaque)
        return number

    async def deregister(self, number: int) -> None:
        """Raises InvalidArg for a number that `register` has not given."""
        if number not in self._registered:
            raise InvalidArg(f"could not find event callback {number} for deletion")
        del self._registered[number]
        if not self._registered:
            await self.close()

    def lifecycle_of(self, callback: EventCallback) -> int | None:
        """The number under which a callback gets lifecycle events of all domains."""
        for number, one in self._registered.items():
            if one.callback == callback and one.kind is EventKind.LIFECYCLE and one.uuid is None:
                return number
        return None

    async def close(self) -> None:
        """Watch no more."""
        async with self._lock:
            task, self._task = self._task, None
            self._registered.clear()
            # A callback may take itself out; what runs it then ends by itself.
            if task is not None and task is not asyncio.current_task():
                task.cancel()
                await asyncio.wait({task})

    async def _deliver(self, stack: contextlib.AsyncExitStack, events: AsyncIterator[DomainEvent]) -> None:
        async with stack:
            async for event in events:
                for number, one in list(self._registered.items()):
                    if one.kind is event.kind and one.uuid in (None, event.uuid):
                        self._call(number, one, event)
                if not self._registered:
                    return

    def _call(self, number: int, one: _Registered, event: DomainEvent) -> None:
        domain = Domain(self._connection, DomainHandle(event.uuid, event.name, event.id))
        try:
            one.callback(self._connection, domain, *arguments(event.change), one.opaque)
        except Exception:
            logging.getLogger("virtsnap").exception("event callback %d failed", number)


def arguments(change: Change) -> tuple[Any, ...]:
    """What libvirt-python passes between the domain and what was registered."""
    values: Mapping[str, Any] = change.values
    match change.kind:
        case EventKind.GRAPHICS:
            sides = (
                {name: values[f"{side}_{name}"] for name in ("family", "node", "service")}
                for side in ("local", "remote")
            )
            return (values["phase"], *sides, values["auth"], [])
        case EventKind.PMWAKEUP | EventKind.PMSUSPEND | EventKind.PMSUSPEND_DISK:
            return (0,)
        case EventKind.METADATA_CHANGE:
            return (values["type"], values["uri"] or None)
        case _:
            return tuple(values.values())
