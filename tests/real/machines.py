"""What happens in random histories: state machines of hypothesis over `tests.real.history`'s operations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.real.history import BLOCKS, Deaths, Disk, History, Undone
from tests.real.pen import Pen
from virtsnap.model.flags import SnapshotCreate, SnapshotDelete, SnapshotRevert

PLACES = st.lists(st.sampled_from(["external", "internal", "no", ""]), max_size=3)


class Shared:
    """What all examples use: made before the first, gone after the last."""

    pen: Pen
    cache: Path


class Offline(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.history = History(Shared.pen)

    def teardown(self) -> None:
        self.history.end()

    @initialize(
        formats=st.lists(st.sampled_from(["qcow2", "qcow2", "raw"]), min_size=1, max_size=3),
        template=st.booleans(),
        cluster=st.sampled_from(["64k", "64k", "4k"]),
    )
    def begin(self, formats: list[str], template: bool, cluster: str) -> None:
        self.history.begin(
            [
                Disk(target, format, template and format == "qcow2", cluster)
                for target, format in zip(("vda", "vdb", "vdc"), formats, strict=False)
            ],
            Shared.cache,
        )

    # --- the domain ----------------------------------------------------------------------------------
    @precondition(lambda self: self.history.now)
    @rule(disk=st.integers(0, 2), block=st.integers(0, BLOCKS - 1))
    def write(self, disk: int, block: int) -> None:
        targets = sorted(self.history.now)
        self.history.write(targets[disk % len(targets)], block)

    @precondition(lambda self: len(self.history.now) < 3 and not self.history.running)
    @rule(format=st.sampled_from(["qcow2", "raw"]))
    def add_disk(self, format: str) -> None:
        free = next(target for target in ("vda", "vdb", "vdc") if target not in self.history.now)
        self.history.add_disk(Disk(free, format))

    @precondition(lambda self: len(self.history.now) > 1 and not self.history.running)
    @rule(disk=st.integers(0, 2))
    def remove_disk(self, disk: int) -> None:
        targets = sorted(self.history.now)
        self.history.remove_disk(targets[disk % len(targets)])

    def attempt(self, work: Callable[[], object]) -> None:
        """One operation."""
        work()

    # --- snapshots -----------------------------------------------------------------------------------
    @rule(
        places=PLACES,
        flags=st.sampled_from([0, 0, 0, 0, SnapshotCreate.DISK_ONLY, SnapshotCreate.NO_METADATA]),
        reuse=st.sampled_from([False, False, False, True]),
        own_names=st.booleans(),
    )
    def create(self, places: list[str], flags: int, reuse: bool, own_names: bool) -> None:
        if flags & SnapshotCreate.NO_METADATA or reuse:
            places = [place or "external" for place in (*places, "", "", "")][:3]
        flags |= SnapshotCreate.REUSE_EXT if reuse else 0
        self.attempt(lambda: self.history.create(places, SnapshotCreate(flags), own_names))

    def pick(self, index: int) -> str:
        names = sorted(self.history.moments)
        return names[index % len(names)]

    @precondition(lambda self: self.history.moments)
    @rule(index=st.integers(0, 30), force=st.booleans())
    def revert(self, index: int, force: bool) -> None:
        self.attempt(lambda: self.history.revert(self.pick(index), SnapshotRevert.FORCE if force else 0))

    @precondition(lambda self: self.history.moments)
    @rule(
        index=st.integers(0, 30),
        flags=st.sampled_from([0, 0, 0, SnapshotDelete.CHILDREN, SnapshotDelete.CHILDREN_ONLY]),
    )
    def delete(self, index: int, flags: int) -> None:
        self.attempt(lambda: self.history.delete(self.pick(index), SnapshotDelete(flags)))

    @precondition(lambda self: self.history.moments)
    @rule(
        index=st.integers(0, 30),
        flags=st.sampled_from([0, 0, 0, SnapshotDelete.CHILDREN, SnapshotDelete.CHILDREN_ONLY]),
    )
    def forget(self, index: int, flags: int) -> None:
        self.attempt(
            lambda: self.history.delete(
                self.pick(index), SnapshotDelete(flags | SnapshotDelete.METADATA_ONLY)
            )
        )

    @precondition(lambda self: self.history.kept)
    @rule(index=st.integers(0, 30), current=st.booleans())
    def take_back(self, index: int, current: bool) -> None:
        names = sorted(self.history.kept)
        self.attempt(lambda: self.history.take_back(names[index % len(names)], current))

    @precondition(lambda self: self.history.moments)
    @rule(index=st.integers(0, 30), parent=st.integers(0, 30), current=st.booleans())
    def edit(self, index: int, parent: int, current: bool) -> None:
        self.attempt(lambda: self.history.edit(self.pick(index), self.pick(parent), current))

    @precondition(lambda self: self.history.moments)
    @rule(index=st.integers(0, 30))
    def clone(self, index: int) -> None:
        self.attempt(lambda: self.history.clone(self.pick(index)))

    @precondition(lambda self: self.history.moments)
    @rule(index=st.integers(0, 30))
    def delete_all(self, index: int) -> None:
        while self.history.moments:
            self.attempt(lambda: self.history.delete(self.pick(index), SnapshotDelete(0)))
            self.history.laws()

    @invariant()
    def laws(self) -> None:
        if hasattr(self.history, "service"):
            self.history.laws()


class Dying(Offline):
    """The same, with processes that die at random points of an operation, and of taking it up."""

    @rule(deaths=st.lists(st.lists(st.integers(1, 14), max_size=3), min_size=1, max_size=6))
    def die(self, deaths: list[list[int]]) -> None:
        """In the operations that come next."""
        self.deaths = deaths

    def attempt(self, work: Callable[[], object]) -> None:
        deaths = getattr(self, "deaths", None)
        if deaths:
            self.history.deaths = Deaths(deaths.pop())
        with contextlib.suppress(Undone):
            work()
        self.history.deaths = None


class Online(Offline):
    """With a QEMU that comes and goes; nothing boots in it."""

    @precondition(lambda self: self.history.running)
    @rule()
    def stop(self) -> None:
        self.history.stop()

    @precondition(lambda self: not self.history.running)
    @rule(paused=st.sampled_from([True, True, False]))
    def start(self, paused: bool) -> None:
        self.history.start(paused)

    @precondition(lambda self: self.history.running)
    @rule(
        places=PLACES,
        memory=st.sampled_from(["", "", "internal", "external", "disks", "disks"]),
        metadata=st.sampled_from([True, True, True, False]),
    )
    def create_running(self, places: list[str], memory: str, metadata: bool) -> None:
        flags = SnapshotCreate(0) if metadata else SnapshotCreate.NO_METADATA
        if not metadata:
            places = [place or "external" for place in (*places, "", "", "")][:3]
        if memory == "disks":
            flags, memory = flags | SnapshotCreate.DISK_ONLY, ""
        self.history.create(places, flags, memory=memory)

    @precondition(lambda self: self.history.moments)
    @rule(index=st.integers(0, 30), flag=st.sampled_from([SnapshotRevert.RUNNING, SnapshotRevert.PAUSED]))
    def revert_and_run(self, index: int, flag: int) -> None:
        self.history.revert(self.pick(index), flag)
        assert self.history.running
