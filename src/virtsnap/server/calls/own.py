"""What libvirt has no procedure for: virtsnap's own clients ask for it in a program of their own."""

from __future__ import annotations

from virtsnap.server.session import Session, wire_domain
from virtsnap.service.interface import MadeSnapshot, PlanReport
from virtsnap.wire.values import WireDomain, WireSnapshot

Report = tuple[object, ...]


async def domain_block_chains(session: Session, dom: WireDomain, inactive: int) -> list[tuple[object, ...]]:
    chains = await session.service.block_chains(dom.uuid_text, bool(inactive))
    return [
        (target, [(one.path, one.format, one.allocation, one.snapshots, one.missing) for one in layers])
        for target, layers in chains.items()
    ]


async def domain_plan_create(session: Session, dom: WireDomain, xml: str, flags: int) -> Report:
    return _report(await session.service.snapshot_create_xml(dom.uuid_text, xml, flags, dry_run=True))


async def domain_snapshot_create(
    session: Session, dom: WireDomain, xml: str, flags: int
) -> tuple[WireSnapshot, str, str]:
    """As libvirt's, whose answer has no room for how the memory was written."""
    made = await session.service.snapshot_create_xml(dom.uuid_text, xml, flags)
    assert isinstance(made, str)
    memory = (made.memory_mode, made.memory_reason) if isinstance(made, MadeSnapshot) else ("", "")
    return await session.snapshot(dom, made), *memory


async def domain_plan_revert(session: Session, snap: WireSnapshot, flags: int) -> Report:
    uuid = snap.domain.uuid_text
    return _report(await session.service.snapshot_revert(uuid, snap.name, flags, dry_run=True))


async def domain_plan_delete(session: Session, snap: WireSnapshot, flags: int) -> Report:
    uuid = snap.domain.uuid_text
    return _report(await session.service.snapshot_delete(uuid, snap.name, flags, dry_run=True))


async def domain_plan_flatten(session: Session, dom: WireDomain, targets: list[str], copy: int) -> Report:
    return _report(await session.service.flatten(dom.uuid_text, targets, copy=bool(copy), dry_run=True))


async def domain_flatten(session: Session, dom: WireDomain, targets: list[str], copy: int) -> None:
    await session.service.flatten(dom.uuid_text, targets, copy=bool(copy))


async def domain_block_job_wait(
    session: Session, dom: WireDomain, path: str
) -> tuple[int, str, str, str, str | None] | None:
    job = await session.service.block_job_wait(dom.uuid_text, path)
    if job is None:
        return None
    return int(job.type), job.target, job.source, job.state.value, job.error


async def domain_snapshot_clone(
    session: Session, snap: WireSnapshot, names: list[str], start: int, paused: int
) -> list[WireDomain]:
    uuid = snap.domain.uuid_text
    made = await session.service.snapshot_clone(uuid, snap.name, names, bool(start), bool(paused))
    assert isinstance(made, tuple)
    return [wire_domain(one) for one in made]


async def domain_plan_clone(
    session: Session, snap: WireSnapshot, names: list[str], start: int, paused: int
) -> Report:
    uuid = snap.domain.uuid_text
    return _report(
        await session.service.snapshot_clone(uuid, snap.name, names, bool(start), bool(paused), dry_run=True)
    )


async def domain_discard(session: Session, dom: WireDomain) -> None:
    await session.service.discard(dom.uuid_text)


def _report(report: object) -> Report:
    assert isinstance(report, PlanReport)
    return (
        report.operation,
        report.subject,
        report.makes,
        report.removes,
        report.merges,
        report.pause,
        report.steps,
    )
