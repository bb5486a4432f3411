"""blockcommit, blockpull, blockcopy and blockjob: what QEMU does with a running domain's images."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.files import read_text
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, JSON, Command, alias, flag, number, positional, string
from virtsnap.model.block_job import BlockJob, BlockJobState, BlockJobType
from virtsnap.model.flags import (
    BlockCommit,
    BlockCopy,
    BlockJobAbort,
    BlockJobSetSpeed,
    BlockPull,
    BlockRebase,
)
from virtsnap.service.interface import Progress

_TYPES = {
    BlockJobType.UNKNOWN: "Unknown job",
    BlockJobType.PULL: "Block Pull",
    BlockJobType.COPY: "Block Copy",
    BlockJobType.COMMIT: "Block Commit",
    BlockJobType.ACTIVE_COMMIT: "Active Block Commit",
    BlockJobType.BACKUP: "Backup",
}


@dataclass
class _Waiter:
    """Waits for a disk's job, and ends it when that takes too long or nobody wants it any more."""

    session: Session
    args: Args
    uuid: str
    path: str
    timeout: int | None
    what: str
    """'Commit', 'Pull' or 'Copy'."""

    async def wait(self) -> BlockJob:
        """The job, ready or completed. Raises CliError when it is neither."""
        service = await self.session.service()
        show = self.session.told_progress if self.args.has("verbose") else self.session.progress
        job: BlockJob | None = None
        try:
            async with asyncio.timeout(self.timeout):
                job = await service.block_job_wait(self.uuid, self.path, progress=show)
        except TimeoutError:
            self.session.leave_progress()
            await self._abort()
            raise self._aborted() from None
        except asyncio.CancelledError:
            # Ctrl-C: the disk shall be as it was.
            await asyncio.shield(self._abort())
            raise
        self.session.leave_progress()  # what follows begins with a new line
        if job is None or job.state is BlockJobState.FAILED:
            raise CliError(f"\n{self.what} failed", *((job.error,) if job is not None and job.error else ()))
        if job.state is BlockJobState.CANCELED:
            raise self._aborted()
        return job

    def _aborted(self) -> CliError:
        self.session.extra(f"\n{self.what} aborted")
        return CliError()

    async def _abort(self) -> None:
        service = await self.session.service()
        flags = BlockJobAbort.ASYNC if self.args.has("async") else 0
        await service.block_job_abort(self.uuid, self.path, flags)

    async def finish(self, *, pivot: bool) -> None:
        """End a job that is ready, by going over to its other end or not."""
        service = await self.session.service()
        verb = "pivot" if pivot else "finish"
        with self.session.explaining(f"failed to {verb} job for disk {self.path}"):
            await service.block_job_abort(self.uuid, self.path, BlockJobAbort.PIVOT if pivot else 0)


def _timeout(args: Args) -> int | None:
    seconds = args.number("timeout")
    if seconds == 0:
        raise CliError("Numeric value '0' for <timeout> option is malformed or out of range")
    return seconds


def _bandwidth(args: Args) -> int:
    """In what --bytes says. Raises CliError."""
    value = args.string("bandwidth")
    if value is None:
        return 0
    if args.has("bytes"):
        return args.scaled("bandwidth") or 0
    if not value.isascii() or not value.isdigit() or int(value) >= 1 << 64:
        raise CliError(
            f"Scaled numeric value '{value}' for <--bandwidth> option is malformed or out of range"
        )
    return int(value)


async def _blockcommit(session: Session, args: Args) -> None:
    args.exclusive("pivot", "keep-overlay")
    wants_end = args.has("pivot") or args.has("keep-overlay")
    active = args.has("active") or wants_end
    timeout = _timeout(args)
    waits = args.has("wait") or args.has("timeout") or wants_end
    for name in ("verbose", "async"):
        if args.has(name) and not waits:
            raise CliError(f"--{name} requires at least one of --timeout, --wait, --pivot, or --keep-overlay")
    path, base, top = args.required("path"), args.string("base"), args.string("top")
    bandwidth = _bandwidth(args)
    flags = args.flags(
        {
            "shallow": BlockCommit.SHALLOW,
            "delete": BlockCommit.DELETE,
            "keep-relative": BlockCommit.RELATIVE,
            "bytes": BlockCommit.BANDWIDTH_BYTES,
        }
    )
    domain = await session.domain(args)
    service = await session.service()
    await service.block_commit(
        domain.uuid, path, base, top, bandwidth, flags | (BlockCommit.ACTIVE if active else 0)
    )
    if not waits:
        session.extra("Active Block Commit started" if active else "Block Commit started")
        return
    waiter = _Waiter(session, args, domain.uuid, path, timeout, "Commit")
    await waiter.wait()
    if args.has("pivot"):
        await waiter.finish(pivot=True)
        session.extra("\nSuccessfully pivoted")
    elif args.has("keep-overlay"):
        await waiter.finish(pivot=False)
        session.extra("\nCommit complete, overlay image kept")
    else:
        session.extra("\nNow in synchronized phase" if active else "\nCommit complete")


