"""Bringing block jobs to their end: what every operation on a domain does before anything else.

A job's record in the store is written before the job can change a chain, and the layers of the disk tell what
it did; where QEMU is gone, its log does. So whoever comes by can take up what another process began, after a
crash too: finalize what waits for it, let a disk go over that was told to, and write down what became of it.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from virtsnap.engine.steps.layers import tops_by_target
from virtsnap.engine.world import World, events_path
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.block_job import BlockJob, BlockJobState, BlockJobType
from virtsnap.qemu import block_jobs, blocks, process
from virtsnap.qemu.events import read_events
from virtsnap.qemu.monitor import Monitor, MonitorLost, QmpCommandFailed

if TYPE_CHECKING:
    from virtsnap.model.facts import ImageFacts


async def conclude(world: World) -> None:
    """Bring to its end every block job that can be, for a caller that holds the domain's lock.

    Raises Failed when QEMU refuses to let a disk go over to a job's other end; the job goes on then.
    """
    jobs = world.store.block_jobs(world.uuid, active=True)
    for job in jobs:
        await _conclude(world, job)
    instance = world.record().instance
    for run_dir in {job.run_dir for job in jobs} - {instance.run_dir if instance is not None else ""}:
        # Kept so far for its log.
        shutil.rmtree(run_dir, ignore_errors=True)


async def _conclude(world: World, job: BlockJob) -> None:
    instance = world.record().instance
    if instance is not None and instance.run_dir == job.run_dir:
        with contextlib.suppress(MonitorLost):
            monitor = await world.monitor()
            if monitor is not None:
                await _conclude_in(world, monitor, job)
                return
        if process.alive(instance):
            return
    # The log goes with the run folder, which is removed next.
    ending = block_jobs.ending(read_events(events_path(job.run_dir)), job.name)
    whole = ending is not None and ending.error is None and not ending.cancelled
    switched = job.state is BlockJobState.PIVOTING or not job.type.mirrors
    await _end(world, job, BlockJobState.COMPLETED if whole and switched else BlockJobState.CANCELED)


async def _conclude_in(world: World, monitor: Monitor, job: BlockJob) -> None:
    pivot = job.state is BlockJobState.PIVOTING
    try:
        ending = await block_jobs.conclude(
            monitor, job, pivot=pivot, wait=pivot or job.state is BlockJobState.ABORTING
        )
    except QmpCommandFailed:
        if pivot:
            put(world, replace(job, state=BlockJobState.RUNNING))
        raise
    if ending is None:
        return
    chain = await _chain(world, monitor, job.target)
    if job.type.mirrors:
        done = bool(chain) and job.result is not None and chain[0].path == job.result.path
    else:
        done = bool(chain) and not set(job.gone) & {layer.path for layer in chain}
    if done and job.type is BlockJobType.PULL and not job.gone:
        told = block_jobs.ending(read_events(events_path(job.run_dir)), job.name)
        done = told is None or not told.cancelled
    if done:
        await blocks.flush(monitor)
        await _end(world, job, BlockJobState.COMPLETED)
        return
    told = block_jobs.ending(read_events(events_path(job.run_dir)), job.name)
    error = ending.error or (told.error if told is not None else None)
    # A job that was told to end, or ended without an error, did what somebody wanted.
    failed = error is not None and job.state is not BlockJobState.ABORTING
    await _end(world, job, BlockJobState.FAILED if failed else BlockJobState.CANCELED, error)


def put(world: World, job: BlockJob) -> None:
    """Write a job down."""
    with world.store.transaction() as tx:
        tx.put_block_job(world.uuid, job)


async def _chain(world: World, monitor: Monitor, target: str) -> tuple[blocks.NodeInfo, ...]:
    top = (await tops_by_target(world, monitor)).get(target)
    return () if top is None else await blocks.query_chain(monitor, top.node_name)


async def _end(world: World, job: BlockJob, state: BlockJobState, error: str | None = None) -> None:
    from virtsnap.engine.runner import Runner
    from virtsnap.plan.block_job_end import ended_record, plan_end
    from virtsnap.qemu import facts as reader
    from virtsnap.service.gathering import gather

    ended = replace(job, state=state, ended=int(time.time()), error=error)
    left: tuple[ImageFacts, ...] = ()
    if state is BlockJobState.COMPLETED and job.type is BlockJobType.COPY:
        record = world.record()
        disk = DomainDefinition.parse(record.live_xml or record.config_xml).disk(job.target)
        left = await reader.chain(job.source, disk.format if disk is not None else "raw")
    facts = await gather(world, record=ended_record(world.record(), ended))
    await Runner(world).run(plan_end(facts, ended, left), facts)
