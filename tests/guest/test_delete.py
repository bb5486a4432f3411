"""Deleting every snapshot under a running guest: what is inside it stays whole."""

from __future__ import annotations

import random

import pytest

from tests.guest.machine import Machine
from tests.service.whole import assert_whole
from virtsnap.model.flags import SnapshotCreate

pytestmark = pytest.mark.guest


async def test_every_snapshot(machine: Machine) -> None:
    await machine.guest("counter start vda vdb")
    await machine.full("one")
    await machine.full("two", SnapshotCreate.LIVE)
    await machine.disk_only("three")
    await machine.service.snapshot_revert(machine.uuid, "one")
    await machine.full("four")
    await machine.fill()
    await machine.mark("now")
    sums = await machine.sums()
    order = ["seed", "one", "two", "three", "four"]
    number = random.randrange(1 << 32)
    print(f"random seed {number}")
    random.Random(number).shuffle(order)
    for name in order:
        await machine.service.snapshot_delete(machine.uuid, name)
        await assert_whole(machine)
        assert await machine.marks() == ["now"] * 3
        assert await machine.sums() == sums
    assert (await machine.guest("counter show")).endswith("bad=0")
    assert machine.files() == {"vda.qcow2", "vdb.qcow2"}
    assert machine.service.store.images(machine.uuid) == {}
