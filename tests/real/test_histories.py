"""Random histories on real images: operations are in `tests.real.machines`, laws in `tests.real.history`.

VIRTSNAP_EXAMPLES says how many of a shut off domain (40); half as many have processes that die, and a third
QEMU.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.real.history import Disk, History, memory_folder
from tests.real.machines import Dying, Offline, Online, Shared
from tests.real.pen import Pen
from virtsnap.model.flags import SnapshotCreate, SnapshotDelete
from virtsnap.service.local import open_local

EXAMPLES = int(os.environ.get("VIRTSNAP_EXAMPLES", "40"))
# The suite plays the same histories each time; with VIRTSNAP_EXAMPLES=N it looks for new ones.
SETTINGS = settings(
    derandomize="VIRTSNAP_EXAMPLES" not in os.environ,
    stateful_step_count=25,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


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


TestOffline = Offline.TestCase
TestOffline.settings = settings(SETTINGS, max_examples=EXAMPLES)
TestDying = Dying.TestCase
TestDying.settings = settings(SETTINGS, max_examples=EXAMPLES // 2)
TestOnline = Online.TestCase
TestOnline.settings = settings(SETTINGS, max_examples=EXAMPLES // 3)
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


@pytest.mark.parametrize("memory", ["external", "internal"])
def test_a_domain_that_came_back_paused_is_as_good_as_any(history: History, memory: str) -> None:
    history.start(paused=True)
    first = history.create([memory], SnapshotCreate(0), memory=memory)
    assert first is not None
    history.write("vda", 1)
    history.revert(first)
    history.laws()
    history.write("vda", 2)
    history.create(["internal"], SnapshotCreate(0))
    history.write("vda", 3)
    history.create(["external"], SnapshotCreate.DISK_ONLY)
    history.write("vda", 4)
    history.delete(first, SnapshotDelete(0))
    history.laws()


def test_a_disk_taken_out_of_the_definition_keeps_its_content(history: History) -> None:
    history.add_disk(Disk("vdb"))
    first = history.create([], SnapshotCreate.DISK_ONLY)
    second = history.create([], SnapshotCreate.DISK_ONLY)
    history.write("vdb", 3)
    history.remove_disk("vdb")
    assert first is not None
    assert second is not None
    history.revert(first)
    history.delete(second, SnapshotDelete(0))
    history.laws()
    history.delete(first, SnapshotDelete(0))


@pytest.mark.parametrize("running", [True, False])
def test_what_lies_below_an_internal_snapshot_becomes_one_image(history: History, running: bool) -> None:
    for block in range(3):
        history.create(["external"], SnapshotCreate(0))
        history.write("vda", block)
    first, second, third = sorted(history.moments)
    history.create(["internal"], SnapshotCreate(0))
    history.write("vda", 3)
    if running:
        history.start(paused=True)
    layers = len(list(history.images.iterdir()))
    history.delete(third, SnapshotDelete(0))
    history.laws()
    history.delete(second, SnapshotDelete(0))
    history.laws()
    assert len(list(history.images.iterdir())) == layers - 1
    while history.moments:
        history.delete(min(history.moments), SnapshotDelete(0))
        history.laws()
    assert first not in history.moments
