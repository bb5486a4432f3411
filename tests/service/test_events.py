"""Events: told once, in order, to whoever watches, whichever process or QEMU they come from."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import signal
from collections.abc import AsyncIterator

import pytest

import virtsnap
from tests.service.local_domain import BareDomain
from virtsnap.api import aio
from virtsnap.cli.event_text import text
from virtsnap.engine.world import query_path
from virtsnap.model.block_job import BlockJobState
from virtsnap.model.domain import DomainState, Reason
from virtsnap.model.errors import InvalidArg
from virtsnap.model.event import DomainEvent, EventKind, Life
from virtsnap.model.flags import DomainStart, SnapshotRevert
from virtsnap.qemu.monitor import Monitor, MonitorLost
from virtsnap.service.local import open_local
from virtsnap.store import database

pytestmark = pytest.mark.real


def words(event: DomainEvent) -> str:
    """As virsh prints it, without the domain."""
    said = text(event).split("\n")[0].removeprefix(f"event 'lifecycle' for domain '{event.name}': ")
    return said.replace(f" for domain '{event.name}'", "")


async def until(stream: AsyncIterator[DomainEvent], last: str) -> list[str]:
    """All that is told, up to the event of these words."""
    found = []
    async with asyncio.timeout(60):
        while not found or found[-1] != last:
            found.append(words(await anext(stream)))
    return found


async def test_another_service_and_the_cli(bare: BareDomain) -> None:
    watcher = await open_local(bare.folder / "root", readonly=True)
    async with watcher.events() as first, bare.service.events() as second:
        await bare.cli_ok("start", "bare")
        await bare.service.suspend(bare.uuid)
        await bare.service.suspend(bare.uuid)
        await bare.cli_ok("resume", "bare")
        await bare.service.destroy(bare.uuid)
        last = "Stopped Destroyed"
        found = await until(first, last)
        assert found == [
            "Resumed Unpaused",
            "Started Booted",
            "Suspended Paused",
            "Resumed Unpaused",
            "Shutdown Finished after host request",
            last,
        ]
        assert await until(second, last) == found
    await watcher.close()


async def test_a_qemu_that_dies_alone_is_told_once(bare: BareDomain) -> None:
    async with bare.service.events() as first, bare.service.events() as second:
        await bare.service.create(bare.uuid)
        os.kill(bare.instance.pid, signal.SIGKILL)
        last = "Stopped Failed"
        assert await until(first, last) == ["Resumed Unpaused", "Started Booted", last]
        assert await until(second, last) == ["Resumed Unpaused", "Started Booted", last]
        assert await bare.service.domain_state(bare.uuid) == (
            Reason.SHUTOFF_CRASHED.state,
            Reason.SHUTOFF_CRASHED,
        )
        # What comes next is the next thing that happens: nothing was told twice.
        await bare.service.create(bare.uuid, DomainStart.PAUSED)
        assert await until(first, "Suspended Paused") == ["Started Booted", "Suspended Paused"]


async def test_what_qemu_does_by_itself(bare: BareDomain) -> None:
    await bare.service.create(bare.uuid)
    async with bare.service.events() as stream:
        async with await Monitor.connect(query_path(bare.instance.run_dir)) as monitor:
            await monitor.execute("stop")
            await monitor.execute("cont")
            with contextlib.suppress(MonitorLost):
                await monitor.execute("quit")
        assert await until(stream, "Stopped Shutdown") == [
            "Suspended Paused",
            "Resumed Unpaused",
            "Shutdown Finished after host request",
            "Stopped Shutdown",
        ]


async def test_a_watcher_hears_of_one_that_could_not_ring(
    bare: BareDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bare.service.events() as stream:
        monkeypatch.setattr(database, "ring", lambda root: None)
        other = await open_local(bare.folder / "root")
        await other.define_xml(await other.domain_xml(bare.uuid))
        # As the kernel does for a process that dies.
        await other.close()
        assert await until(stream, "Defined Updated") == ["Defined Updated"]


async def test_the_end_that_an_operation_brings_is_not_taken_for_a_crash(bare: BareDomain) -> None:
    await bare.service.create(bare.uuid)
    async with bare.service.events() as stream:
        await bare.full("one")
        await bare.service.snapshot_revert(bare.uuid, "one", SnapshotRevert.PAUSED)
        found = await until(stream, "Defined Snapshot")
    found = [line for line in found if "migration-iteration" not in line and "job-completed" not in line]
    assert found == [
        "Suspended Paused",
        "Resumed Unpaused",
        "Shutdown Finished after host request",
        "Stopped Snapshot",
        "Started Snapshot",
        "Suspended Snapshot",
        "Defined Snapshot",
    ]


async def test_waiting_can_be_given_up_and_taken_up_again(bare: BareDomain) -> None:
    async with bare.service.events() as stream:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await anext(stream)
        await bare.service.define_xml(await bare.service.domain_xml(bare.uuid))
        assert await until(stream, "Defined Updated") == ["Defined Updated"]


async def test_the_command(bare: BareDomain) -> None:
    program = await bare.cli_start("event", "--all", "--loop", "--json", "--domain", "bare")
    assert program.stdout is not None
    xml = await bare.service.domain_xml(bare.uuid)
    # Whether it watches already nobody can see: define until it tells.
    told = asyncio.ensure_future(program.stdout.readline())
    while not told.done():
        await bare.service.define_xml(xml)
        await asyncio.wait({told}, timeout=0.2)
    said = json.loads(await told)
    assert (said["event"], said["domain"], said["uuid"]) == ("lifecycle", "bare", bare.uuid)
    assert said["values"] == {"event": "defined", "detail": "updated"}
    program.send_signal(signal.SIGINT)
    await program.communicate()
    assert program.returncode == 0


async def test_the_command_and_nothing_happens(bare: BareDomain) -> None:
    done = await bare.cli("event", "--event", "reboot", "--timeout", "1")
    assert (done.status, done.out, done.err) == (1, "event loop timed out\nevents received: 0\n\n", "")


async def test_callbacks_of_the_api(bare: BareDomain) -> None:
    seen: list[tuple[object, ...]] = []
    last = asyncio.Event()

    def note(conn: aio.Connection, dom: aio.Domain, *values: object) -> None:
        seen.append((conn.isAlive(), dom.name(), *values))
        if len(seen) == 3:
            last.set()

    async with await aio.open(bare.uri) as conn:
        dom = await conn.lookupByName("bare")
        id = await conn.domainEventRegisterAny(dom, EventKind.LIFECYCLE, note, "mine")
        await conn.domainEventRegisterAny(None, EventKind.REBOOT, note)
        await bare.service.create(bare.uuid, DomainStart.PAUSED)
        await bare.service.reset(bare.uuid)
        async with asyncio.timeout(60):
            await last.wait()
        assert await conn.domainEventDeregisterAny(id) == 0
        with pytest.raises(InvalidArg):
            await conn.domainEventDeregisterAny(id)
        with pytest.raises(InvalidArg):
            await conn.domainEventRegisterAny(None, 28, note)
    assert seen[:3] == [
        (True, "bare", Life.STARTED, 0, "mine"),
        (True, "bare", Life.SUSPENDED, 0, "mine"),
        (True, "bare", None),
    ]


async def test_callbacks_without_await_may_use_the_connection(bare: BareDomain) -> None:
    states: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()

    def use() -> tuple[int, int]:
        with virtsnap.open(bare.uri) as conn:
            conn.domainEventRegister(lambda c, dom, event, detail, opaque: states.put(dom.state()))
            conn.lookupByName("bare").createWithFlags(DomainStart.PAUSED)
            return states.get(timeout=60)

    assert await asyncio.to_thread(use) == (DomainState.PAUSED, Reason.PAUSED_USER.number)


async def test_iterating_without_await(bare: BareDomain) -> None:
    def use() -> str:
        with virtsnap.open(bare.uri) as conn, conn.events() as events:
            conn.defineXML(conn.lookupByName("bare").XMLDesc())
            return words(next(events))

    assert await asyncio.to_thread(use) == "Defined Updated"


async def test_a_watcher_brings_block_jobs_to_their_end(bare: BareDomain) -> None:
    await bare.start()
    await bare.put(1)
    await bare.disk_only("s")
    async with bare.service.events() as stream:
        worker = await open_local(bare.folder / "root")
        await worker.block_pull(bare.uuid, "vda")
        # Whoever asked for it is gone; nobody else does anything.
        await worker.close()
        assert await until(stream, "event 'block-job-2': Block Pull for vda completed") == [
            f"event 'block-job': Block Pull for {bare.folder}/vda.s completed",
            "event 'block-job-2': Block Pull for vda completed",
        ]
    (job,) = bare.service.store.block_jobs(bare.uuid)
    assert job.state is BlockJobState.COMPLETED
