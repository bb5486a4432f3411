"""Back to any node of the tree: memory and disks are those of that node, and of one instant."""

from __future__ import annotations

import random

import pytest

from tests.guest.machine import Machine
from virtsnap.model.domain import DomainState, Reason
from virtsnap.model.flags import SnapshotCreate, SnapshotRevert

pytestmark = pytest.mark.guest


async def _steps(machine: Machine, at_least: int) -> int:
    """Wait until the guest's counter has done so many steps; how many it has done."""
    done = f"until read -r n </run/counter && [ $n -ge {at_least} ]; do usleep 10000; done; counter show"
    shown = await machine.guest(done)
    # The counter compares all eight slots of both disks with its own memory before every step.
    assert shown.endswith("bad=0"), shown
    return int(shown.split()[0].removeprefix("n="))


@pytest.mark.parametrize("live", [False, True], ids=["paused", "live"])
async def test_memory_and_both_disks_are_of_one_instant(machine: Machine, live: bool) -> None:
    await machine.guest("counter start vda vdb")
    before = await _steps(machine, 2)
    await machine.guest("mem put middle")
    await machine.full("middle", SnapshotCreate.LIVE if live else 0)
    await machine.guest("mem put later")
    await _steps(machine, before + 9)
    for _ in range(2):
        await machine.service.snapshot_revert(machine.uuid, "middle")
        assert await machine.guest("mem get") == "middle"
        back = await _steps(machine, before)
        await _steps(machine, back + 9)


async def _tree(machine: Machine) -> dict[str, str | None]:
    """Grow a tree with branches; name of each snapshot and of the marker in its memory (None: no memory)."""
    marks: dict[str, str | None] = {"seed": "seed"}

    async def grow(name: str, how: str) -> None:
        await machine.mark(name)
        if how == "disks":
            await machine.disk_only(name)
        else:
            await machine.full(name, SnapshotCreate.LIVE if how == "live" else 0)
        marks[name] = None if how == "disks" else name
        await machine.mark("after-" + name)

    await grow("one", "paused")
    await grow("two", "live")
    await grow("three", "disks")
    await machine.service.snapshot_revert(machine.uuid, "one")
    await grow("four", "paused")
    await machine.service.snapshot_revert(machine.uuid, "seed")
    await grow("five", "disks")
    await grow("six", "live")
    return marks


async def test_every_node_in_random_order(machine: Machine) -> None:
    marks = await _tree(machine)
    tree = await machine.service.snapshot_tree(machine.uuid)
    parents = {snapshot.name: snapshot.parent for snapshot in tree}
    assert set(parents.items()) == {
        ("seed", None),
        *(("one", "seed"), ("two", "one"), ("three", "two"), ("four", "one")),
        *(("five", "seed"), ("six", "five")),
    }
    number = random.randrange(1 << 32)
    print(f"random seed {number}")
    choose = random.Random(number)
    order = choose.sample(list(marks), len(marks))
    order += choose.choices(list(marks), k=20 - len(order))
    boots = 1  # the slow part: the other times the images tell
    for name in order:
        await machine.service.snapshot_revert(machine.uuid, name)
        if marks[name] is not None:
            assert await machine.marks() == [name] * 3
            await machine.mark("lost")
        else:
            state = await machine.service.domain_state(machine.uuid)
            assert state == (DomainState.SHUTOFF, Reason.SHUTOFF_FROM_SNAPSHOT)
            assert await machine.disk_marks() == [name] * 2
            if boots:
                boots -= 1
                await machine.service.snapshot_revert(machine.uuid, name, SnapshotRevert.RUNNING)
                state = await machine.service.domain_state(machine.uuid)
                assert state == (DomainState.RUNNING, Reason.RUNNING_BOOTED)
                assert await machine.disk_marks() == [name] * 2
                await machine.mark("lost")
        assert (await machine.service.snapshot_tree(machine.uuid)).current == name
    tree = await machine.service.snapshot_tree(machine.uuid)
    assert {snapshot.name: snapshot.parent for snapshot in tree} == parents
