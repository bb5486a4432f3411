"""QEMU is killed in the middle of an operation: a clear error, and the old state or the new one."""

from __future__ import annotations

import asyncio
import signal
from itertools import count

import pytest

from tests.service.conftest import Define
from tests.service.crash import Crasher
from tests.service.local_domain import BareDomain
from tests.service.whole import assert_whole
from virtsnap.model.domain import DomainState, Reason
from virtsnap.model.errors import Failed
from virtsnap.model.flags import SnapshotCreate
from virtsnap.qemu import process

pytestmark = pytest.mark.real


@pytest.mark.parametrize("operation", ["full", "disk-only", "revert", "delete"])
async def test_at_every_point(crasher: Crasher, define: Define, operation: str) -> None:
    errors = []
    for number in count(1, 1 if operation in ("full", "disk-only") else 2):
        domain = await define(f"vm-{number}")
        await domain.start()
        if operation in ("revert", "delete"):
            await domain.put(1)
            await domain.full("first")
        await domain.put(3)
        call: tuple[str | int, ...] = {
            "full": ("snapshot_create_xml", domain.full_xml("new")),
            "disk-only": ("snapshot_create_xml", "<domainsnapshot/>", int(SnapshotCreate.DISK_ONLY)),
            "revert": ("snapshot_revert", "first"),
            "delete": ("snapshot_delete", "first"),
        }[operation]
        ending = await crasher.run(domain, number, str(call[0]), *call[1:], victim="qemu")
        assert not ending.died
        await assert_whole(domain)
        content = await domain.got()
        assert content in ([[3, 3], [1, 1]] if operation == "revert" else [[3, 3]])
        if ending.error is not None:
            assert "domain is not running" in ending.error or "End of file from qemu monitor" in ending.error
            errors.append(number)
            assert await domain.service.domain_state(domain.uuid) == (
                DomainState.SHUTOFF,
                Reason.SHUTOFF_CRASHED,
            )
            assert content == [3, 3]
            await domain.start()
        elif ending.points < number:
            break
        await domain.end()
    assert errors == list(range(1, len(errors) + 1)), "once it succeeds, it does so later as well"
    # A revert gives the old QEMU up anyway, and a merge goes on without one.
    assert (len(errors) > 3) == (operation in ("full", "disk-only"))


async def test_in_the_middle_of_a_merge(bare: BareDomain) -> None:
    await bare.start()
    await bare.put(1)
    await bare.disk_only("first")
    await bare.put(9, "0", "48M")
    await bare.put(3)

    async def kill() -> None:
        async with bare.events("JOB_STATUS_CHANGE") as listener:
            ready.set()
            while (await listener.get()).data["status"] != "running":
                pass
            process.kill(bare.instance, signal.SIGKILL)

    ready = asyncio.Event()
    killing = asyncio.create_task(kill())
    await ready.wait()
    with pytest.raises(Failed) as caught:
        await bare.service.snapshot_delete(bare.uuid, "first")
    assert "will be completed by the next command" in str(caught.value)
    await killing
    await assert_whole(bare)
    assert await bare.names() == set()
    assert bare.files() == {"vda.qcow2", "vdb.qcow2"}
    assert await bare.got() == [3, 3]
    assert [await bare.got(mib) for mib in (1, 47)] == [[9, 9], [9, 9]]
