"""snapshot-list: a domain's snapshots as a table, as names, as a tree."""

from __future__ import annotations

from collections.abc import Sequence

from virtsnap.api.listing import select
from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.session import Session
from virtsnap.cli.snapshots import by_name, creation_time
from virtsnap.cli.spec import DOMAIN, JSON, Command, flag, string
from virtsnap.cli.table import table
from virtsnap.cli.tree import forest
from virtsnap.model.errors import NoSnapshot
from virtsnap.model.flags import SnapshotList
from virtsnap.model.snapshot import Snapshot, SnapshotTree

_FILTERS: dict[str, int] = {
    "leaves": SnapshotList.LEAVES,
    "no-leaves": SnapshotList.NO_LEAVES,
    "inactive": SnapshotList.INACTIVE,
    "active": SnapshotList.ACTIVE,
    "disk-only": SnapshotList.DISK_ONLY,
    "internal": SnapshotList.INTERNAL,
    "external": SnapshotList.EXTERNAL,
}
_OTHER: dict[str, int] = {
    "roots": SnapshotList.ROOTS,
    "metadata": SnapshotList.METADATA,
    "no-metadata": SnapshotList.NO_METADATA,
    "descendants": SnapshotList.DESCENDANTS,
}


def _check(args: Args) -> None:
    args.exclusive("tree", "name")
    args.exclusive("parent", "roots")
    args.exclusive("parent", "tree")
    args.exclusive("roots", "tree")
    args.exclusive("roots", "from")
    args.exclusive("roots", "current")
    for option in _FILTERS:
        if args.has(option) and args.has("tree"):
            raise CliError(f"--{option} and --tree are mutually exclusive")
    if args.has("from") and args.has("current"):
        raise CliError("--from and --current are mutually exclusive")
    if args.has("descendants") and not args.has("from") and not args.has("current"):
        raise CliError("--descendants requires either --from or --current")


async def _snapshot_list(session: Session, args: Args) -> None:
    _check(args)
    domain = await session.domain(args)
    service = await session.service()
    tree = await service.snapshot_tree(domain.uuid)
    start = _start(tree, args)
    found = select(tree, args.flags({**_FILTERS, **_OTHER}), start)
    if not args.has("topological"):
        found = by_name(found)
    if session.wants_json(args):
        session.json([_facts(tree, snapshot) for snapshot in found])
    elif args.has("tree"):
        session.print(_tree(found, start))
    elif args.has("name"):
        session.print("".join(_name_line(snapshot, args) for snapshot in found))
    else:
        session.print(_table(found, args, quiet=session.settings.quiet))


def _start(tree: SnapshotTree, args: Args) -> str | None:
    if args.has("current"):
        if tree.current is None:
            raise NoSnapshot("the domain does not have a current snapshot")
        return tree.current
    name = args.string("from")
    return None if name is None else tree.lookup(name).name


def _tree(found: Sequence[Snapshot], start: str | None) -> str:
    parents: dict[str, str | None] = {} if start is None else {start: None}
    parents.update((snapshot.name, snapshot.parent) for snapshot in found)
    return forest(parents)


def _name_line(snapshot: Snapshot, args: Args) -> str:
    if args.has("parent") and snapshot.parent is not None:
        return f"{snapshot.name}\t{snapshot.parent}\n"
    return f"{snapshot.name}\n"


def _table(found: Sequence[Snapshot], args: Args, *, quiet: bool) -> str:
    header = ["Name", "Creation Time", "State"] + (["Parent"] if args.has("parent") else [])
    rows = [
        [snapshot.name, creation_time(snapshot), snapshot.state.value]
        + ([snapshot.parent or ""] if args.has("parent") else [])
        for snapshot in found
    ]
    return table(header, rows, quiet=quiet)


def _facts(tree: SnapshotTree, snapshot: Snapshot) -> dict[str, object]:
    return {
        "name": snapshot.name,
        "creation_time": snapshot.creation_time,
        "state": snapshot.state.value,
        "parent": snapshot.parent,
        "location": "external" if snapshot.external else "internal",
        "current": snapshot.name == tree.current,
        "description": snapshot.description,
    }


COMMANDS = {
    "snapshot-list": Command(
        _snapshot_list,
        (
            DOMAIN,
            flag("parent", "add a column showing parent snapshot"),
            flag("roots", "list only snapshots without parents"),
            flag("leaves", "list only snapshots without children"),
            flag("no-leaves", "list only snapshots that are not leaves (with children)"),
            flag("metadata", "list only snapshots that have metadata that would prevent undefine"),
            flag("no-metadata", "list only snapshots that have no metadata managed by libvirt"),
            flag("inactive", "filter by snapshots taken while inactive"),
            flag("active", "filter by snapshots taken while active (full system snapshots)"),
            flag("disk-only", "filter by disk-only snapshots"),
            flag("internal", "filter by internal snapshots"),
            flag("external", "filter by external snapshots"),
            flag("tree", "list snapshots in a tree"),
            string("from", "limit list to children of given snapshot", tolerated=True),
            flag("current", "limit list to children of current snapshot"),
            flag("descendants", "with --from, list all descendants"),
            flag("name", "list snapshot names only"),
            flag("topological", "sort list topologically rather than by name"),
            JSON,
        ),
        "Snapshot List",
        ("snapshot-list demo", "snapshot-list demo --tree", "snapshot-list demo --from base --descendants"),
    )
}
