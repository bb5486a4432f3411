"""SIGKILL at every point of a save and of a restore, and Ctrl-C: the old state or the new one, all of it."""

from __future__ import annotations

import asyncio

import pytest

from tests.service.conftest import Define
from tests.service.crash import Crasher
from tests.service.local_domain import BareDomain
from tests.service.sweep import Call, sweep
from virtsnap.formats.save_image import MAGIC
from virtsnap.model.domain import DomainState
from virtsnap.service.interface import Progress

pytestmark = pytest.mark.real

OLD = b"old content"


@pytest.mark.timeout(300)
async def test_killed_while_saving(crasher: Crasher, define: Define) -> None:
    domains: dict[int, BareDomain] = {}

    async def ready(number: int) -> Call:
        domain = domains[number] = await define(f"vm{number}")
        (domain.folder / "state").write_bytes(OLD)
        await domain.start()
        return domain, "save", str(domain.folder / "state")

    async def is_new(number: int) -> bool:
        return await domains[number].state() is DomainState.SHUTOFF

    async def check(number: int, new: bool) -> None:
        domain = domains[number]
        content = (domain.folder / "state").read_bytes()
        assert content[:16] == MAGIC if new else content == OLD
        if new:
            await domain.service.restore(str(domain.folder / "state"))
        assert await domain.state() is DomainState.RUNNING
        await domain.end()

    await sweep(crasher, ready, is_new, check, others=("state",))


@pytest.mark.timeout(300)
async def test_killed_while_resuming_a_managed_save(crasher: Crasher, define: Define) -> None:
    domains: dict[int, BareDomain] = {}

    async def ready(number: int) -> Call:
        domain = domains[number] = await define(f"vm{number}")
        await domain.start()
        await domain.service.managed_save(domain.uuid)
        return domain, "create", 0

    async def is_new(number: int) -> bool:
        return await domains[number].state() is DomainState.RUNNING

    async def check(number: int, new: bool) -> None:
        domain = domains[number]
        assert (await domain.service.domain_info(domain.uuid)).managed_save is not new
        if not new:
            await domain.start()
        assert await domain.state() is DomainState.RUNNING
        await domain.end()

    await sweep(crasher, ready, is_new, check)


@pytest.mark.parametrize("managed", [False, True])
async def test_cancelled(bare: BareDomain, managed: bool) -> None:
    """As Ctrl-C does: the guest runs on and there is no file."""
    await bare.start()
    begun = asyncio.Event()

    def progress(at: Progress) -> None:
        assert at.label == ("Managedsave" if managed else "Save")
        begun.set()

    path = str(bare.folder / "state")
    service = bare.service
    work = asyncio.ensure_future(
        service.managed_save(bare.uuid, progress=progress)
        if managed
        else service.save(bare.uuid, path, progress=progress)
    )
    waiting = asyncio.ensure_future(begun.wait())
    await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert await bare.state() is DomainState.RUNNING
    assert bare.files() == {"vda.qcow2", "vdb.qcow2"}
    assert not (await service.domain_info(bare.uuid)).managed_save
    await service.save(bare.uuid, path)
