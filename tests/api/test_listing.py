from __future__ import annotations

import pytest

from virtsnap.api.listing import select
from virtsnap.model.errors import BareInvalidArg, NoSnapshot
from virtsnap.model.flags import SnapshotList as L
from virtsnap.model.snapshot import Location, Snapshot, SnapshotState, SnapshotTree


def _snapshot(
    name: str, time: int, parent: str | None, state: SnapshotState, memory: Location = Location.NO
) -> Snapshot:
    return Snapshot(name, time, state, parent=parent, memory=memory)


TREE = SnapshotTree.of(
    [
        _snapshot("root", 1, None, SnapshotState.SHUTOFF),
        _snapshot("left", 2, "root", SnapshotState.RUNNING, Location.EXTERNAL),
        _snapshot("right", 3, "root", SnapshotState.DISK_SNAPSHOT),
        _snapshot("leaf", 4, "left", SnapshotState.PAUSED, Location.INTERNAL),
        _snapshot("alone", 5, None, SnapshotState.RUNNING, Location.INTERNAL),
    ]
)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (0, "root left leaf right alone"),
        (L.TOPOLOGICAL, "root left leaf right alone"),
        (L.ROOTS, "root alone"),
        (L.LEAVES, "leaf right alone"),
        (L.NO_LEAVES, "root left"),
        (L.LEAVES | L.NO_LEAVES, "root left leaf right alone"),
        (L.INACTIVE, "root"),
        (L.ACTIVE, "left leaf alone"),
        (L.DISK_ONLY, "right"),
        (L.INACTIVE | L.DISK_ONLY, "root right"),
        (L.EXTERNAL, "left"),
        (L.INTERNAL, "root leaf right alone"),
        (L.METADATA, "root left leaf right alone"),
        (L.NO_METADATA, ""),
        (L.ACTIVE | L.LEAVES | L.INTERNAL, "leaf alone"),
    ],
)
def test_filters_of_the_whole_tree(flags: int, names: str) -> None:
    assert [one.name for one in select(TREE, flags)] == names.split()


@pytest.mark.parametrize(
    ("flags", "names"),
    [(0, "left right"), (L.DESCENDANTS, "left leaf right"), (L.DESCENDANTS | L.LEAVES, "leaf right")],
)
def test_below_a_snapshot(flags: int, names: str) -> None:
    assert [one.name for one in select(TREE, flags, "root")] == names.split()


def test_a_parent_that_is_not_known_makes_a_root() -> None:
    tree = SnapshotTree.of([_snapshot("orphan", 1, "gone", SnapshotState.RUNNING)])
    assert [one.name for one in select(tree, L.ROOTS)] == ["orphan"]
    assert [one.name for one in select(tree)] == ["orphan"]


def test_unknown_names_and_flags_are_refused() -> None:
    with pytest.raises(NoSnapshot, match="no domain snapshot with matching name 'x'"):
        TREE.lookup("x")
    with pytest.raises(NoSnapshot):
        select(TREE, 0, "x")
    with pytest.raises(BareInvalidArg, match="unsupported flags"):
        select(TREE, 1 << 20)


def test_a_long_chain_needs_no_recursion() -> None:
    chain = [_snapshot("s0", 0, None, SnapshotState.RUNNING)]
    chain += [_snapshot(f"s{n}", n, f"s{n - 1}", SnapshotState.RUNNING) for n in range(1, 3000)]
    assert len(select(SnapshotTree.of(chain), L.DESCENDANTS, "s0")) == 2999
