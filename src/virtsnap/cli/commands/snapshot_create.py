"""snapshot-create: a snapshot from an XML file, and what it shares with snapshot-create-as."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtsnap.cli.args import Args
from virtsnap.cli.files import read_text
from virtsnap.cli.plantext import show
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, DRY_RUN, JSON, Command, flag, positional
from virtsnap.model.flags import SnapshotCreate

if TYPE_CHECKING:
    from virtsnap.service.interface import DomainHandle

FLAGS: dict[str, int] = {
    "redefine": SnapshotCreate.REDEFINE,
    "current": SnapshotCreate.CURRENT,
    "no-metadata": SnapshotCreate.NO_METADATA,
    "halt": SnapshotCreate.HALT,
    "disk-only": SnapshotCreate.DISK_ONLY,
    "reuse-external": SnapshotCreate.REUSE_EXT,
    "quiesce": SnapshotCreate.QUIESCE,
    "atomic": SnapshotCreate.ATOMIC,
    "live": SnapshotCreate.LIVE,
    "validate": SnapshotCreate.VALIDATE,
}

OPTIONS = (
    flag("no-metadata", "take snapshot but create no metadata"),
    flag("halt", "halt domain after snapshot is created"),
    flag("disk-only", "capture disk state but not vm state"),
    flag("reuse-external", "reuse any existing external files"),
    flag("quiesce", "quiesce guest's file systems"),
    flag("atomic", "require atomic operation"),
    flag("live", "take a live snapshot"),
    flag("validate", "validate the XML against the schema"),
)


async def create(session: Session, args: Args, domain: DomainHandle, xml: str, origin: str | None) -> None:
    """Create, or plan to, and say so. `origin`: the file the XML is from."""
    service = await session.service()
    result = await service.snapshot_create_xml(
        domain.uuid,
        xml,
        args.flags(FLAGS),
        dry_run=args.has("dry-run"),
        progress=session.progress,
    )
    session.end_progress()
    if not isinstance(result, str):
        show(session, args, result)
    elif session.wants_json(args):
        session.json({"name": result})
    elif origin is None:
        session.extra(f"Domain snapshot {result} created")
    else:
        session.extra(f"Domain snapshot {result} created from '{origin}'")


async def _snapshot_create(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    path = args.string("xmlfile")
    xml = "<domainsnapshot/>" if path is None else read_text(path)
    await create(session, args, domain, xml, path)


COMMANDS = {
    "snapshot-create": Command(
        _snapshot_create,
        (
            DOMAIN,
            positional("xmlfile", "domain snapshot XML"),
            flag("redefine", "redefine metadata for existing snapshot"),
            flag("current", "with redefine, set current snapshot"),
            *OPTIONS,
            DRY_RUN,
            JSON,
        ),
        "Create a snapshot (disk and RAM) from XML",
        ("snapshot-create demo snapshot.xml", "snapshot-create demo snapshot.xml --redefine"),
    )
}
