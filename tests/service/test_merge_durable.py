"""A QEMU that is killed right after a merge: what was merged is in the file that is left."""

from __future__ import annotations

import signal

import pytest

from tests.service.local_domain import BareDomain
from tests.service.whole import assert_whole
from virtsnap.engine.steps import undo_step
from virtsnap.engine.world import World, query_path
from virtsnap.model.steps import MergeImages
from virtsnap.qemu import process
from virtsnap.qemu.monitor import Monitor

pytestmark = pytest.mark.real

BULK = ("s1", "s2", "s3", "")
"""The layer above that snapshot is the large one, so that merges go there; the last is the active one."""


async def layered(bare: BareDomain, bulk: str) -> None:
    """A layer for each of three snapshots, each with content of its own: 1 at 8 MiB, 2 at 16, 3 at 24."""
    await bare.start()
    for number in (1, 2, 3):
        await bare.put(number, f"{8 * number}M")
        if bulk == BULK[number - 1]:
            await bare.put(9, "40M", "4M")
        await bare.disk_only(f"s{number}")
    await bare.put(4)
    if bulk == "":
        await bare.put(9, "40M", "4M")


@pytest.mark.parametrize(
    ("doomed", "bulk"),
    [("s1", "s2"), ("s2", "s3"), ("s2", "s2"), ("s3", ""), ("s3", "s3")],
    ids=["down to the origin", "up", "down", "up into the active layer", "down from the active layer"],
)
async def test_delete(bare: BareDomain, doomed: str, bulk: str) -> None:
    await layered(bare, bulk)
    await bare.service.snapshot_delete(bare.uuid, doomed)
    await kill(bare)
    assert [await bare.got(mib) for mib in (0, 8, 16, 24)] == [[4, 4], [1, 1], [2, 2], [3, 3]]
    await assert_whole(bare)


async def test_flatten(bare: BareDomain) -> None:
    await layered(bare, "s1")
    await bare.service.flatten(bare.uuid, copy=True)
    await kill(bare)
    assert [await bare.got(mib) for mib in (0, 8, 16, 24, 40)] == [[n, n] for n in (4, 1, 2, 3, 9)]
    await assert_whole(bare)


async def kill(bare: BareDomain) -> None:
    instance = bare.instance
    assert process.kill(instance, signal.SIGKILL)
    assert await process.wait_gone(instance, 10)


async def test_a_job_left_behind_is_ended_with_what_it_was_for(bare: BareDomain) -> None:
    """QEMU must be asked for its nodes only when none is left: it dies when one is concluded."""
    await layered(bare, "s1")
    top, base = f"{bare.folder}/vda.s3", f"{bare.folder}/vda.s2"
    step = MergeImages("vda", top, "qcow2", base, "qcow2", False, f"{bare.folder}/vda.s1", "qcow2", "left", 0)
    async with await Monitor.connect(query_path(bare.instance.run_dir)) as monitor:
        nodes = {
            node["file"]: node["node-name"]
            for node in await monitor.execute("query-named-block-nodes", flat=True)
            if node["drv"] == "qcow2"
        }
        await monitor.execute_raw(
            "block-stream", {"job-id": "left", "device": nodes[top], "speed": 1, "auto-finalize": False}
        )
        world = World(bare.service.root, bare.service.store, bare.uuid)
        try:
            for _ in range(2):
                await undo_step(world, step)
                assert await monitor.execute("query-jobs") == []
        finally:
            await world.close()
    await bare.disk_only("after")
    await assert_whole(bare)
