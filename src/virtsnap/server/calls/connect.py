"""The calls on the connection itself, and on the domains that it knows."""

from __future__ import annotations

import os
from uuid import UUID

from virtsnap.model.flags import DomainList
from virtsnap.server.answers import Packed
from virtsnap.server.session import Session, packed_domain, wire_domain
from virtsnap.wire.values import WireDomain
from virtsnap.wire.xdr import XdrError

_DOMAINS_MAX = 16384
LIBVIRT_VERSION = 11_003_000
"""Tools look at it to know which calls there are."""


async def connect_get_type(session: Session) -> str:
    return "QEMU"


async def connect_get_version(session: Session) -> int:
    return await session.service.hypervisor_version()


async def connect_get_lib_version(session: Session) -> int:
    return LIBVIRT_VERSION


async def connect_get_hostname(session: Session) -> str:
    return os.uname().nodename


async def connect_get_uri(session: Session) -> str:
    return session.uri


async def connect_is_secure(session: Session) -> int:
    return 1  # a socket of this host


async def connect_register_close_callback(session: Session) -> None:
    """The connection to the emulators cannot be lost separately from this one: there is nothing to tell."""


async def connect_unregister_close_callback(session: Session) -> None:
    pass


async def connect_list_all_domains(session: Session, need_results: int, flags: int) -> Packed:
    handles = await session.service.list_domains(flags)

    def pack() -> bytes:
        found = handles if need_results else []
        if len(found) > _DOMAINS_MAX:
            raise XdrError(f"{len(found)} domains are more than the limit of {_DOMAINS_MAX}")
        count, total = len(found).to_bytes(4, "big"), len(handles).to_bytes(4, "big")
        return b"".join((count, *map(packed_domain, found), total))

    return session.answers.get(("domains", session.readonly, bool(need_results), flags), handles, pack)


async def connect_list_domains(session: Session, maxids: int) -> list[int]:
    handles = await session.service.list_domains(DomainList.ACTIVE)
    return [handle.id for handle in handles if handle.id is not None][: max(maxids, 0)]


async def connect_num_of_domains(session: Session) -> int:
    return len(await session.service.list_domains(DomainList.ACTIVE))


async def connect_list_defined_domains(session: Session, maxnames: int) -> list[str]:
    handles = await session.service.list_domains(DomainList.INACTIVE)
    return [handle.name for handle in handles][: max(maxnames, 0)]


async def connect_num_of_defined_domains(session: Session) -> int:
    return len(await session.service.list_domains(DomainList.INACTIVE))


async def domain_lookup_by_id(session: Session, id: int) -> WireDomain:
    return wire_domain(await session.service.lookup_by_id(id))


async def domain_lookup_by_name(session: Session, name: str) -> WireDomain:
    return wire_domain(await session.service.lookup_by_name(name))


async def domain_lookup_by_uuid(session: Session, uuid: bytes) -> WireDomain:
    return wire_domain(await session.service.lookup_by_uuid(str(UUID(bytes=uuid))))
