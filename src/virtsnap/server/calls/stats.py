"""Figures of running domains: what monitors ask for every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from virtsnap.formats.domain_summary import DomainSummary
from virtsnap.formats.domain_xml import DiskLayer
from virtsnap.model.errors import InvalidArg, NoDomain, OperationInvalid, ResourceBusy, VirtsnapError
from virtsnap.model.flags import DomainList
from virtsnap.server.answers import Packed
from virtsnap.server.calls.flags import only
from virtsnap.server.session import Session, wire_domain
from virtsnap.service.figures import DirtyRate, Figures
from virtsnap.service.interface import DomainHandle
from virtsnap.wire.procedures import TYPES
from virtsnap.wire.values import INT, LLONG, STRING, UINT, ULLONG, Param, WireDomain
from virtsnap.wire.xdr import XdrError, pack

STATE, CPU, BALLOON, VCPU, INTERFACE, BLOCK, DIRTY_RATE = 1, 2, 4, 8, 16, 32, 512
"""virDomainStatsTypes that are told; others have nothing to tell here."""
_LIVING = {BALLOON: "memory", VCPU: "vcpus", BLOCK: "disks", DIRTY_RATE: "dirty_rate"}
"""Those that a running QEMU is asked for, and what they are called by `service.figures`."""
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
_MEMORY = {
    0: "swap_in",
    1: "swap_out",
    2: "major_fault",
    3: "minor_fault",
    4: "unused",
    5: "available",
    7: "rss",
    8: "usable",
    9: "last-update",
    10: "disk_caches",
    11: "hugetlb_pgalloc",
    12: "hugetlb_pgfail",
}
"""virDomainMemoryStatTags."""
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
            found.append(await _record(session, handle, wanted, bool(flags & _BACKING)))
        if number % _BREATH == 0:
            await asyncio.sleep(0)
    if len(found) > _RECORDS_MAX:
        raise XdrError(f"{len(found)} records are more than the limit of {_RECORDS_MAX}")
    return Packed(len(found).to_bytes(4, "big") + b"".join(found))


async def _record(session: Session, handle: DomainHandle, wanted: int, backing: bool) -> bytes:
    """The figures of a domain as they travel; `backing`: those of what its images stand on, too."""
    key = ("stats", session.readonly, handle.uuid, wanted)
    source = session.service.unchanged(handle.uuid)
    if source is not None and (known := session.answers.find(key, source)) is not None:
        return known
    record = pack(_RECORD, (wire_domain(handle), await _stats(session, handle, wanted, backing)))
    # What was asked for in between may be newer than what was seen at first.
    if source is not None and session.service.unchanged(handle.uuid) == source:
        session.answers.keep(key, source, record)
    return record


async def _stats(session: Session, handle: DomainHandle, wanted: int, backing: bool) -> list[Param]:
    facts = await session.service.domain_info(handle.uuid)
    shape = await session.service.summary(handle.uuid)
    living: Figures | None = None
    if handle.id is not None:
        # As with libvirt: who does not answer, or has just ended, leaves the other figures as they are.
        with contextlib.suppress(OperationInvalid, ResourceBusy):
            living = await session.service.figures(
                handle.uuid, [name for bit, name in _LIVING.items() if wanted & bit]
            )
    found: list[Param] = []
    if wanted & STATE:
        state, reason = await session.service.domain_state(handle.uuid)
        found += [Param("state.state", INT, int(state)), Param("state.reason", INT, reason.number)]
    if wanted & CPU and living is not None:
        found += _cpu(living)
    if wanted & BALLOON:
        found += [
            Param("balloon.current", ULLONG, facts.used_memory_kib),
            Param("balloon.maximum", ULLONG, facts.max_memory_kib),
        ]
        if living is not None:
            found += [Param(f"balloon.{_MEMORY[tag]}", ULLONG, value) for tag, value in living.memory]
    if wanted & VCPU:
        found += _vcpus(shape, living)
    if wanted & INTERFACE and living is not None:
        # None of them is a device of the host, which would have figures.
        found.append(Param("net.count", UINT, shape.interfaces))
    if wanted & BLOCK:
        found += await _blocks(session, shape, living, backing)
    if wanted & DIRTY_RATE and living is not None and living.dirty_rate is not None:
        found += _dirty_rate(living.dirty_rate)
    return found


def _cpu(living: Figures) -> list[Param]:
    if living.cpu is None:
        return []
    user, system = living.cpu
    return [
        Param("cpu.time", ULLONG, user + system),
        Param("cpu.user", ULLONG, user),
        Param("cpu.system", ULLONG, system),
        Param("cpu.cache.monitor.count", UINT, 0),  # a definition cannot ask for any
    ]


def _vcpus(shape: DomainSummary, living: Figures | None) -> list[Param]:
    found = [Param("vcpu.current", UINT, shape.vcpus), Param("vcpu.maximum", UINT, shape.max_vcpus)]
    for vcpu in living.vcpus if living is not None else ():
        found += [
            Param(f"vcpu.{vcpu.number}.state", INT, _RUNNING),  # of a guest that is paused, too (libvirt)
            Param(f"vcpu.{vcpu.number}.time", ULLONG, vcpu.time),
            Param(f"vcpu.{vcpu.number}.wait", ULLONG, vcpu.wait),
            Param(f"vcpu.{vcpu.number}.delay", ULLONG, vcpu.delay),
        ]
    return found


async def _blocks(
    session: Session, shape: DomainSummary, living: Figures | None, backing: bool
) -> list[Param]:
    found: list[Param] = []
    number = 0
    for disk, layers in zip(shape.disks, shape.layers, strict=True):
        shown: Sequence[DiskLayer | None] = layers if backing and living is not None else layers[:1]
        for depth, layer in enumerate(shown or (None,)):
            counts = living.disks.get(disk.target, {}) if living is not None and depth == 0 else {}
            found += [
                Param(f"block.{number}.{name}", type, value)
                for name, type, value in [
                    ("name", STRING, disk.target),
                    *await _layer(session, layer, counts),
                ]
            ]
            number += 1
    return [Param("block.count", UINT, number), *found]


async def _layer(
    session: Session, layer: DiskLayer | None, counts: dict[str, int]
) -> list[tuple[str, int, str | int]]:
    """The figures of an image; None: an empty drive."""
    found: list[tuple[str, int, str | int]] = []
    if layer is not None:
        found.append(("path", STRING, layer.path))
        if layer.index is not None:
            found.append(("backingIndex", UINT, layer.index))
    found += [(theirs, ULLONG, counts[ours]) for ours, theirs in _COUNTED.items() if ours in counts]
    if layer is None:
        return found
    try:
        size = await session.service.layer_info(layer)
    except VirtsnapError:
        return found  # an image that cannot be read has no size to tell; the others have
    return [
        *found,
        ("allocation", ULLONG, size.allocation),
        ("capacity", ULLONG, size.capacity),
        ("physical", ULLONG, size.physical),
    ]


def _dirty_rate(rate: DirtyRate) -> list[Param]:
    found = [
        Param("dirtyrate.calc_status", INT, rate.status),
        Param("dirtyrate.calc_start_time", LLONG, rate.start),
        Param("dirtyrate.calc_period", INT, rate.seconds),
        Param("dirtyrate.calc_mode", STRING, rate.mode),
    ]
    if rate.mib_per_second is not None:
        found.append(Param("dirtyrate.megabytes_per_second", LLONG, rate.mib_per_second))
    return found + [
        Param(f"dirtyrate.vcpu.{number}.megabytes_per_second", ULLONG, mib) for number, mib in rate.vcpus
    ]


async def domain_get_control_info(session: Session, dom: WireDomain, flags: int) -> tuple[int, int, int]:
    only(flags, 0, "qemuDomainGetControlInfo")
    if (await session.domain(dom)).id == -1:
        raise OperationInvalid("domain is not running")
    return 0, 0, 0  # nobody holds the monitor


async def domain_get_scheduler_type(session: Session, dom: WireDomain) -> tuple[str, int]:
    await session.domain(dom)
    return "posix", 0
