"""snapshot-create: a snapshot from an XML file, and what it shares with snapshot-create-as."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.files import read_text
from virtsnap.cli.plantext import show
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, DRY_RUN, JSON, Command, flag, positional
from virtsnap.model.errors import BareInvalidArg, InvalidArg
from virtsnap.model.flags import SnapshotCreate
from virtsnap.service.interface import MadeSnapshot

if TYPE_CHECKING:
    from virtsnap.service.interface import DomainHandle, PlanReport

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

_MANY_LAYERS = 30
"""From here on a guest may notice: each of its reads asks layer after layer."""

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
    flags = args.flags(FLAGS)
    try:
        result = await _ask(session, args, domain, xml, flags)
    except (InvalidArg, BareInvalidArg):
        # virsh: a server may not know how to halt, so it is asked again without, and the domain ended after.
        if not flags & SnapshotCreate.HALT:
            raise
        service = await session.service()
        if not (await service.domain_info(domain.uuid)).persistent:
            raise CliError("cannot halt after snapshot of transient domain") from None
        result = await _ask(session, args, domain, xml, flags & ~SnapshotCreate.HALT)
        if domain.id is not None and not args.has("dry-run"):
            await service.destroy(domain.uuid)
    session.end_progress()
    if not isinstance(result, str):
        show(session, args, result)
    elif session.wants_json(args):
        session.json({"name": str(result), **_memory(result)})
    elif origin is None:
        session.extra(f"Domain snapshot {result} created")
    else:
        session.extra(f"Domain snapshot {result} created from '{origin}'")
    if isinstance(result, MadeSnapshot) and result.memory_reason:
        session.hint(f"the memory was written in the mode '{result.memory_mode}', {result.memory_reason}")
    if isinstance(result, str) and session.watched:
        await _offer_flatten(session, domain)


def _memory(made: str) -> dict[str, dict[str, str | None]]:
    if not isinstance(made, MadeSnapshot) or not made.memory_mode:
        return {}
    return {"memory": {"mode": made.memory_mode, "reason": made.memory_reason or None}}


async def _ask(session: Session, args: Args, domain: DomainHandle, xml: str, flags: int) -> str | PlanReport:
    service = await session.service()
    return await service.snapshot_create_xml(
        domain.uuid, xml, flags, dry_run=args.has("dry-run"), progress=session.progress
    )


async def _offer_flatten(session: Session, domain: DomainHandle) -> None:
    chains = await (await session.service()).block_chains(domain.uuid)
    for target, chain in chains.items():
        if len(chain) > _MANY_LAYERS:
            session.hint(
                f"disk {target} is read from {len(chain)} images; "
                f"'virtsnap flatten {domain.name} {target} --copy' makes it one, "
                "and the snapshots keep theirs"
            )


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