async def _blockpull(session: Session, args: Args) -> None:
    for name in ("verbose", "async"):
        args.require(name, "wait")
    timeout = _timeout(args)
    path, base, bandwidth = args.required("path"), args.string("base"), _bandwidth(args)
    flags = args.flags({"keep-relative": BlockRebase.RELATIVE, "bytes": BlockPull.BANDWIDTH_BYTES})
    domain = await session.domain(args)
    service = await session.service()
    await service.block_pull(domain.uuid, path, base, bandwidth, flags)
    if not args.has("wait"):
        session.extra("Block Pull started")
        return
    await _Waiter(session, args, domain.uuid, path, timeout, "Pull").wait()
    session.extra("\nPull complete")


async def _blockcopy(session: Session, args: Args) -> None:
    args.exclusive("dest", "xml")
    args.exclusive("format", "xml")
    args.exclusive("blockdev", "xml")
    args.exclusive("pivot", "finish")
    timeout = _timeout(args)
    path, format = args.required("path"), args.string("format")
    dest, file = args.string("dest"), args.string("xml")
    if dest is None and file is None:
        raise CliError("need either --dest or --xml")
    waits = any(args.has(name) for name in ("wait", "timeout", "pivot", "finish"))
    for name in ("verbose", "async"):
        if args.has(name) and not waits:
            raise CliError(f"--{name} requires at least one of --timeout, --wait, --pivot, or --finish")
    bandwidth = _bandwidth(args)
    if not args.has("bytes"):
        if bandwidth > (1 << 64) - 1 >> 20:
            raise CliError(f"Bandwidth '{bandwidth}' MiB/s is too large")
        bandwidth <<= 20
    granularity, buf_size = args.number("granularity") or 0, args.wide("buf-size") or 0
    xml = read_text(file) if file is not None else _copy_xml(dest or "", format, args.has("blockdev"))
    if args.has("print-xml"):
        session.print(xml)
        return
    flags = args.flags(
        {
            "shallow": BlockCopy.SHALLOW,
            "reuse-external": BlockCopy.REUSE_EXT,
            "transient-job": BlockCopy.TRANSIENT_JOB,
            "synchronous-writes": BlockCopy.SYNCHRONOUS_WRITES,
        }
    )
    domain = await session.domain(args)
    service = await session.service()
    await service.block_copy(
        domain.uuid,
        path,
        xml,
        flags,
        bandwidth=bandwidth,
        granularity=granularity,
        buf_size=buf_size,
    )
    if not waits:
        session.extra("Block Copy started")
        return
    waiter = _Waiter(session, args, domain.uuid, path, timeout, "Copy")
    await waiter.wait()
    if args.has("pivot"):
        await waiter.finish(pivot=True)
        session.extra("\nSuccessfully pivoted")
    elif args.has("finish"):
        await waiter.finish(pivot=False)
        session.extra("\nSuccessfully copied")
    else:
        session.extra("\nNow in mirroring phase")


def _copy_xml(dest: str, format: str | None, device: bool) -> str:
    from xml.sax.saxutils import escape

    def quoted(text: str) -> str:
        return escape(text, {"'": "&apos;", '"': "&quot;"})

    kind, attribute = ("block", "dev") if device else ("file", "file")
    driver = f"  <driver type='{quoted(format)}'/>\n" if format is not None else ""
    return f"<disk type='{kind}'>\n  <source {attribute}='{quoted(dest)}'/>\n{driver}</disk>\n"


async def _blockjob(session: Session, args: Args) -> None:
    ending = ("abort", "pivot", "async")
    for name in ("raw", "info"):
        for other in (*ending, "bandwidth"):
            args.exclusive(name, other)
    for other in ending:
        args.exclusive("bytes", other)
    path = args.required("path")
    domain = await session.domain(args)
    service = await session.service()
    if any(args.has(name) for name in ending):
        flags = args.flags({"async": BlockJobAbort.ASYNC, "pivot": BlockJobAbort.PIVOT})
        await service.block_job_abort(domain.uuid, path, flags)
    elif args.has("bandwidth"):
        flags = args.flags({"bytes": BlockJobSetSpeed.BANDWIDTH_BYTES})
        await service.block_job_set_speed(domain.uuid, path, _bandwidth(args), flags)
    else:
        await _show(session, args, domain.uuid, path)


async def _show(session: Session, args: Args, uuid: str, path: str) -> None:
    service = await session.service()
    job = await service.block_job_info(uuid, path)
    if session.wants_json(args):
        session.json(
            None
            if job is None
            else {
                "type": _TYPES[job.type],
                "bandwidth": job.bandwidth,
                "cur": job.cur,
                "end": job.end,
                "ready": job.ready,
            }
        )
    elif args.has("raw"):
        if job is not None:
            speed = job.bandwidth if args.has("bytes") else -(-job.bandwidth >> 20)
            session.print(f" type={_TYPES[job.type]}\n bandwidth={speed}\n cur={job.cur}\n end={job.end}\n")
    elif job is None:
        session.extra(f"No current block job for {path}")
    else:
        session.told_progress(Progress(_TYPES[job.type], job.cur, job.end))
        session.leave_progress()
        if job.bandwidth:
            session.print(f"    Bandwidth limit: {job.bandwidth} bytes/s ({_pretty(job.bandwidth)}/s)")
        session.print("\n")


