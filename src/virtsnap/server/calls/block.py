"""The calls on disks of running domains: jobs, sizes, figures, errors."""

from __future__ import annotations

from lxml import etree

from virtsnap.model.errors import InvalidArg
from virtsnap.model.flags import BlockJobInfoFlags, BlockRebase
from virtsnap.server.calls.flags import only
from virtsnap.server.session import Session
from virtsnap.wire.values import LLONG, Param, WireDomain, params_of, values_of

_COPY = ("bandwidth", "granularity", "buf-size")
_STRING_OKAY = 4
_MIB = 1 << 20


async def domain_block_commit(
    session: Session,
    dom: WireDomain,
    disk: str,
    base: str | None,
    top: str | None,
    bandwidth: int,
    flags: int,
) -> None:
    await session.service.block_commit(dom.uuid_text, disk, base, top, bandwidth, flags)


async def domain_block_pull(session: Session, dom: WireDomain, path: str, bandwidth: int, flags: int) -> None:
    await session.service.block_pull(dom.uuid_text, path, None, bandwidth, flags)


async def domain_block_rebase(
    session: Session, dom: WireDomain, path: str, base: str | None, bandwidth: int, flags: int
) -> None:
    if not flags & BlockRebase.COPY:
        await session.service.block_pull(dom.uuid_text, path, base, bandwidth, flags)
        return
    # What blockcopy was before it had a procedure of its own.
    only(flags, sum(BlockRebase) & ~BlockRebase.RELATIVE, "qemuDomainBlockRebase")
    if base is None:
        raise InvalidArg("base in virDomainBlockRebase must not be NULL")
    if not flags & BlockRebase.BANDWIDTH_BYTES:
        bandwidth *= _MIB
    kept = flags & (BlockRebase.SHALLOW | BlockRebase.REUSE_EXT)
    await session.service.block_copy(
        dom.uuid_text, path, _destination(base, flags), int(kept), bandwidth=bandwidth
    )


def _destination(path: str, flags: int) -> str:
    kind, name = ("block", "dev") if flags & BlockRebase.COPY_DEV else ("file", "file")
    disk = etree.Element("disk", type=kind)
    etree.SubElement(disk, "source", {name: path})
    if flags & BlockRebase.COPY_RAW:
        etree.SubElement(disk, "driver", type="raw")
    return etree.tostring(disk, encoding="unicode")


async def domain_block_copy(
    session: Session, dom: WireDomain, path: str, destxml: str, params: list[Param], flags: int
) -> None:
    given = values_of(params)
    for name, value in given.items():
        if name not in _COPY:
            raise InvalidArg(f"parameter '{name}' not supported")
        if not isinstance(value, int):
            raise InvalidArg(f"invalid type for parameter '{name}'")
    figures = {name.replace("-", "_"): int(given.get(name, 0)) for name in _COPY}
    await session.service.block_copy(dom.uuid_text, path, destxml, flags, **figures)


async def domain_get_block_job_info(
    session: Session, dom: WireDomain, path: str, flags: int
) -> tuple[int, int, int, int, int]:
    info = await session.service.block_job_info(dom.uuid_text, path, flags)
    if info is None:
        return 0, 0, 0, 0, 0
    speed = info.bandwidth
    if not flags & BlockJobInfoFlags.BANDWIDTH_BYTES:
        speed = -(-speed // _MIB)
    # Clients take a job that has reached its end for ready.
    end = info.end if info.ready or info.cur < info.end else info.cur + 1
    return 1, int(info.type), speed, info.cur, end


async def domain_block_job_set_speed(
    session: Session, dom: WireDomain, path: str, bandwidth: int, flags: int
) -> None:
    await session.service.block_job_set_speed(dom.uuid_text, path, bandwidth, flags)


async def domain_block_job_abort(session: Session, dom: WireDomain, path: str, flags: int) -> None:
    await session.service.block_job_abort(dom.uuid_text, path, flags)


async def domain_block_resize(session: Session, dom: WireDomain, disk: str, size: int, flags: int) -> None:
    await session.service.block_resize(dom.uuid_text, disk, size, flags)


async def domain_block_stats(session: Session, dom: WireDomain, path: str) -> tuple[int, int, int, int, int]:
    found = await session.service.block_stats(dom.uuid_text, path)
    names = ("rd_operations", "rd_bytes", "wr_operations", "wr_bytes")
    requests, read, writes, written = (found[name] for name in names)
    return requests, read, writes, written, -1  # errors are not counted


async def domain_block_stats_flags(
    session: Session, dom: WireDomain, path: str, nparams: int, flags: int
) -> tuple[list[Param], int]:
    only(flags, _STRING_OKAY, "qemuDomainBlockStatsFlags")
    found = await session.service.block_stats(dom.uuid_text, path)
    if nparams == 0:
        return [], len(found)
    params = params_of(found, dict.fromkeys(found, LLONG))[: max(nparams, 0)]
    return params, len(params)


async def domain_get_disk_errors(
    session: Session, dom: WireDomain, maxerrors: int, flags: int
) -> tuple[list[tuple[str, int]], int]:
    only(flags, 0, "qemuDomainGetDiskErrors")
    found = await session.service.disk_errors(dom.uuid_text)
    if maxerrors == 0:
        # As many as there may be.
        return [], len(await session.service.block_devices(dom.uuid_text))
    errors = list(found.items())[:maxerrors]
    return errors, len(errors)
