"""Block jobs of a QEMU without a guest: who concludes them, after which death, and what they may not ruin."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.service.conftest import Define
from tests.service.crash import Crasher
from tests.service.local_domain import BareDomain, ended
from tests.service.whole import assert_whole
from virtsnap.engine.locks import DomainLock
from virtsnap.engine.world import query_path
from virtsnap.model.block_job import BlockJob, BlockJobState, BlockJobType
from virtsnap.model.domain import DomainState
from virtsnap.model.errors import InvalidArg, OperationInvalid, OperationUnsupported
from virtsnap.model.event import BlockJobStatus, EventKind
from virtsnap.model.flags import BlockCommit, BlockCopy, BlockJobAbort, SnapshotCreate, SnapshotDelete
from virtsnap.qemu.monitor import Monitor

pytestmark = pytest.mark.real

ACTIVE = int(BlockCommit.ACTIVE | BlockCommit.DELETE)


async def overlay(domain: BareDomain, name: str) -> None:
    """Another layer on every disk, without a record."""
    flags = SnapshotCreate.DISK_ONLY | SnapshotCreate.NO_METADATA
    xml = f"<domainsnapshot><name>{name}</name></domainsnapshot>"
    await domain.service.snapshot_create_xml(domain.uuid, xml, flags)


async def layered(define: Define, name: str = "vm") -> BareDomain:
    """vda and vdb on two overlays; byte 1 at 0, 2 at 1 MiB, 3 at 2 MiB, each in another layer."""
    domain = await define(name)
    await domain.start()
    await domain.put(1)
    await overlay(domain, "a")
    await domain.put(2, "1M")
    await overlay(domain, "b")
    await domain.put(3, "2M")
    return domain


async def content(domain: BareDomain) -> list[list[int]]:
    return [await domain.got(mib) for mib in range(3)]


WHOLE = [[1, 1], [2, 2], [3, 3]]


def last(domain: BareDomain, target: str = "vda") -> BlockJob:
    return [job for job in domain.service.store.block_jobs(domain.uuid) if job.target == target][-1]


def paths(domain: BareDomain, *names: str) -> list[str]:
    return [str(domain.folder / name) for name in names]


async def chain(domain: BareDomain, target: str) -> list[str]:
    layers = (await domain.service.block_chains(domain.uuid))[target]
    return [os.path.basename(layer.path) for layer in layers]


async def test_a_job_outlives_whoever_began_it(define: Define) -> None:
    """Each call is another process's for all that the store and QEMU know."""
    domain = await layered(define)
    service, uuid = domain.service, domain.uuid
    await service.block_pull(uuid, "vdb")
    (top,) = paths(domain, "vda.a")
    await service.block_commit(uuid, "vda", top=top, flags=BlockCommit.DELETE)
    for target in ("vda", "vdb"):
        job = await service.block_job_wait(uuid, target)
        assert job is not None
        assert job.state is BlockJobState.COMPLETED
        assert await service.block_job_info(uuid, target) is None
    assert await chain(domain, "vda") == ["vda.b", "vda.qcow2"]
    assert await chain(domain, "vdb") == ["vdb.b"]
    assert await content(domain) == WHOLE
    await assert_whole(domain, "vdb.a", "vdb.qcow2")
    with pytest.raises(InvalidArg, match="disk vda does not have an active block job"):
        await service.block_job_abort(uuid, "vda")


async def test_what_a_running_job_forbids(define: Define) -> None:
    domain = await layered(define)
    service, uuid = domain.service, domain.uuid
    await domain.disk_only("kept")
    with pytest.raises(OperationUnsupported, match="snapshot 'kept' needs"):
        await service.block_commit(uuid, "vda", flags=ACTIVE)
    await service.block_copy(
        uuid, "vda", f"<disk><source file='{domain.folder}/copy'/></disk>", BlockCopy.TRANSIENT_JOB
    )
    await service.block_job_wait(uuid, "vda")
    for call in (
        service.snapshot_revert(uuid, "kept"),
        service.managed_save(uuid),
        service.save(uuid, str(domain.folder / "saved")),
    ):
        with pytest.raises(OperationInvalid, match="domain has active block job"):
            await call
    with pytest.raises(OperationUnsupported, match="another active block job"):
        await service.snapshot_delete(uuid, "kept")
    with pytest.raises(OperationUnsupported, match="another active block job"):
        await service.flatten(uuid)
    await service.block_job_abort(uuid, "vda")
    assert last(domain).state is BlockJobState.CANCELED
    await service.snapshot_delete(uuid, "kept")
    assert await content(domain) == WHOLE


