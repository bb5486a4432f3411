"""The calls on block jobs: beginning them, asking about them, ending them, waiting for them.

A job is QEMU's from its start on; the call that began it returns at once, and the process may end. Asking
takes no lock: the store names the job and QEMU's second monitor tells how far it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from virtsnap.model.block_job import BlockJob, BlockJobInfo, BlockJobState
from virtsnap.model.errors import (
    BareInvalidArg,
    BlockCopyActive,
    Failed,
    InvalidArg,
    OperationInvalid,
    Overflow,
)
from virtsnap.model.flags import (
    BlockCommit,
    BlockCopy,
    BlockJobAbort,
    BlockJobInfoFlags,
    BlockJobSetSpeed,
    BlockPull,
    BlockRebase,
)
from virtsnap.plan.requests import known_flags
from virtsnap.service.context import required_monitor
from virtsnap.service.interface import Progress, ProgressCallback
from virtsnap.service.snapshots import SnapshotCalls

if TYPE_CHECKING:
    from virtsnap.engine.world import World
    from virtsnap.model.domain import DomainRecord
    from virtsnap.model.facts import DomainFacts
    from virtsnap.model.steps import Plan

_MIB_LIMIT = (1 << 63) - 1 >> 20
_FIRST_LOOK_SECONDS = 0.02
_LOOK_SECONDS = 0.25
_LABELS = {1: "Block Pull", 2: "Block Copy", 3: "Block commit", 4: "Block commit"}


class BlockJobCalls(SnapshotCalls):
    """See `service.interface.Service`."""

    async def block_commit(
        self,
        uuid: str,
        path: str,
        base: str | None = None,
        top: str | None = None,
        bandwidth: int = 0,
        flags: int = 0,
    ) -> None:
        """Begin to merge down. Raises Refused before anything is touched, Failed when QEMU refuses."""
        from virtsnap.plan.block_jobs import CommitRequest, plan_commit

        self.writable("virDomainBlockCommit")
        flag = known_flags(flags, BlockCommit, "qemuDomainBlockCommit")
        speed = _speed(bandwidth, bytes=bool(flag & BlockCommit.BANDWIDTH_BYTES))
        request = CommitRequest(path, base, top, speed, flag)
        await self._begin(uuid, lambda facts, number: plan_commit(facts, request, number))

    async def block_pull(
        self, uuid: str, path: str, base: str | None = None, bandwidth: int = 0, flags: int = 0
    ) -> None:
        """Begin to merge up. Raises as `block_commit`."""
        from virtsnap.plan.block_jobs import PullRequest, plan_pull

        self.writable("virDomainBlockRebase" if base is not None else "virDomainBlockPull")
        allowed = BlockRebase.RELATIVE | BlockPull.BANDWIDTH_BYTES
        if unknown := flags & ~allowed:
            raise BareInvalidArg(f"unsupported flags (0x{unknown:x}) in function qemuDomainBlockRebase")
        speed = _speed(bandwidth, bytes=bool(flags & BlockPull.BANDWIDTH_BYTES))
        request = PullRequest(path, base, speed, bool(flags & BlockRebase.RELATIVE))
        await self._begin(uuid, lambda facts, number: plan_pull(facts, request, number))

    async def block_copy(
        self,
        uuid: str,
        path: str,
        destination_xml: str,
        flags: int = 0,
        *,
        bandwidth: int = 0,
        granularity: int = 0,
        buf_size: int = 0,
    ) -> None:
        """Begin to copy to the image that a `<disk>` describes. Raises as `block_commit`."""
        from virtsnap.formats.copy_xml import parse_copy_destination
        from virtsnap.plan.block_jobs import CopyRequest, find_format, plan_copy
        from virtsnap.qemu import facts as reader

        self.writable("virDomainBlockCopy")
        flag = known_flags(flags, BlockCopy, "qemuDomainBlockCopy")
        to = parse_copy_destination(destination_xml)
        request = CopyRequest(path, to.path, to.type, to.format, bandwidth, granularity, buf_size, flag)
        async with self.operation(uuid) as world:
            facts = await reader.with_files(await self._facts(world), [to.path])
            reused = None
            format = find_format(facts, request)
            if flag & BlockCopy.REUSE_EXT and format is not None and facts.files[to.path].exists:
                reused = (await reader.chain(to.path, format))[0]
            await self._run_begin(world, facts, plan_copy(facts, request, self._number(), reused))

    async def block_job_info(self, uuid: str, path: str, flags: int = 0) -> BlockJobInfo | None:
        """How far the disk's job is; None: it has none. Raises OperationInvalid, InvalidArg."""
        known_flags(flags, BlockJobInfoFlags, "qemuDomainGetBlockJobInfo")
        record = await self.look(uuid)
        job = self._job(record, path)
        return None if job is None else await self._info(record, job)

    async def block_job_set_speed(self, uuid: str, path: str, bandwidth: int, flags: int = 0) -> None:
        """Limit the disk's job. Raises OperationInvalid, InvalidArg."""
        from virtsnap.qemu import block_jobs

        self.writable("virDomainBlockJobSetSpeed")
        flag = known_flags(flags, BlockJobSetSpeed, "qemuDomainBlockJobSetSpeed")
        speed = _speed(bandwidth, bytes=bool(flag & BlockJobSetSpeed.BANDWIDTH_BYTES))
        async with self.operation(uuid) as world:
            job = self._required(world.record(), path)
            monitor = await required_monitor(world)
            await block_jobs.set_speed(monitor, job.name, speed)

    async def block_job_abort(self, uuid: str, path: str, flags: int = 0) -> None:
        """End the disk's job, or let the disk go over to its other end.

        Raises OperationInvalid, InvalidArg, BlockCopyActive when it is not ready to go over.
        """
        from virtsnap.engine.telling import expect_move
        from virtsnap.qemu import block_jobs
        from virtsnap.service.concluding import conclude, put

        self.writable("virDomainBlockJobAbort")
        flag = known_flags(flags, BlockJobAbort, "qemuDomainBlockJobAbort")
        async with self.operation(uuid) as world:
            job = self._required(world.record(), path)
            monitor = await required_monitor(world)
            if job.state is not BlockJobState.RUNNING:
                raise OperationInvalid(f"block job on disk '{job.target}' is still being ended")
            if flag & BlockJobAbort.PIVOT:
                if not job.type.mirrors:
                    kind = job.type.name.lower().replace("_", "-")
                    raise OperationInvalid(f"job type '{kind}' does not support pivot")
                found = await block_jobs.info(monitor, job)
                if found is None or not found.ready:
                    raise BlockCopyActive(f"disk '{job.target}' not ready for pivot yet")
                if job.result is not None:
                    expect_move(self.store, uuid, job.name, job.result.path)
                put(world, replace(job, state=BlockJobState.PIVOTING))
            else:
                put(world, replace(job, state=BlockJobState.ABORTING))
                await block_jobs.cancel(monitor, job.name)
                if flag & BlockJobAbort.ASYNC:
                    return
            await conclude(world)
            if flag & BlockJobAbort.PIVOT:
                _check_pivoted(self._last(uuid, job.target))

    async def block_job_wait(
        self, uuid: str, path: str, *, progress: ProgressCallback | None = None
    ) -> BlockJob | None:
        """Return when the disk's job is ready or over, with its record; None when it never had one.

        Raises OperationInvalid, InvalidArg.
        """
        target = self._target(await self.look(uuid), path)
        pause = _FIRST_LOOK_SECONDS
        while (job := self._last(uuid, target)) is not None and job.active:
            info = await self._info(self._record(uuid), job)
            if info is None:
                async with self.operation(uuid):
                    continue  # what can be brought to its end has been
            if progress is not None:
                progress(Progress(_LABELS[job.type], info.cur, info.end))
            if info.ready:
                return job
            # Nobody tells of progress, and QEMU's second monitor is others', too.
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LOOK_SECONDS)
        if job is not None and progress is not None and job.state is BlockJobState.COMPLETED:
            progress(Progress(_LABELS[job.type], 1, 1))
        return job

    async def _info(self, record: DomainRecord, job: BlockJob) -> BlockJobInfo | None:
        """How far it is; None when it has to be concluded, or was."""
        from virtsnap.engine.world import query_path
        from virtsnap.qemu import block_jobs
        from virtsnap.qemu.monitor import Monitor, MonitorLost

        if record.instance is None or record.instance.run_dir != job.run_dir:
            return None
        try:
            async with await Monitor.connect(query_path(job.run_dir)) as monitor:
                return await block_jobs.info(monitor, job)
        except MonitorLost:
            return None

    async def _begin(self, uuid: str, plan: Callable[[DomainFacts, int], Plan]) -> None:
        async with self.operation(uuid) as world:
            facts = await self._facts(world)
            await self._run_begin(world, facts, plan(facts, self._number()))

    async def _run_begin(self, world: World, facts: DomainFacts, plan: Plan) -> None:
        from virtsnap.engine.runner import Runner

        await Runner(world).run(plan, facts)

    def _number(self) -> int:
        with self.store.transaction() as tx:
            return tx.next_block_job()

    def _target(self, record: DomainRecord, path: str) -> str:
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.plan.block_jobs import find_disk

        if record.live_xml is None:
            raise OperationInvalid("domain is not running")
        return find_disk(DomainDefinition.parse(record.live_xml), path).target

    def _job(self, record: DomainRecord, path: str) -> BlockJob | None:
        """The active job of the disk. Raises OperationInvalid, InvalidArg."""
        target = self._target(record, path)
        jobs = self.store.block_jobs(record.uuid, active=True)
        return next((job for job in jobs if job.target == target), None)

    def _required(self, record: DomainRecord, path: str) -> BlockJob:
        job = self._job(record, path)
        if job is None:
            raise InvalidArg(f"disk {self._target(record, path)} does not have an active block job")
        return job

    def _last(self, uuid: str, target: str) -> BlockJob | None:
        """The disk's last job, over or not."""
        jobs = [job for job in self.store.block_jobs(uuid) if job.target == target]
        return jobs[-1] if jobs else None


def _check_pivoted(job: BlockJob | None) -> None:
    if job is not None and job.state is not BlockJobState.COMPLETED:
        raise Failed(f"block job on disk '{job.target}' failed while pivoting: {job.error or 'it ended'}")


def _speed(bandwidth: int, *, bytes: bool) -> int:
    """Bytes per second. Raises Overflow."""
    if bytes:
        return bandwidth
    if bandwidth > _MIB_LIMIT:
        raise Overflow(f"bandwidth must be less than {_MIB_LIMIT}")
    return bandwidth << 20
