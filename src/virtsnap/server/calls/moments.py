"""Checkpoints and backups: there are none. An answer for those who ask, a refusal for who wants one."""

from __future__ import annotations

from virtsnap.server.session import Session
from virtsnap.wire.errors import FROM_QEMU, WireError
from virtsnap.wire.values import WireDomain

NO_CHECKPOINT, NO_BACKUP = 103, 104


async def domain_list_all_checkpoints(
    session: Session, dom: WireDomain, need_results: int, flags: int
) -> tuple[list[object], int]:
    await session.domain(dom)
    return [], 0


async def domain_checkpoint_lookup_by_name(
    session: Session, dom: WireDomain, name: str, flags: int
) -> object:
    await session.domain(dom)
    raise WireError(
        NO_CHECKPOINT,
        FROM_QEMU,
        f"Domain checkpoint not found: no domain checkpoint with matching name '{name}'",
    )


async def domain_backup_get_xml_desc(session: Session, dom: WireDomain, flags: int) -> str:
    await session.domain(dom)
    raise WireError(NO_BACKUP, FROM_QEMU, "Domain backup job id not found: no domain backup job present")
