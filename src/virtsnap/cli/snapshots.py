"""What the snapshot commands share: which snapshot is meant, and its place in the tree."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.session import Session
from virtsnap.model.errors import NoSnapshot
from virtsnap.model.snapshot import Snapshot, SnapshotTree

if TYPE_CHECKING:
    from virtsnap.service.interface import DomainHandle


async def chosen(
    session: Session, args: Args, *, exclusive: bool = True
) -> tuple[DomainHandle, SnapshotTree, str]:
    """The domain, its tree, and the name given by --snapshotname or --current.

    `exclusive`: both at once are refused; snapshot-edit gives --current another meaning then.
    """
    domain = await session.domain(args)
    name = args.string("snapshotname")
    if name is not None and args.has("current") and exclusive:
        raise CliError("--snapshotname and --current are mutually exclusive")
    if name is None and not args.has("current"):
        raise CliError("--snapshotname or --current is required")
    service = await session.service()
    tree = await service.snapshot_tree(domain.uuid)
    if name is not None:
        return domain, tree, tree.lookup(name).name
    if tree.current is None:
        raise NoSnapshot("the domain does not have a current snapshot")
    return domain, tree, tree.current


def by_name(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """virsh's order: by name, ASCII letters without regard to case."""
    return sorted(snapshots, key=lambda one: one.name.encode("utf-8", "surrogateescape").lower())


def creation_time(snapshot: Snapshot) -> str:
    """Local time with the offset from UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(snapshot.creation_time))