async def test_no_record_is_taken_back_of_what_a_job_changes(define: Define) -> None:
    domain = await layered(define)
    service, uuid = domain.service, domain.uuid
    await domain.disk_only("s")
    xml = await service.snapshot_xml(uuid, "s")
    await service.snapshot_delete(uuid, "s", SnapshotDelete.METADATA_ONLY)
    await service.block_commit(uuid, "vda", paths(domain, "vda.b")[0], flags=int(BlockCommit.ACTIVE))
    with pytest.raises(OperationUnsupported, match=r"vda.b' is being changed by an active block job of disk"):
        await service.snapshot_create_xml(uuid, xml, SnapshotCreate.REDEFINE)


async def test_waiting_is_given_up(define: Define) -> None:
    """--timeout, and Ctrl-C: the disk is as it was."""
    domain = await layered(define)
    await domain.put(9, "8M", "4M")
    slow = ("blockcommit", "bare", "vda", "--active", "--wait", "--bandwidth", "65536", "--bytes")
    result = await domain.cli(*slow, "--timeout", "1")
    assert (result.status, result.out) == (1, "\nCommit aborted\n")
    assert last(domain).state is BlockJobState.CANCELED
    program = await domain.cli_start(*slow, "--verbose")
    assert program.stderr is not None
    await program.stderr.readuntil(b"Block commit: [")
    # Others may ask meanwhile.
    assert await domain.service.block_job_info(domain.uuid, "vda") is not None
    program.send_signal(signal.SIGINT)
    result = await ended(program)
    assert result.status != 0
    assert last(domain).state is BlockJobState.CANCELED
    assert await chain(domain, "vda") == ["vda.b", "vda.a", "vda.qcow2"]
    assert await content(domain) == WHOLE


async def test_the_end_of_the_guest_ends_its_jobs(define: Define) -> None:
    domain = await layered(define)
    await domain.service.block_commit(domain.uuid, "vda", flags=ACTIVE)
    await domain.service.block_job_wait(domain.uuid, "vda")
    await domain.service.destroy(domain.uuid)
    assert await domain.state() is DomainState.SHUTOFF
    assert last(domain).state is BlockJobState.CANCELED
    assert await chain(domain, "vda") == ["vda.b", "vda.a", "vda.qcow2"]
    assert await content(domain) == WHOLE
    await assert_whole(domain)


@pytest.mark.parametrize("went_over", [False, True])
async def test_qemu_dies_when_a_disk_may_go_over(define: Define, went_over: bool) -> None:
    """The process that asked for it is dead, too: QEMU's log alone tells which image has the content."""
    domain = await layered(define)
    store, uuid = domain.service.store, domain.uuid
    await domain.service.block_commit(uuid, "vda", flags=ACTIVE)
    await domain.service.block_job_wait(uuid, "vda")
    job = last(domain)
    with store.transaction() as tx:
        tx.put_block_job(uuid, replace(job, state=BlockJobState.PIVOTING))
    if went_over:
        async with (
            await Monitor.connect(query_path(domain.instance.run_dir)) as monitor,
            monitor.events("BLOCK_JOB_COMPLETED") as listener,
        ):
            await monitor.execute("job-complete", id=job.name)
            await listener.get()
    descriptor = os.pidfd_open(domain.instance.pid)
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOWAIT)
    os.close(descriptor)
    assert await domain.state() is DomainState.SHUTOFF
    assert last(domain).state is (BlockJobState.COMPLETED if went_over else BlockJobState.CANCELED)
    assert (await chain(domain, "vda"))[0] == ("vda.qcow2" if went_over else "vda.b")
    assert await content(domain) == WHOLE
    await assert_whole(domain)


