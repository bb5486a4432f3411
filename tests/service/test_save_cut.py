"""Saved files that were cut off anywhere, and saves that are given up: nothing changes."""

from __future__ import annotations

import random

import pytest

from tests.service.local_domain import BareDomain, skip_without
from virtsnap.engine.steps import guest
from virtsnap.model.domain import DomainState, Reason
from virtsnap.model.errors import Failed, VirtsnapError
from virtsnap.model.event import Detail
from virtsnap.qemu import memory

pytestmark = pytest.mark.real


@pytest.mark.parametrize(("format", "cuts"), [("raw", 200), ("sparse", 40), ("zstd", 10)])
async def test_cut_anywhere(bare: BareDomain, format: str, cuts: int) -> None:
    await skip_without(format)
    service, path = bare.service, bare.folder / "state"
    await bare.start()
    await service.save(bare.uuid, str(path), image_format=format)
    whole = path.read_bytes()
    before = service.store.domain(bare.uuid)
    chosen = random.Random(11)
    for cut in [0, 1, len(whole) - 1, *(chosen.randrange(2, len(whole) - 1) for _ in range(cuts))]:
        path.write_bytes(whole[:cut])
        with pytest.raises(VirtsnapError):
            await service.restore(str(path))
        assert bare.processes() == [], f"a process is left after a cut at {cut}"
        assert path.read_bytes() == whole[:cut]
        assert service.store.domain(bare.uuid) == before
        assert service.store.journal(bare.uuid) is None
    path.write_bytes(whole)
    await service.restore(str(path))
    assert await bare.state() is DomainState.RUNNING


async def test_a_save_that_fails_says_so_in_the_reason(
    bare: BareDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*arguments: object, **options: object) -> None:
        raise Failed("no space")

    await bare.start()
    monkeypatch.setattr(guest.memory, "save", fails)
    async with bare.service.events() as events:
        with pytest.raises(Failed, match="no space"):
            await bare.service.save(bare.uuid, str(bare.folder / "state"))
        told = [(await anext(events)).change.values for _ in range(2)]
    assert await bare.service.domain_state(bare.uuid) == (DomainState.RUNNING, Reason.RUNNING_SAVE_CANCELED)
    details = (Detail.SUSPENDED_PAUSED, Detail.RESUMED_UNPAUSED)
    assert told == [{"event": x.life, "detail": x.number} for x in details]
    assert not (bare.folder / "state").exists()
    await bare.service.suspend(bare.uuid)
    monkeypatch.undo()
    assert memory.save is not fails
    await bare.service.save(bare.uuid, str(bare.folder / "state"))
