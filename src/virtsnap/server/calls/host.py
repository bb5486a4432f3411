"""The calls on the host. Figures that change are read here; what it is and can run, the service knows."""

from __future__ import annotations

from virtsnap.model.errors import InvalidArg
from virtsnap.server.calls.flags import only
from virtsnap.server.session import Session
from virtsnap.service.host import cpu_times, memory_stats, online_cpus, sysinfo_xml

_ALL = -1


async def node_get_info(session: Session) -> tuple[list[int], int, int, int, int, int, int, int]:
    node = await session.service.node_info()
    model = list(node.model.encode()[:31].ljust(32, b"\0"))
    places = node.nodes, node.sockets, node.cores, node.threads
    return model, node.memory_kib, node.cpus, node.mhz, *places


async def connect_get_capabilities(session: Session) -> str:
    return await session.service.capabilities_xml()


async def connect_get_domain_capabilities(
    session: Session,
    emulatorbin: str | None,
    arch: str | None,
    machine: str | None,
    virttype: str | None,
    flags: int,
) -> str:
    only(flags, 3, "qemuConnectGetDomainCapabilities")
    return await session.service.domain_capabilities_xml(emulatorbin, arch, machine, virttype)


async def connect_get_max_vcpus(session: Session, type: str | None) -> int:
    if type not in (None, "qemu", "kvm"):
        raise InvalidArg(f"unknown type '{type}'")
    return 16 if type is None else 255


async def connect_get_cpu_model_names(
    session: Session, arch: str, need_results: int, flags: int
) -> tuple[list[str], int]:
    only(flags, 0, "qemuConnectGetCPUModelNames")
    return [], 0  # any that QEMU knows


async def connect_get_sysinfo(session: Session, flags: int) -> str:
    only(flags, 0, "qemuConnectGetSysinfo")
    return sysinfo_xml()


async def node_get_security_model(session: Session) -> tuple[list[int], list[int]]:
    """Characters with the NUL behind them."""
    return [*b"none\0"], [*b"0\0"]


async def node_get_free_memory(session: Session) -> int:
    return memory_stats()["free"] * 1024


async def node_get_cells_free_memory(session: Session, start_cell: int, maxcells: int) -> list[int]:
    if start_cell != 0:
        raise InvalidArg(f"start cell {start_cell} out of range (0-0)")
    return [memory_stats()["free"] * 1024][: max(maxcells, 0)]


async def node_get_memory_stats(
    session: Session, nparams: int, cell: int, flags: int
) -> tuple[list[tuple[str, int]], int]:
    only(flags, 0, "qemuNodeGetMemoryStats")
    if cell not in (_ALL, 0):
        raise InvalidArg(f"cellNum in qemuNodeGetMemoryStats must be less than or equal to {0}")
    found = memory_stats()
    if cell == 0:
        found = {name: found[name] for name in ("total", "free")}
    return _wanted(found, nparams)


async def node_get_cpu_stats(
    session: Session, cpu: int, nparams: int, flags: int
) -> tuple[list[tuple[str, int]], int]:
    only(flags, 0, "qemuNodeGetCPUStats")
    try:
        found = cpu_times(None if cpu == _ALL else cpu)
    except KeyError as error:
        raise InvalidArg("Invalid cpuNum in virHostCPUGetStatsLinux") from error
    return _wanted(found, nparams)


async def node_get_cpu_map(
    session: Session, need_map: int, need_online: int, flags: int
) -> tuple[bytes, int, int]:
    only(flags, 0, "qemuNodeGetCPUMap")
    online = online_cpus()
    count = max(online) + 1
    bits = sum(1 << cpu for cpu in online)
    packed = bits.to_bytes((count + 7) // 8, "little") if need_map else b""
    return packed, len(online) if need_online else 0, count


def _wanted(found: dict[str, int], nparams: int) -> tuple[list[tuple[str, int]], int]:
    """Who asks for none wants to know how many there are."""
    if nparams == 0:
        return [], len(found)
    return list(found.items())[: max(nparams, 0)], 0
