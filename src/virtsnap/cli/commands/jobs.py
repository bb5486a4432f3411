"""What another process does with a domain: domjobinfo and domjobabort."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, JSON, Command, flag
from virtsnap.cli.table import pretty_bytes
from virtsnap.model.job import AbortJob, Amount, JobInfo, JobStats, JobType

_TYPES = {
    JobType.NONE: "None",
    JobType.BOUNDED: "Bounded",
    JobType.UNBOUNDED: "Unbounded",
    JobType.COMPLETED: "Completed",
    JobType.FAILED: "Failed",
    JobType.CANCELLED: "Cancelled",
}


async def _domjobinfo(session: Session, args: Args) -> None:
    args.require("keep-completed", "completed")
    domain = await session.domain(args)
    service = await session.service()
    flags = args.flags({"completed": JobStats.COMPLETED, "keep-completed": JobStats.KEEP_COMPLETED})
    job = await service.job_info(domain.uuid, flags)
    if session.wants_json(args):
        session.json({"type": _TYPES[job.type], **job.stats(), "operation": job.operation.word})
    elif args.has("rawstats"):
        session.print(f"Job type: {int(job.type)}\n\n")
        session.print("".join(f"{name}: {value}\n" for name, value in job.stats().items()))
    else:
        session.print(_text(job))


def _text(job: JobInfo) -> str:
    text = _line("Job type:", f"{_TYPES[job.type]:<12}")
    if job.type is JobType.NONE:
        return text
    text += _line("Operation:", f"{job.operation.word:<12}")
    text += _line("Time elapsed:", f"{job.elapsed_ms:<12} ms")
    return text + _amount("Data", job.data) + _amount("Memory", job.memory) + _amount("File", job.disk)


def _amount(of: str, amount: Amount) -> str:
    if not amount.total and not amount.processed:
        return ""
    return (
        _line(f"{of} processed:", pretty_bytes(amount.processed))
        + _line(f"{of} remaining:", pretty_bytes(amount.remaining))
        + _line(f"{of} total:", pretty_bytes(amount.total))
    )


def _line(label: str, value: str) -> str:
    return f"{label:<17} {value}\n"


async def _domjobabort(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    await service.abort_job(domain.uuid, args.flags({"postcopy": AbortJob.POSTCOPY}))


COMMANDS = {
    "domjobinfo": Command(
        _domjobinfo,
        (
            DOMAIN,
            flag("completed", "return statistics of a recently completed job"),
            flag("keep-completed", "don't destroy statistics of a recently completed job when reading"),
            flag("anystats", "print statistics for any kind of job (even failed ones)"),
            flag("rawstats", "print the raw data returned by libvirt"),
            JSON,
        ),
        "Returns information about jobs running on a domain.",
        ("domjobinfo demo", "domjobinfo demo --completed"),
    ),
    "domjobabort": Command(
        _domjobabort,
        (DOMAIN, flag("postcopy", "interrupt post-copy migration")),
        "Aborts the currently running domain job",
        ("domjobabort demo",),
    ),
}
