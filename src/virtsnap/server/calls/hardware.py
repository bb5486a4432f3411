"""The calls on the machine itself: its processors, memory and threads."""

from __future__ import annotations

from virtsnap.model.errors import InvalidArg, OperationInvalid
from virtsnap.server.calls.flags import only
from virtsnap.server.calls.guest import set_guest_vcpus
from virtsnap.server.session import Session
from virtsnap.service.hardware import online_mask
from virtsnap.service.host import online_cpus
from virtsnap.wire.values import ULLONG, Param, WireDomain

_LIVE, _GUEST = 1, 8
_RUNNING = 1
_MEM_MAXIMUM = 4


async def domain_get_vcpus(
    session: Session, dom: WireDomain, maxinfo: int, maplen: int
) -> tuple[list[tuple[int, int, int, int]], bytes]:
    found = (await session.service.vcpu_threads(dom.uuid_text))[: max(maxinfo, 0)]
    rows = [(one.number, _RUNNING, one.cpu_time_ns, one.cpu) for one in found]
    maps = (online_mask(one.affinity, max(maplen, 0)) for one in found)
    return rows, b"".join(maps)


async def domain_get_vcpu_pin_info(
    session: Session, dom: WireDomain, ncpumaps: int, maplen: int, flags: int
) -> tuple[bytes, int]:
    count = min(await session.service.vcpu_count(dom.uuid_text, flags), max(ncpumaps, 0))
    everywhere = online_mask(frozenset(online_cpus()), max(maplen, 0))  # nothing pins here
    return everywhere * count, count


async def domain_get_emulator_pin_info(
    session: Session, dom: WireDomain, maplen: int, flags: int
) -> tuple[bytes, int]:
    await session.service.vcpu_count(dom.uuid_text, flags)
    return online_mask(frozenset(online_cpus()), max(maplen, 0)), 1


async def domain_get_iothread_info(
    session: Session, dom: WireDomain, flags: int
) -> tuple[list[tuple[int, bytes]], int]:
    length = (max(online_cpus()) + 8) // 8
    found = await session.service.iothreads(dom.uuid_text, flags)
    return [(one.number, online_mask(one.affinity, length)) for one in found], len(found)


async def domain_set_vcpus(session: Session, dom: WireDomain, nvcpus: int) -> None:
    await session.service.set_vcpus(dom.uuid_text, nvcpus, _LIVE)


async def domain_set_vcpus_flags(session: Session, dom: WireDomain, nvcpus: int, flags: int) -> None:
    if flags & _GUEST:
        only(flags, _GUEST | _LIVE, "qemuDomainSetVcpusFlags")
        await set_guest_vcpus(session, dom, nvcpus)
        return
    await session.service.set_vcpus(dom.uuid_text, nvcpus, flags)


async def domain_set_memory(session: Session, dom: WireDomain, memory: int) -> None:
    await session.service.set_memory(dom.uuid_text, memory, _LIVE)


async def domain_set_memory_flags(session: Session, dom: WireDomain, memory: int, flags: int) -> None:
    await session.service.set_memory(dom.uuid_text, memory, flags)


async def domain_set_max_memory(session: Session, dom: WireDomain, memory: int) -> None:
    await session.service.set_memory(dom.uuid_text, memory, _MEM_MAXIMUM)


async def domain_memory_stats(
    session: Session, dom: WireDomain, max_stats: int, flags: int
) -> list[tuple[int, int]]:
    only(flags, 0, "qemuDomainMemoryStats")
    return (await session.service.memory_stats(dom.uuid_text))[:max_stats]


async def domain_set_memory_stats_period(session: Session, dom: WireDomain, period: int, flags: int) -> None:
    await session.service.set_memory_stats_period(dom.uuid_text, period, flags)


async def domain_inject_nmi(session: Session, dom: WireDomain, flags: int) -> None:
    only(flags, 0, "qemuDomainInjectNMI")
    await session.service.inject_nmi(dom.uuid_text)


async def domain_pm_wakeup(session: Session, dom: WireDomain, flags: int) -> None:
    only(flags, 0, "qemuDomainPMWakeup")
    await session.service.pm_wakeup(dom.uuid_text)


async def domain_get_cpu_stats(
    session: Session, dom: WireDomain, nparams: int, start_cpu: int, ncpus: int, flags: int
) -> tuple[list[Param], int]:
    """The whole domain's; the kernel counts by processor of the host only in a control group."""
    only(flags, 4, "qemuDomainGetCPUStats")  # TYPED_PARAM_STRING_OKAY
    if start_cpu != -1:
        raise OperationInvalid("cgroup CPUACCT controller is not mounted")
    facts = await session.service.domain_info(dom.uuid_text)
    if facts.cpu_time_ns is None:
        raise OperationInvalid("domain is not running")
    if ncpus != 1:
        raise InvalidArg("ncpus in virDomainGetCPUStats must be 1")
    if nparams == 0:
        return [], 1
    return [Param("cpu_time", ULLONG, facts.cpu_time_ns)], 1
