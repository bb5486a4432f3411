"""Going back to a snapshot and getting rid of one: snapshot-revert, snapshot-delete."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.plantext import show
from virtsnap.cli.session import Session
from virtsnap.cli.snapshots import chosen
from virtsnap.cli.spec import DOMAIN, DRY_RUN, JSON, Command, flag, positional
from virtsnap.model.errors import RevertRisky
from virtsnap.model.flags import SnapshotDelete, SnapshotRevert
from virtsnap.service.interface import PlanReport

_REVERT: dict[str, int] = {
    "running": SnapshotRevert.RUNNING,
    "paused": SnapshotRevert.PAUSED,
    "reset-nvram": SnapshotRevert.RESET_NVRAM,
}
_DELETE: dict[str, int] = {
    "children": SnapshotDelete.CHILDREN,
    "children-only": SnapshotDelete.CHILDREN_ONLY,
    "metadata": SnapshotDelete.METADATA_ONLY,
}


async def _revert(session: Session, args: Args) -> None:
    domain, _, name = await chosen(session, args)
    service = await session.service()

    async def attempt(flags: int) -> PlanReport | None:
        return await service.snapshot_revert(
            domain.uuid, name, flags, dry_run=args.has("dry-run"), progress=session.progress
        )

    flags = args.flags(_REVERT)
    with session.explaining(f"Failed to revert snapshot {name}"):
        # As in virsh: force only what is refused without it, so that --force alone adds no risk.
        try:
            report = await attempt(flags)
        except RevertRisky:
            if not args.has("force"):
                raise
            report = await attempt(flags | SnapshotRevert.FORCE)
    session.end_progress()
    if report is not None:
        show(session, args, report)
    else:
        session.extra(f"Domain snapshot {name} reverted\n")


async def _delete(session: Session, args: Args) -> None:
    domain, _, name = await chosen(session, args)
    service = await session.service()
    with session.explaining(f"Failed to delete snapshot {name}"):
        report = await service.snapshot_delete(
            domain.uuid,
            name,
            args.flags(_DELETE),
            dry_run=args.has("dry-run"),
            progress=session.progress,
        )
    session.end_progress()
    if report is not None:
        show(session, args, report)
    elif args.has("children-only"):
        session.extra(f"Domain snapshot {name} children deleted\n")
    else:
        session.extra(f"Domain snapshot {name} deleted\n")


COMMANDS = {
    "snapshot-revert": Command(
        _revert,
        (
            DOMAIN,
            positional("snapshotname", "snapshot name"),
            flag("current", "revert to current snapshot"),
            flag("running", "after reverting, change state to running"),
            flag("paused", "after reverting, change state to paused"),
            flag("force", "try harder on risky reverts"),
            flag("reset-nvram", "re-initialize NVRAM from its pristine template"),
            DRY_RUN,
            JSON,
        ),
        "Revert domain to snapshot",
        ("snapshot-revert demo before-upgrade", "snapshot-revert demo --current --paused"),
    ),
    "snapshot-delete": Command(
        _delete,
        (
            DOMAIN,
            positional("snapshotname", "snapshot name"),
            flag("current", "delete current snapshot"),
            flag("children", "delete snapshot and all children"),
            flag("children-only", "delete children but not snapshot"),
            flag("metadata", "delete only libvirt metadata, leaving snapshot contents behind"),
            DRY_RUN,
            JSON,
        ),
        "Snapshot Delete",
        ("snapshot-delete demo before-upgrade", "snapshot-delete demo base --children --dry-run"),
    ),
}
