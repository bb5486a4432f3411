"""SIGKILL at every point of a delete, in both directions of the merge, running and shut off."""

from __future__ import annotations

import pytest

from tests.service.conftest import Define
from tests.service.crash import Crasher
from tests.service.local_domain import BareDomain
from tests.service.sweep import Call, sweep
from virtsnap.model.domain import DomainState

pytestmark = pytest.mark.real


@pytest.mark.parametrize("running", [True, False], ids=["running", "shut off"])
@pytest.mark.parametrize("way", ["down", "up", "origin"])
async def test_delete(crasher: Crasher, define: Define, way: str, running: bool) -> None:
    """The larger image stays where it is, so where the bulk lies decides the direction of the merge."""
    doomed = "first" if way == "origin" else "second"
    domains: list[BareDomain] = []

    async def ready(number: int) -> Call:
        for domain in domains:
            await domain.end()
        domain = await define(f"vm-{number}")
        domains[:] = [domain]
        if running:
            await domain.start()
        await domain.put(1)
        await domain.disk_only("first")
        await domain.put(2)
        if way == "down":
            await domain.put(9, "8M", "4M")
        await domain.disk_only("second")
        await domain.put(3)
        if way != "down":
            await domain.put(9, "8M", "4M")
        return domain, "snapshot_delete", doomed

    async def is_new(number: int) -> bool:
        return doomed not in await domains[0].names()

    async def check(number: int, new: bool) -> None:
        domain = domains[0]
        assert await domain.state() is (DomainState.RUNNING if running else DomainState.SHUTOFF)
        assert await domain.got() == [3, 3]
        assert [await domain.got(mib) for mib in (8, 11)] == [[9, 9], [9, 9]]
        left, content = ("second", 2) if way == "origin" else ("first", 1)
        await domain.service.snapshot_revert(domain.uuid, left)
        assert await domain.got() == [content, content]

    await sweep(crasher, ready, is_new, check)
