"""Random histories of a shut off domain on real images: see `tests.real.history` for the laws.

VIRTSNAP_EXAMPLES says how many (40).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.real.history import BLOCKS, Disk, History, memory_folder
from tests.real.pen import Pen
from virtsnap.model.flags import SnapshotCreate, SnapshotDelete, SnapshotRevert
from virtsnap.service.local import open_local

SETTINGS = settings(
    max_examples=int(os.environ.get("VIRTSNAP_EXAMPLES", "40")),
    stateful_step_count=25,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
PLACES = st.lists(st.sampled_from(["external", "internal", "no", ""]), max_size=3)


class Shared:
    """What all examples use: made with the first, gone with the last."""

    pen: Pen
    cache: Path


@pytest.fixture(scope="module", autouse=True)
def _shared() -> object:
    folder = Path(tempfile.mkdtemp(prefix="virtsnap-", dir=memory_folder()))

    async def ask_qemu() -> None:
        service = await open_local(folder)
        await service.capabilities()
        await service.close()

    try:
        asyncio.run(ask_qemu())
        Shared.cache = folder / "cache"
        with Pen() as Shared.pen:
            yield
    finally:
        shutil.rmtree(folder)


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

    @precondition(lambda self: len(self.history.now) < 3)
    @rule(format=st.sampled_from(["qcow2", "raw"]))
    def add_disk(self, format: str) -> None:
        free = next(target for target in ("vda", "vdb", "vdc") if target not in self.history.now)
        self.history.add_disk(Disk(free, format))

    @precondition(lambda self: len(self.history.now) > 1)
    @rule(disk=st.integers(0, 2))
    def remove_disk(self, disk: int) -> None:
        targets = sorted(self.history.now)
        self.history.remove_disk(targets[disk % len(targets)])

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
        self.history.create(places, SnapshotCreate(flags), own_names)

    def pick(self, index: int) -> str:
        names = sorted(self.history.moments)
        return names[index % len(names)]

    @precondition(lambda self: self.history.moments)
    @rule(index=st.integers(0, 30), force=st.booleans())
    def revert(self, index: int, force: bool) -> None:
        self.history.revert(self.pick(index), SnapshotRevert.FORCE if force else 0)

    @precondition(lambda self: self.history.moments)
    @rule(
        index=st.integers(0, 30),
        flags=st.sampled_from([0, 0, 0, SnapshotDelete.CHILDREN, SnapshotDelete.CHILDREN_ONLY]),
    )
    def delete(self, index: int, flags: int) -> None:
        self.history.delete(self.pick(index), SnapshotDelete(flags))

    @precondition(lambda self: self.history.moments)
    @rule(
        index=st.integers(0, 30),
        flags=st.sampled_from([0, 0, 0, SnapshotDelete.CHILDREN, SnapshotDelete.CHILDREN_ONLY]),
    )
    def forget(self, index: int, flags: int) -> None:
        self.history.delete(self.pick(index), SnapshotDelete(flags | SnapshotDelete.METADATA_ONLY))

    @precondition(lambda self: self.history.kept)
    @rule(index=st.integers(0, 30), current=st.booleans())
    def take_back(self, index: int, current: bool) -> None:
        names = sorted(self.history.kept)
        self.history.take_back(names[index % len(names)], current)

    @precondition(lambda self: self.history.moments)
    @rule(index=st.integers(0, 30), parent=st.integers(0, 30), current=st.booleans())
    def edit(self, index: int, parent: int, current: bool) -> None:
        self.history.edit(self.pick(index), self.pick(parent), current)

    @precondition(lambda self: self.history.moments)
    @rule(index=st.integers(0, 30))
    def clone(self, index: int) -> None:
        self.history.clone(self.pick(index))

    @precondition(lambda self: self.history.moments)
    @rule(index=st.integers(0, 30))
    def delete_all(self, index: int) -> None:
        while self.history.moments:
            self.history.delete(self.pick(index), SnapshotDelete(0))
            self.history.laws()

    @invariant()
    def laws(self) -> None:
        if hasattr(self.history, "service"):
            self.history.laws()


TestOffline = Offline.TestCase
TestOffline.settings = SETTINGS
pytestmark = [pytest.mark.real, pytest.mark.timeout(0)]


# --- found by them ----------------------------------------------------------------------------------------
@pytest.fixture
def history() -> Iterator[History]:
    """One qcow2 disk."""
    history = History(Shared.pen)
    history.begin([Disk("vda")], Shared.cache)
    yield history
    history.laws()
    history.end()


ALL_FLAGS = SnapshotCreate.DISK_ONLY | SnapshotCreate.NO_METADATA


def test_a_snapshot_that_leaves_a_disk_out_can_be_given_back(history: History) -> None:
    history.add_disk(Disk("vdb"))
    name = history.create(["internal", "no"], SnapshotCreate(0))
    assert name is not None
    history.edit(name, None, False)
    history.delete(name, SnapshotDelete.METADATA_ONLY)
    history.take_back(name, True)


def test_a_redefinition_does_not_take_back_what_was_given_up_meanwhile(history: History) -> None:
    name = history.create(["external"], SnapshotCreate(0))
    assert name is not None
    history.create(["external"], ALL_FLAGS)
    history.edit(name, None, False)
    history.clone(name)
    history.laws()
    while history.moments:
        history.delete(min(history.moments), SnapshotDelete(0))
        history.laws()


@pytest.mark.parametrize("forget", [True, False])
def test_an_image_with_an_internal_snapshot_that_was_given_up_stays(history: History, forget: bool) -> None:
    first = history.create(["external"], SnapshotCreate(0))
    second = history.create(["internal"], SnapshotCreate(0) if forget else SnapshotCreate.NO_METADATA)
    third = history.create(["internal"], SnapshotCreate(0))
    assert first is not None
    assert second is not None
    assert third is not None
    if forget:
        history.delete(second, SnapshotDelete.METADATA_ONLY)
    history.revert(first)
    history.delete(third, SnapshotDelete(0))
    history.laws()
    history.delete(first, SnapshotDelete(0))
