from __future__ import annotations

import asyncio

import pytest

from tests.api.fake_service import FakeService
from virtsnap.api import aio
from virtsnap.model.errors import InvalidArg, NoDomain, NoSnapshot, RevertRisky
from virtsnap.model.flags import DomainList, SnapshotList, SnapshotRevert
from virtsnap.service.interface import PlanReport, Progress

XML = "<domainsnapshot><name>{}</name></domainsnapshot>"


@pytest.fixture(name="service")
def _service() -> FakeService:
    service = FakeService()
    service.add("demo", running=True)
    service.add("other")
    return service


@pytest.fixture(name="connection")
def _connection(service: FakeService) -> aio.Connection:
    return aio.Connection(service)


async def test_a_snapshot_taken_reverted_to_and_deleted(connection: aio.Connection) -> None:
    domain = await connection.lookupByName("demo")
    base = await domain.snapshotCreateXML(XML.format("base"))
    later = await domain.snapshotCreateXML(XML.format("later"))
    assert (base.getName(), (await later.getParent()).getName()) == ("base", "base")
    assert await later.isCurrent()
    assert await domain.revertToSnapshot(base) == 0
    assert (await domain.snapshotCurrent()) == base
    assert await later.delete() == 0
    assert await domain.snapshotListNames() == ["base"]
    with pytest.raises(NoSnapshot):
        await later.getXMLDesc()


async def test_lists_and_filters(connection: aio.Connection) -> None:
    assert [one.name() for one in await connection.listAllDomains()] == ["demo", "other"]
    assert [one.name() for one in await connection.listAllDomains(DomainList.INACTIVE)] == ["other"]
    assert await connection.listDomainsID() == [1]
    assert await connection.listDefinedDomains() == ["other"]
    domain = await connection.lookupByID(1)
    for name in ("a", "b", "c"):
        await domain.snapshotCreateXML(XML.format(name))
    first = await domain.snapshotLookupByName("a")
    assert [one.getName() for one in await first.listAllChildren()] == ["b"]
    assert await first.numChildren(SnapshotList.DESCENDANTS) == 2
    assert [one.getName() for one in await domain.listAllSnapshots(SnapshotList.ROOTS)] == ["a"]
    assert await domain.snapshotNum() == 3
    with pytest.raises(NoSnapshot, match="does not have a parent"):
        await first.getParent()


async def test_the_id_follows_start_destroy_and_revert(connection: aio.Connection) -> None:
    domain = await connection.lookupByName("other")
    assert domain.ID() == -1
    assert await domain.create() == 0
    first = domain.ID()
    assert first > 0
    assert await domain.isActive()
    await domain.destroy()
    assert (domain.ID(), await domain.isActive()) == (-1, False)
    snapshot = await domain.snapshotCreateXML(XML.format("off"))
    await domain.create()
    await domain.revertToSnapshot(snapshot)
    assert domain.ID() == -1
    await domain.revertToSnapshot(snapshot, SnapshotRevert.RUNNING)
    assert domain.ID() > first


async def test_facts_have_libvirts_numbers(connection: aio.Connection) -> None:
    domain = await connection.lookupByName("demo")
    assert await domain.state() == (1, 1)
    assert await domain.info() == (1, 262144, 131072, 2, 12_340_000_000)
    assert await domain.blockInfo("vda") == (8 << 30, 200704, 196640)
    assert await connection.getVersion() == 10_000_002
    same = await connection.lookupByUUIDString(domain.UUIDString())
    assert same == domain == await connection.lookupByUUID(domain.UUID())
    with pytest.raises(InvalidArg, match="invalid UUID"):
        await connection.lookupByUUIDString("zz")
    with pytest.raises(NoDomain):
        await connection.lookupByName("nobody")


async def test_dry_run_returns_the_plan_and_does_nothing(
    connection: aio.Connection, service: FakeService
) -> None:
    domain = await connection.lookupByName("demo")
    plan = await domain.snapshotCreateXML(XML.format("x"), dry_run=True)
    assert isinstance(plan, PlanReport)
    assert await domain.snapshotNum() == 0
    kept = await domain.snapshotCreateXML(XML.format("x"))
    assert (await kept.delete(dry_run=True)).operation == "delete"
    assert (await domain.revertToSnapshot(kept, dry_run=True)).operation == "revert"
    assert await domain.snapshotNum() == 1


async def test_progress_is_reported(connection: aio.Connection) -> None:
    seen: list[Progress] = []
    domain = await connection.lookupByName("demo")
    await domain.snapshotCreateXML(XML.format("x"), progress=seen.append)
    assert [(one.done, one.total) for one in seen] == [(421, 1000), (1000, 1000)]


async def test_a_risky_revert_is_for_the_caller_to_force(
    connection: aio.Connection, service: FakeService
) -> None:
    domain = await connection.lookupByName("demo")
    snapshot = await domain.snapshotCreateXML(XML.format("x"))
    service.risky.add("x")
    with pytest.raises(RevertRisky, match="lacks domain"):
        await domain.revertToSnapshot(snapshot)
    assert await domain.revertToSnapshot(snapshot, SnapshotRevert.FORCE) == 0


async def test_cancelling_reaches_the_service(connection: aio.Connection, service: FakeService) -> None:
    service.hold, service.reached = asyncio.Event(), asyncio.Event()
    domain = await connection.lookupByName("demo")
    task = asyncio.create_task(domain.snapshotCreateXML(XML.format("x")))
    await service.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (service.undone, await domain.snapshotNum()) == (1, 0)


async def test_from_libvirt_and_back(connection: aio.Connection, service: FakeService) -> None:
    assert (await connection.importLibvirt("new", dir="/lib", dry_run=True)).definition == "/lib/new.xml"
    assert len((await connection.importLibvirt("new", dir="/lib")).snapshots) == 2
    domain = await connection.lookupByName("new")
    assert (await domain.exportLibvirt(dir="/lib")).problems == ()
    assert service.calls == [("import-libvirt", 1), ("import-libvirt", 0), ("export-libvirt", 0)]


async def test_the_context_manager_closes_once(service: FakeService) -> None:
    async with aio.Connection(service) as connection:
        assert connection.isAlive()
    assert service.closed
    assert not connection.isAlive()
    assert await connection.close() == 0


async def test_a_host_and_what_it_can_run(connection: aio.Connection) -> None:
    assert await connection.getInfo() == ["x86_64", 4096, 4, 2000, 1, 1, 2, 2]
    assert await connection.getCapabilities() == "<capabilities/>"
    assert "<machine>q35</machine>" in await connection.getDomainCapabilities(machine="q35")


async def test_autostart_metadata_keys_and_domains_that_live_once(
    connection: aio.Connection, service: FakeService
) -> None:
    domain = await connection.lookupByName("demo")
    assert await domain.setAutostart(True) == 0
    assert await domain.setMetadata(2, "<a/>", "k", "urn:x") == 0
    assert await domain.metadata(2, "urn:x") == "demo 2 urn:x"
    assert await domain.sendKey(0, 0, [29, 56, 111], 3) == 0
    assert (await connection.createXML("<domain><name>once</name></domain>", 1)).name() == "once"
    assert service.calls[-5:] == [
        ("set_autostart", True),
        ("set_metadata", (2, "<a/>", "k", "urn:x", 0)),
        ("send_key", (29, 56, 111)),
        ("define", 0),
        ("create_xml", 1),
    ]
