"""snapshot-current: which snapshot the domain stands on; or say which one it is."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, Command, flag, positional
from virtsnap.model.flags import DomainXml, SnapshotCreate
from virtsnap.model.snapshot import SnapshotState


async def _snapshot_current(session: Session, args: Args) -> None:
    args.exclusive("name", "snapshotname")
    args.exclusive("security-info", "snapshotname")
    domain = await session.domain(args)
    service = await session.service()
    tree = await service.snapshot_tree(domain.uuid)
    name = args.string("snapshotname")
    if name is not None:
        snapshot = tree.lookup(name)
        flags = SnapshotCreate.REDEFINE | SnapshotCreate.CURRENT
        if snapshot.state is SnapshotState.DISK_SNAPSHOT:
            flags |= SnapshotCreate.DISK_ONLY
        xml = await service.snapshot_xml(domain.uuid, name, DomainXml.SECURE)
        await service.snapshot_create_xml(domain.uuid, xml, flags)
        session.extra(f"Snapshot {name} set as current")
        return
    if tree.current is None:
        raise CliError(f"domain '{domain.name}' has no current snapshot")
    if args.has("name"):
        session.print(tree.current)
        return
    flags_xml = args.flags({"security-info": DomainXml.SECURE})
    session.print(await service.snapshot_xml(domain.uuid, tree.current, flags_xml))


COMMANDS = {
    "snapshot-current": Command(
        _snapshot_current,
        (
            DOMAIN,
            flag("name", "list the name, rather than the full xml"),
            flag("security-info", "include security sensitive information in XML dump"),
            positional("snapshotname", "name of existing snapshot to make current"),
        ),
        "Get or set the current snapshot",
        ("snapshot-current demo --name", "snapshot-current demo"),
    )
}