async def test_whoever_watches_concludes_jobs(define: Define) -> None:
    domain = await layered(define)
    async with domain.service.events() as events:
        await domain.service.block_pull(domain.uuid, "vda")
        told = []
        async for event in events:
            told.append((event.change.kind, dict(event.change.values)))
            if event.change.kind is EventKind.BLOCK_JOB_2:
                break
    done = {"type": BlockJobType.PULL.value, "status": BlockJobStatus.COMPLETED.value}
    assert told[-2:] == [
        (EventKind.BLOCK_JOB, {"disk": paths(domain, "vda.b")[0], **done}),
        (EventKind.BLOCK_JOB_2, {"disk": "vda", **done}),
    ]
    assert last(domain).state is BlockJobState.COMPLETED
    assert await chain(domain, "vda") == ["vda.b"]


async def test_whoever_watches_leaves_the_log_of_a_qemu_that_died(define: Define) -> None:
    domain = await layered(define)
    await domain.service.block_commit(domain.uuid, "vda", flags=ACTIVE)
    await domain.service.block_job_wait(domain.uuid, "vda")
    job = replace(last(domain), state=BlockJobState.PIVOTING)
    async with (
        domain.service.events() as events,
        await Monitor.connect(query_path(domain.instance.run_dir)) as monitor,
        monitor.events("BLOCK_JOB_COMPLETED") as listener,
    ):
        run_dir = Path(domain.instance.run_dir)
        async with DomainLock(domain.service.root, domain.uuid).acquired():
            with domain.service.store.transaction() as tx:
                tx.put_block_job(domain.uuid, job)
            await monitor.execute("job-complete", id=job.name)
            await listener.get()
            os.kill(domain.instance.pid, signal.SIGKILL)
            await monitor.wait_lost()
        async for event in events:
            if event.change.kind is EventKind.LIFECYCLE:
                break
    assert await domain.state() is DomainState.SHUTOFF
    assert last(domain).state is BlockJobState.COMPLETED
    assert (await chain(domain, "vda"))[0] == "vda.qcow2"
    assert await content(domain) == WHOLE
    assert not run_dir.exists()
    await assert_whole(domain)


@pytest.mark.parametrize("way", ["commit", "pull", "copy"])
async def test_sigkill_while_a_job_begins(crasher: Crasher, define: Define, way: str) -> None:
    """There is a job with its record, or there is neither."""
    domain = await layered(define)
    copy = f"<disk><source file='{domain.folder}/copy'/></disk>"
    base, top = paths(domain, "vda.qcow2", "vda.b")
    calls: dict[str, tuple[str | int, ...]] = {
        "commit": ("block_commit", "vda", base, top, 0, ACTIVE),
        "pull": ("block_pull", "vda"),
        "copy": ("block_copy", "vda", copy, int(BlockCopy.TRANSIENT_JOB)),
    }
    operation, *arguments = calls[way]
    died, number = True, 0
    while died:
        number += 1
        died = (await crasher.run(domain, number, str(operation), *arguments)).died
        await domain.state()
        jobs = domain.service.store.block_jobs(domain.uuid, active=True)
        async with await Monitor.connect(query_path(domain.instance.run_dir)) as monitor:
            running = [job["device"] for job in await monitor.execute("query-block-jobs")]
        assert [job.name for job in jobs] == running
        if jobs:
            await domain.service.block_job_wait(domain.uuid, "vda")
            if last(domain).active:
                await domain.service.block_job_abort(domain.uuid, "vda")
        if (domain.folder / "copy").exists():
            assert last(domain).state is BlockJobState.CANCELED
            (domain.folder / "copy").unlink()
    assert number > 3
    assert await content(domain) == WHOLE


async def test_sigkill_while_a_disk_goes_over(crasher: Crasher, define: Define) -> None:
    domain = await layered(define)
    for number in range(1, 20):
        await domain.service.block_commit(domain.uuid, "vda", flags=ACTIVE)
        await domain.service.block_job_wait(domain.uuid, "vda")
        ending = await crasher.run(domain, number, "block_job_abort", "vda", int(BlockJobAbort.PIVOT))
        await assert_whole(domain)
        assert last(domain).state is BlockJobState.COMPLETED
        assert await chain(domain, "vda") == ["vda.qcow2"]
        assert await content(domain) == WHOLE
        if not ending.died:
            assert number > 3
            return
        await overlay(domain, f"n{number}")
    pytest.fail("it never came to its end")
