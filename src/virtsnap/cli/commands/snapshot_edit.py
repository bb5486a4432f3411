"""snapshot-edit: a snapshot's XML in an editor; also its copy under another name, or its new name."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.editor import edit
from virtsnap.cli.errors import CliError
from virtsnap.cli.session import Session
from virtsnap.cli.snapshots import chosen
from virtsnap.cli.spec import DOMAIN, Command, flag, positional
from virtsnap.model.flags import DomainXml, SnapshotCreate, SnapshotDelete
from virtsnap.model.snapshot import SnapshotState


async def _snapshot_edit(session: Session, args: Args) -> None:
    args.exclusive("rename", "clone")
    domain, tree, name = await chosen(session, args, exclusive=False)
    service = await session.service()
    flags = SnapshotCreate.REDEFINE
    # With a name, --current is a wish: make it the current one. Without, it says which one is edited,
    # and that one stays current.
    make_current = args.has("current")
    if make_current:
        flags |= SnapshotCreate.CURRENT
    if tree[name].state is SnapshotState.DISK_SNAPSHOT:
        flags |= SnapshotCreate.DISK_ONLY
    written = name

    async def fetch() -> str:
        with session.explaining(f"Failed to update {name}"):
            return await service.snapshot_xml(domain.uuid, name, DomainXml.SECURE)

    async def apply(xml: str) -> None:
        nonlocal written
        found = _name_in(xml)
        if found is not None and found != name and not args.has("rename") and not args.has("clone"):
            raise CliError(
                f"Must use --rename or --clone to change {name} to {found}", f"Failed to update {name}"
            )
        written = str(await service.snapshot_create_xml(domain.uuid, xml, flags))

    always = make_current and args.has("snapshotname")
    if not await edit(session, fetch, apply, always=always):
        session.extra(f"Snapshot {name} XML configuration not changed.\n")
    elif written == name:
        session.extra(f"Snapshot {name} edited.\n")
    elif args.has("clone"):
        session.extra(f"Snapshot {name} cloned to {written}.\n")
    else:
        with session.explaining(f"Failed to clean up {name}"):
            await service.snapshot_delete(domain.uuid, name, SnapshotDelete.METADATA_ONLY)


def _name_in(xml: str) -> str | None:
    """The name in the edited text; None when it has none or is not XML, which the service says better."""
    from xml.etree import ElementTree

    try:
        return ElementTree.fromstring(xml).findtext("name")
    except ElementTree.ParseError:
        return None


COMMANDS = {
    "snapshot-edit": Command(
        _snapshot_edit,
        (
            DOMAIN,
            positional("snapshotname", "snapshot name"),
            flag("current", "also set edited snapshot as current"),
            flag("rename", "allow renaming an existing snapshot"),
            flag("clone", "allow cloning to new name"),
        ),
        "Edit the domain snapshot XML for a named snapshot",
        ("snapshot-edit demo before-upgrade", "snapshot-edit demo before-upgrade --rename"),
    )
}
