"""What is known of one snapshot: snapshot-info, snapshot-dumpxml, snapshot-parent."""

from __future__ import annotations

from virtsnap.api.listing import select
from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.session import Session
from virtsnap.cli.snapshots import chosen
from virtsnap.cli.spec import DOMAIN, JSON, Command, flag, positional
from virtsnap.cli.table import info
from virtsnap.cli.xpath import OPTIONS as XPATH_OPTIONS
from virtsnap.cli.xpath import filtered
from virtsnap.model.flags import DomainXml, SnapshotList


async def _info(session: Session, args: Args) -> None:
    domain, tree, name = await chosen(session, args)
    snapshot = tree[name]
    children = len(select(tree, 0, name))
    descendants = len(select(tree, SnapshotList.DESCENDANTS, name))
    location = "external" if snapshot.external else "internal"
    if session.wants_json(args):
        session.json(
            {
                "name": name,
                "domain": domain.name,
                "current": tree.current == name,
                "state": snapshot.state.value,
                "location": location,
                "parent": snapshot.parent,
                "children": children,
                "descendants": descendants,
                "metadata": True,
                "creation_time": snapshot.creation_time,
                "description": snapshot.description,
            }
        )
        return
    text = info("Name:", name)
    text += info("Domain:", domain.name)
    text += info("Current:", "yes" if tree.current == name else "no")
    text += info("State:", snapshot.state.value)
    text += info("Location:", location)
    text += info("Parent:", snapshot.parent if snapshot.parent is not None else "-")
    text += info("Children:", children)
    text += info("Descendants:", descendants)
    text += info("Metadata:", "yes")
    session.print(text)


async def _dumpxml(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    flags = args.flags({"security-info": DomainXml.SECURE})
    session.print(
        filtered(await service.snapshot_xml(domain.uuid, args.required("snapshotname"), flags), args)
    )


async def _parent(session: Session, args: Args) -> None:
    _, tree, name = await chosen(session, args)
    parent = tree.lookup(name).parent
    if parent is None:
        raise CliError(f"snapshot '{name}' has no parent")
    session.print(parent)


COMMANDS = {
    "snapshot-info": Command(
        _info,
        (
            DOMAIN,
            positional("snapshotname", "snapshot name"),
            flag("current", "info on current snapshot"),
            JSON,
        ),
        "Returns basic information about a snapshot.",
        ("snapshot-info demo before-upgrade", "snapshot-info demo --current"),
    ),
    "snapshot-dumpxml": Command(
        _dumpxml,
        (
            DOMAIN,
            positional("snapshotname", "snapshot name", required=True),
            flag("security-info", "include security sensitive information in XML dump"),
            *XPATH_OPTIONS,
        ),
        "Snapshot Dump XML",
        ("snapshot-dumpxml demo before-upgrade", "snapshot-dumpxml demo before-upgrade --xpath //disks"),
    ),
    "snapshot-parent": Command(
        _parent,
        (
            DOMAIN,
            positional("snapshotname", "find parent of snapshot name"),
            flag("current", "find parent of current snapshot"),
        ),
        "Extract the snapshot's parent, if any",
        ("snapshot-parent demo --current",),
    ),
}
