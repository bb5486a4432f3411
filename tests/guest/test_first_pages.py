"""What a guest touched first is noted with its memory image, and read ahead the next time."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from lab.packages import LabError
from lab.page_cache import cached, drop
from tests.guest.machine import Machine
from virtsnap.engine import first_pages as looks
from virtsnap.engine.world import read_mapped
from virtsnap.formats.first_pages import FirstPages
from virtsnap.model.flags import SnapshotRevert
from virtsnap.qemu import first_pages

pytestmark = pytest.mark.guest


@pytest.fixture
async def back(machine: Machine) -> Machine:
    """Reverted to a snapshot `one` of its own, which has no record, and has answered since."""
    await machine.mark("one")
    await machine.full("one")
    image = str(machine.folder / "one.mem")
    if first_pages.noted(image) is not None:
        os.removexattr(image, first_pages.ATTRIBUTE)  # that of the guest which all tests begin with
    await machine.service.snapshot_revert(machine.uuid, "one")
    if read_mapped(machine.instance.run_dir) is None:
        pytest.skip("this QEMU reads memory images, and does not map them")
    assert await machine.marks() == ["one"] * 3
    return machine


def record(image: Path) -> FirstPages:
    found = first_pages.noted(str(image))
    assert found is not None
    return found


async def test_noted_by_the_next_operation_and_asked_for_by_the_next_revert(back: Machine) -> None:
    image, younger = back.folder / "one.mem", back.folder / "two.mem"
    files = back.files()
    assert first_pages.noted(str(image)) is None
    await back.full("two")
    found = record(image)
    assert found.seconds > 0
    assert sum(end - start for start, end in found.ranges) > 1 << 20
    assert (record(younger).seconds, record(younger).ranges) == (0, found.ranges)

    await back.service.destroy(back.uuid)
    try:
        drop(str(image))
    except LabError as error:
        pytest.skip(str(error))
    await back.service.snapshot_revert(back.uuid, "one", SnapshotRevert.PAUSED)
    for thread in threading.enumerate():
        if thread.name == "first-pages":
            await asyncio.to_thread(thread.join)
    mapped = read_mapped(back.instance.run_dir)
    assert mapped is not None
    for start, end in found.ranges:
        assert cached(str(image), mapped.offset + start, mapped.offset + end) == end - start

    os.setxattr(image, first_pages.ATTRIBUTE, b"garbled")
    await back.service.snapshot_revert(back.uuid, "one")  # the one that was paused has touched nothing
    assert first_pages.noted(str(image)) is None
    assert await back.marks() == ["one"] * 3
    await back.service.snapshot_revert(back.uuid, "one")
    assert record(image).seconds > 0
    assert await back.marks() == ["one"] * 3

    for name in ("two", "one"):
        await back.service.snapshot_delete(back.uuid, name)
    assert await back.marks() == ["one"] * 3
    assert not image.exists()
    assert {name for name in back.files() if ".mem" in name} == {"seed.mem"}
    assert {name for name in files if ".mem" in name} == {"seed.mem", "one.mem"}


async def test_noted_by_the_clock_of_who_stays(back: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    noted, loop = asyncio.Event(), asyncio.get_running_loop()
    look = looks.look

    def tells(run_dir: str) -> None:
        look(run_dir)
        loop.call_soon_threadsafe(noted.set)

    image = back.folder / "one.mem"
    await back.service.snapshot_revert(back.uuid, "one", SnapshotRevert.PAUSED)
    os.removexattr(image, first_pages.ATTRIBUTE)  # of the operation
    monkeypatch.setattr(looks, "look", tells)
    monkeypatch.setattr(looks, "BEST_SECONDS", 0.4)
    await back.service.snapshot_revert(back.uuid, "one")
    await asyncio.wait_for(noted.wait(), 30)
    assert record(image).seconds >= 0.3