def _pretty(count: int) -> str:
    from virtsnap.cli.table import pretty_bytes

    return pretty_bytes(count)


_PATH = positional("path", "fully-qualified path of disk", required=True)

COMMANDS = {
    "blockcommit": Command(
        _blockcommit,
        (
            DOMAIN,
            _PATH,
            number("bandwidth", "bandwidth limit in MiB/s", tolerated=True),
            string("base", "path of base file to commit into (default bottom of chain)", tolerated=True),
            flag("shallow", "use backing file of top as base"),
            string("top", "path of top file to commit from (default top of chain)", tolerated=True),
            flag("active", "trigger two-stage active commit of top file"),
            flag("delete", "delete files that were successfully committed"),
            flag("wait", "wait for job to complete (with --active, wait for job to sync)"),
            flag("verbose", "with --wait, display the progress"),
            number("timeout", "implies --wait, abort if copy exceeds timeout (in seconds)", tolerated=True),
            flag("pivot", "implies --active --wait, pivot when commit is synced"),
            flag("keep-overlay", "implies --active --wait, quit when commit is synced"),
            flag("async", "with --wait, don't wait for cancel to finish"),
            flag("keep-relative", "keep the backing chain relatively referenced"),
            flag("bytes", "the bandwidth limit is in bytes/s rather than MiB/s"),
        ),
        "Start a block commit operation.",
        ("blockcommit demo vda --pivot --verbose", "blockcommit demo vda --top /images/demo.s2 --wait"),
    ),
    "blockpull": Command(
        _blockpull,
        (
            DOMAIN,
            _PATH,
            number("bandwidth", "bandwidth limit in MiB/s", tolerated=True),
            string("base", "path of backing file in chain for a partial pull", tolerated=True),
            flag("wait", "wait for job to finish"),
            flag("verbose", "with --wait, display the progress"),
            number("timeout", "with --wait, abort if pull exceeds timeout (in seconds)", tolerated=True),
            flag("async", "with --wait, don't wait for cancel to finish"),
            flag("keep-relative", "keep the backing chain relatively referenced"),
            flag("bytes", "the bandwidth limit is in bytes/s rather than MiB/s"),
        ),
        "Populate a disk from its backing image.",
        ("blockpull demo vda --wait --verbose",),
    ),
    "blockcopy": Command(
        _blockcopy,
        (
            DOMAIN,
            positional("path", "fully-qualified path of source disk", required=True),
            string("dest", "path of the copy to create", tolerated=True),
            number("bandwidth", "bandwidth limit in MiB/s", tolerated=True),
            flag("shallow", "make the copy share a backing chain"),
            flag("reuse-external", "reuse existing destination"),
            alias("raw", "format=raw"),
            flag("blockdev", "copy destination is block device instead of regular file"),
            flag("wait", "wait for job to reach mirroring phase"),
            flag("verbose", "with --wait, display the progress"),
            number("timeout", "implies --wait, abort if copy exceeds timeout (in seconds)", tolerated=True),
            flag("pivot", "implies --wait, pivot when mirroring starts"),
            flag("finish", "implies --wait, quit when mirroring starts"),
            flag("async", "with --wait, don't wait for cancel to finish"),
            string("xml", "filename containing XML description of the copy destination", tolerated=True),
            string("format", "format of the destination file", tolerated=True),
            number("granularity", "power-of-two granularity to use during the copy", tolerated=True),
            number("buf-size", "maximum amount of in-flight data during the copy", tolerated=True),
            flag("bytes", "the bandwidth limit is in bytes/s rather than MiB/s"),
            flag("transient-job", "the copy job is not persisted if VM is turned off"),
            flag(
                "synchronous-writes",
                "the copy job forces guest writes to be synchronously written to the destination",
            ),
            flag("print-xml", "print the XML used to start the copy job instead of starting the job"),
        ),
        "Copy a disk backing image chain to dest.",
        ("blockcopy demo vda /images/moved.qcow2 --transient-job --pivot --verbose",),
    ),
    "blockjob": Command(
        _blockjob,
        (
            DOMAIN,
            _PATH,
            flag("abort", "abort the active job on the specified disk"),
            flag("async", "implies --abort; request but don't wait for job end"),
            flag("pivot", "implies --abort; conclude and pivot a copy or commit job"),
            flag("info", "get active job information for the specified disk"),
            flag("bytes", "get/set bandwidth in bytes rather than MiB/s"),
            flag("raw", "implies --info; output details rather than human summary"),
            number("bandwidth", "set the bandwidth limit in MiB/s", tolerated=True),
            JSON,
        ),
        "Query, adjust speed, or cancel active block operations.",
        ("blockjob demo vda", "blockjob demo vda --pivot"),
    ),
}
