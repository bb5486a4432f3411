"""An open connection, as the calls see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from virtsnap.service.interface import DomainHandle, Service
from virtsnap.wire.values import WireDomain, WireSnapshot

if TYPE_CHECKING:
    from virtsnap.server.answers import Answers
    from virtsnap.server.consoles import Consoles
    from virtsnap.server.events import ClientEvents
    from virtsnap.server.reboots import Reboots
    from virtsnap.service.storage import Storage


@dataclass
class Session:
    """`service` already knows whether the connection is read-only."""

    service: Service
    storage: Storage
    uri: str
    readonly: bool
    consoles: Consoles
    events: ClientEvents
    reboots: Reboots
    answers: Answers

    async def domain(self, dom: WireDomain) -> WireDomain:
        """The domain as it is now: clients keep names and ids that are long out of date. Raises NoDomain."""
        return wire_domain(await self.service.lookup_by_uuid(dom.uuid_text))

    async def snapshot(self, dom: WireDomain, name: str) -> WireSnapshot:
        """A snapshot of it."""
        return WireSnapshot(name, await self.domain(dom))


def wire_domain(handle: DomainHandle) -> WireDomain:
    """A handle as it travels."""
    uuid = bytes.fromhex(handle.uuid.replace("-", ""))
    return WireDomain(handle.name, uuid, -1 if handle.id is None else handle.id)
