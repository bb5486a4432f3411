"""Deleting every snapshot of a random tree in random order: no content is lost, and no file stays behind."""

from __future__ import annotations

import random

import pytest

from tests.service.local_domain import BareDomain, written
from tests.service.whole import assert_whole
from virtsnap.model.domain import DomainState
from virtsnap.plan.images import frozen_images

pytestmark = pytest.mark.real


async def _grow(domain: BareDomain, choose: random.Random, size: int) -> dict[str, int]:
    """A tree of so many snapshots; the content of each."""
    content: dict[str, int] = {}
    for number in range(1, size + 1):
        if content and choose.random() < 0.4:
            await domain.service.snapshot_revert(domain.uuid, choose.choice(list(content)))
        await domain.put(number, "0", choose.choice(("64k", "4M")))
        if await domain.state() is DomainState.RUNNING and choose.random() < 0.5:
            await domain.full(f"s{number}")
        else:
            await domain.disk_only(f"s{number}")
        content[f"s{number}"] = number
    if choose.random() < 0.5:
        await domain.service.snapshot_revert(domain.uuid, choose.choice(list(content)))
    return content


async def _frozen(domain: BareDomain, name: str) -> list[int]:
    """The content of a snapshot's disks."""
    tree = await domain.service.snapshot_tree(domain.uuid)
    return [written(path, 65536)[0] for path in frozen_images(tree[name]).values()]


@pytest.mark.parametrize("running", [True, False], ids=["running", "shut off"])
@pytest.mark.parametrize("number", range(3))
async def test_every_snapshot(bare: BareDomain, number: int, running: bool) -> None:
    choose = random.Random(number)
    if running:
        await bare.start()
    content = await _grow(bare, choose, 6)
    if running and await bare.state() is DomainState.SHUTOFF:
        await bare.start()
    if not running and await bare.state() is not DomainState.SHUTOFF:
        await bare.service.destroy(bare.uuid)
    await bare.put(99)
    for name in choose.sample(list(content), len(content)):
        await bare.service.snapshot_delete(bare.uuid, name)
        del content[name]
        await assert_whole(bare)
        assert await bare.got() == [99, 99]
        for left, kept in content.items():
            assert await _frozen(bare, left) == [kept, kept], f"{left} after {name} was deleted"
    assert await bare.state() is (DomainState.RUNNING if running else DomainState.SHUTOFF)
    assert bare.files() == {"vda.qcow2", "vdb.qcow2"}
    assert bare.service.store.images(bare.uuid) == {}
