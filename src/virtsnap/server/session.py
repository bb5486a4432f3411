"""An open connection, as the calls see it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from virtsnap.model.errors import VirtsnapError
from virtsnap.service.interface import DomainHandle, ServedService
from virtsnap.wire.procedures import TYPES
from virtsnap.wire.values import WireDomain, WireSnapshot
from virtsnap.wire.xdr import pack

if TYPE_CHECKING:
    from virtsnap.server.answers import Answers
    from virtsnap.server.consoles import Consoles
    from virtsnap.server.events import ClientEvents
    from virtsnap.server.reboots import Reboots
    from virtsnap.service.storage import Storage


@dataclass
class Session:
    """`service` already knows whether the connection is read-only."""

    service: ServedService
    storage: Storage
    uri: str
    readonly: bool
    consoles: Consoles
    events: ClientEvents
    reboots: Reboots
    answers: Answers
    closed: bool = False
    _with_us: dict[str, int | None] = field(default_factory=dict)
    """Domains that end with the connection, and the ids that they run under."""

    async def ends_with_us(self, handle: DomainHandle) -> None:
        """The domain was started with autodestroy."""
        self._with_us[handle.uuid] = handle.id
        if self.closed:  # the client has gone while it was started
            await self.close()

    async def close(self) -> None:
        """The client is gone."""
        self.closed = True
        while self._with_us:
            uuid, id = self._with_us.popitem()
            with contextlib.suppress(VirtsnapError):  # it has ended already
                if (await self.service.lookup_by_uuid(uuid)).id == id:
                    await self.reboots.give_up(uuid)
                    await self.service.destroy(uuid)

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


def packed_domain(handle: DomainHandle) -> bytes:
    """The bytes of a handle as it travels."""
    return _packed(handle.uuid, handle.name, handle.id)


@lru_cache(maxsize=4096)
def _packed(uuid: str, name: str, id: int | None) -> bytes:
    # Lists are long, and most of one is as it was.
    return pack(TYPES.codec("domain"), wire_domain(DomainHandle(uuid, name, id)))
