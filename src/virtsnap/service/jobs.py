"""The calls on what another process does with a domain: how far it is, and that it should stop.

They wait for no lock, and neither finish nor undo what a crash has left: that would be a job of its own.
"""

from __future__ import annotations

from virtsnap.engine.refresh import observed
from virtsnap.model.errors import OperationInvalid
from virtsnap.model.job import AbortJob, JobInfo, JobStats, JobType
from virtsnap.plan.requests import known_flags
from virtsnap.service.context import Context


class JobCalls(Context):
    """See `service.interface.Service`."""

    async def job_info(self, uuid: str, flags: int = 0) -> JobInfo:
        """The job under way, or the last completed. Raises OperationInvalid when nothing runs at all."""
        from virtsnap.engine import jobs

        known_flags(flags, JobStats, "qemuDomainGetJobStats")
        record = self._record(uuid)
        if flags & JobStats.COMPLETED:
            keep = bool(flags & JobStats.KEEP_COMPLETED) or self.readonly
            return jobs.completed(self.root, uuid, keep=keep)
        info = jobs.info(self.root, uuid)
        if info.type is JobType.NONE and not observed(record).active:
            raise OperationInvalid("domain is not running")
        return info

    async def abort_job(self, uuid: str, flags: int = 0) -> None:
        """Ask the process that works on the domain to undo it. Raises OperationInvalid when none does."""
        from virtsnap.engine import jobs

        self.writable("virDomainAbortJobFlags" if flags else "virDomainAbortJob")
        known_flags(flags, AbortJob, "qemuDomainAbortJobFlags")
        record = self._record(uuid)
        if not flags & AbortJob.POSTCOPY and await jobs.abort(self.root, uuid):
            return
        if not observed(record).active:
            raise OperationInvalid("domain is not running")
        if flags & AbortJob.POSTCOPY:
            raise OperationInvalid("current job is not outgoing migration in post-copy mode")
        raise OperationInvalid("no job is active on the domain")
