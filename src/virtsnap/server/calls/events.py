"""The calls that ask to be told of something."""

from __future__ import annotations

from uuid import UUID

from virtsnap.model.event import EventKind
from virtsnap.server.session import Session
from virtsnap.wire.errors import FROM_RPC, WireError
from virtsnap.wire.events import has_old_form
from virtsnap.wire.values import WireDomain

_INTERNAL = 1


async def connect_domain_event_callback_register_any(
    session: Session, event: int, dom: WireDomain | None
) -> int:
    return await session.events.register(_kind(event), None if dom is None else dom.uuid_text)


async def connect_domain_event_callback_deregister_any(session: Session, callback: int) -> None:
    _deregister(session, callback, "domain")


async def connect_domain_event_register(session: Session) -> int:
    await _register_old(session, EventKind.LIFECYCLE)
    return 1


async def connect_domain_event_deregister(session: Session) -> int:
    _deregister(session, EventKind.LIFECYCLE.name, "domain")
    return 0


async def connect_domain_event_register_any(session: Session, event: int) -> None:
    await _register_old(session, _kind(event))


async def connect_domain_event_deregister_any(session: Session, event: int) -> None:
    _deregister(session, _kind(event).name, "domain")


async def connect_storage_pool_event_register_any(
    session: Session, event: int, pool: tuple[str, bytes] | None
) -> int:
    if event not in (0, 1):
        raise _refused(f"unsupported storage pool event ID {event}")
    uuid = None if pool is None else str(UUID(bytes=pool[1]))
    return await session.events.register_pool(refresh=bool(event), uuid=uuid)


async def connect_storage_pool_event_deregister_any(session: Session, callback: int) -> None:
    _deregister(session, callback, "storage pool")


# There is nothing of these here, so nothing ever happens to it.


async def connect_network_event_register_any(session: Session, event: int, net: object) -> int:
    return await session.events.register(None)


async def connect_network_event_deregister_any(session: Session, callback: int) -> None:
    _deregister(session, callback, "network")


async def connect_node_device_event_register_any(session: Session, event: int, device: object) -> int:
    return await session.events.register(None)


async def connect_node_device_event_deregister_any(session: Session, callback: int) -> None:
    _deregister(session, callback, "node device")


async def connect_secret_event_register_any(session: Session, event: int, secret: object) -> int:
    return await session.events.register(None)


async def connect_secret_event_deregister_any(session: Session, callback: int) -> None:
    _deregister(session, callback, "secret")


def _kind(number: int) -> EventKind:
    try:
        return EventKind(number)
    except ValueError as error:
        raise _refused(f"unsupported event ID {number}") from error


async def _register_old(session: Session, kind: EventKind) -> None:
    if not has_old_form(kind):
        raise _refused(f"unsupported event ID {kind:d}")
    if not await session.events.register_old(kind):
        raise _refused(f"domain event {kind:d} already registered")


def _deregister(session: Session, key: int | str, what: str) -> None:
    if not session.events.deregister(key):
        raise _refused(f"{what} event callback {key} not registered")


def _refused(detail: str) -> WireError:
    return WireError(_INTERNAL, FROM_RPC, f"internal error: {detail}")
