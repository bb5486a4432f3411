"""Which snapshots a list call means: libvirt's list flags over a SnapshotTree.

Source: virDomainListAllSnapshots and virDomainSnapshotListAllChildren. Flags come in groups; a group
with all bits or none set does not filter. Order: creation, parents before children.
"""

from __future__ import annotations

from collections.abc import Iterable

from virtsnap.model.errors import BareInvalidArg
from virtsnap.model.flags import SnapshotList
from virtsnap.model.snapshot import Snapshot, SnapshotState, SnapshotTree

_KNOWN = 2047
_FIRST = int(SnapshotList.ROOTS)
_LEAF = SnapshotList.LEAVES | SnapshotList.NO_LEAVES
_METADATA = SnapshotList.METADATA | SnapshotList.NO_METADATA
_STATE = SnapshotList.INACTIVE | SnapshotList.ACTIVE | SnapshotList.DISK_ONLY
_LOCATION = SnapshotList.INTERNAL | SnapshotList.EXTERNAL
_FILTERS = int(_LEAF | _METADATA | _STATE | _LOCATION)


def select(tree: SnapshotTree, flags: int = 0, start: str | None = None) -> list[Snapshot]:
    """The snapshots that the flags leave, in topological order, oldest sibling first.

    `start` None: of the whole tree, bit 1 is ROOTS. Else: below `start`, which is not among them, and
    bit 1 is DESCENDANTS. Raises NoSnapshot for an unknown start, BareInvalidArg for unknown flags.
    """
    flags = int(flags)
    if flags & ~_KNOWN:
        raise BareInvalidArg(f"unsupported flags (0x{flags & ~_KNOWN:x}) in function select")
    children = children_of(tree)
    if start is not None:
        tree.lookup(start)
        found = _walk(children.get(start, ()), children) if flags & _FIRST else children.get(start, [])
    else:
        roots = tree.roots()
        found = roots if flags & _FIRST else _walk(roots, children)
    if not flags & _FILTERS:
        return list(found)
    word = SnapshotList(flags)
    return [snapshot for snapshot in found if _passes(snapshot, word, snapshot.name in children)]


def children_of(tree: SnapshotTree) -> dict[str, list[Snapshot]]:
    """Direct children by the parent's name, oldest first; names without children are absent."""
    children: dict[str, list[Snapshot]] = {}
    known = tree.snapshots
    for snapshot in known.values():
        if snapshot.parent is not None and snapshot.parent in known:
            children.setdefault(snapshot.parent, []).append(snapshot)
    return children


def _walk(roots: Iterable[Snapshot], children: dict[str, list[Snapshot]]) -> list[Snapshot]:
    found: list[Snapshot] = []
    pending = list(roots)[::-1]
    while pending:
        snapshot = pending.pop()
        found.append(snapshot)
        if snapshot.name in children:
            pending.extend(reversed(children[snapshot.name]))
    return found


def _passes(snapshot: Snapshot, word: SnapshotList, has_children: bool) -> bool:
    if snapshot.state is SnapshotState.SHUTOFF:
        state = SnapshotList.INACTIVE
    elif snapshot.state is SnapshotState.DISK_SNAPSHOT:
        state = SnapshotList.DISK_ONLY
    else:
        state = SnapshotList.ACTIVE
    facts = {
        _LEAF: SnapshotList.NO_LEAVES if has_children else SnapshotList.LEAVES,
        _METADATA: SnapshotList.METADATA,
        _STATE: state,
        _LOCATION: SnapshotList.EXTERNAL if snapshot.external else SnapshotList.INTERNAL,
    }
    return all(not word & group or fact & word for group, fact in facts.items())
