"""Figures of running domains: what monitors ask for every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from virtsnap.model.domain import DomainInfo, DomainState
from virtsnap.model.errors import InvalidArg, NoDomain, OperationInvalid, VirtsnapError
from virtsnap.model.flags import DomainList
from virtsnap.server.answers import Packed
from virtsnap.server.calls.flags import only
from virtsnap.server.session import Session, wire_domain
from virtsnap.service.interface import DomainHandle
from virtsnap.wire.procedures import TYPES
from virtsnap.wire.values import INT, STRING, UINT, ULLONG, Param, WireDomain
from virtsnap.wire.xdr import XdrError, pack

STATE, CPU, BALLOON, VCPU, INTERFACE, BLOCK = 1, 2, 4, 8, 16, 32
"""virDomainStatsTypes that are told; others have nothing to tell here."""
_GROUPS = 0x3FF
_LISTED = 0xFF
"""The bits of virConnectGetAllDomainStatsFlags that are those of `DomainList`."""
_NOWAIT, _BACKING, _ENFORCE = 1 << 29, 1 << 30, 1 << 31
_COUNTED = {
    "rd_operations": "rd.reqs",
    "rd_bytes": "rd.bytes",
    "rd_total_times": "rd.times",
    "wr_operations": "wr.reqs",
    "wr_bytes": "wr.bytes",
    "wr_total_times": "wr.times",
    "flush_operations": "fl.reqs",
    "flush_total_times": "fl.times",
}
"""Figures of a disk, by the name that virDomainBlockStatsFlags has for them."""
_RUNNING = 1
_BREATH = 50
"""After so many domains others have their turn."""
_RECORD = TYPES.codec("domain_stats_record")
_RECORDS_MAX = 16384


async def connect_get_all_domain_stats(
    session: Session, doms: list[WireDomain], stats: int, flags: int
) -> Packed:
    only(flags, _LISTED | _NOWAIT | _BACKING | _ENFORCE, "qemuConnectGetAllDomainStats")
    if flags & _ENFORCE and stats & ~_GROUPS:
        raise InvalidArg(f"Stats types bits 0x{stats & ~_GROUPS:x} are not supported by this daemon")
    wanted = stats or _GROUPS
    handles: Sequence[DomainHandle]
    if doms:
        handles = [await session.service.lookup_by_uuid(dom.uuid_text) for dom in doms]
    else:
        handles = await session.service.list_domains(DomainList(flags & _LISTED))
    found = []
    for number, handle in enumerate(handles):
        with contextlib.suppress(NoDomain):  # ended meanwhile
            found.append(await _record(session, handle, wanted))
        if number % _BREATH == 0:
            await asyncio.sleep(0)
    if len(found) > _RECORDS_MAX:
        raise XdrError(f"{len(found)} records are more than the limit of {_RECORDS_MAX}")
    return Packed(len(found).to_bytes(4, "big") + b"".join(found))


async def _record(session: Session, handle: DomainHandle, wanted: int) -> bytes:
    """The figures of a domain as they travel."""
    key = ("stats", session.readonly, handle.uuid, wanted)
    source = session.service.unchanged(handle.uuid)
    if source is not None and (known := session.answers.find(key, source)) is not None:
        return known
    record = pack(_RECORD, (wire_domain(handle), await _stats(session, handle, wanted)))
    # What was asked for in between may be newer than what was seen at first.
    if source is not None and session.service.unchanged(handle.uuid) == source:
        session.answers.keep(key, source, record)
    return record


async def _stats(session: Session, handle: DomainHandle, wanted: int) -> list[Param]:
    facts = await session.service.domain_info(handle.uuid)
    found: list[Param] = []
    if wanted & STATE:
        state, reason = await session.service.domain_state(handle.uuid)
        found += [Param("state.state", INT, int(state)), Param("state.reason", INT, reason.number)]
    if wanted & CPU and facts.cpu_time_ns is not None:
        found.append(Param("cpu.time", ULLONG, facts.cpu_time_ns))
    if wanted & BALLOON:
        found += [
            Param("balloon.current", ULLONG, facts.used_memory_kib),
            Param("balloon.maximum", ULLONG, facts.max_memory_kib),
        ]
    if wanted & VCPU:
        found += _vcpus(facts)
    if wanted & BLOCK:
        found += await _blocks(session, handle)
    return found


def _vcpus(facts: DomainInfo) -> list[Param]:
    found = [Param("vcpu.current", UINT, facts.vcpus), Param("vcpu.maximum", UINT, facts.vcpus)]
    if facts.state is DomainState.RUNNING:
        found += [Param(f"vcpu.{number}.state", INT, _RUNNING) for number in range(facts.vcpus)]
    return found


async def _blocks(session: Session, handle: DomainHandle) -> list[Param]:
    disks = await session.service.block_devices(handle.uuid)
    counts = await session.service.block_stats_each(handle.uuid) if handle.id is not None else {}
    found = [Param("block.count", UINT, len(disks))]
    for number, disk in enumerate(disks):
        found.append(Param(f"block.{number}.name", STRING, disk.target))
        if disk.source is None:
            continue
        found.append(Param(f"block.{number}.path", STRING, disk.source))
        counted = counts.get(disk.target, {})
        found += [
            Param(f"block.{number}.{theirs}", ULLONG, counted[ours])
            for ours, theirs in _COUNTED.items()
            if ours in counted
        ]
        try:
            size = await session.service.block_info(handle.uuid, disk.target)
        except VirtsnapError:
            continue  # an image that cannot be read has no size to tell; the others have
        found += [
            Param(f"block.{number}.allocation", ULLONG, size.allocation),
            Param(f"block.{number}.capacity", ULLONG, size.capacity),
            Param(f"block.{number}.physical", ULLONG, size.physical),
        ]
    return found


async def domain_get_control_info(session: Session, dom: WireDomain, flags: int) -> tuple[int, int, int]:
    only(flags, 0, "qemuDomainGetControlInfo")
    if (await session.domain(dom)).id == -1:
        raise OperationInvalid("domain is not running")
    return 0, 0, 0  # nobody holds the monitor


async def domain_get_scheduler_type(session: Session, dom: WireDomain) -> tuple[str, int]:
    await session.domain(dom)
    return "posix", 0
