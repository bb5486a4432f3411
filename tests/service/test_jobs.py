"""What other processes see of an operation under way, and how they stop it: a real QEMU, held still."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.service.crash import Crasher
from tests.service.local_domain import BareDomain
from virtsnap.engine import jobs
from virtsnap.model.errors import Aborted, Failed, OperationInvalid, Outcome
from virtsnap.model.flags import SnapshotCreate
from virtsnap.model.job import Amount, JobInfo, JobOperation, JobStats, JobType
from virtsnap.qemu import background
from virtsnap.service.interface import Progress
from virtsnap.service.local import open_local

pytestmark = pytest.mark.real

MIB = 1 << 20


class Held:
    """A QEMU, or any qemu-img that merges, that stands still until `let_go`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pids: list[int] = []
        self.gate: int | None = None
        self.reached = asyncio.Event()

    def hold(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        self.pids.append(pid)
        self.reached.set()

    def hold_merges(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A qemu-img that is to tell how far it is says so at once, and begins when it may."""
        os.mkfifo(self.folder / "gate")
        program = self.folder / "qemu-img"
        program.write_text(
            "#!/bin/sh\n"
            f"case \" $* \" in *' -p '*) printf '    (1.00/100%%)\\r'; read -r _ <{self.folder}/gate;; esac\n"
            f'exec {shutil.which("qemu-img")} "$@"\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{self.folder}:{os.environ['PATH']}")

    def let_go(self) -> None:
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.pids = []
        gate = self.folder / "gate"
        if gate.exists() and self.gate is None:
            # Open for both ways, so that nobody need be there, and those who come later find it open.
            self.gate = os.open(gate, os.O_RDWR)
            os.write(self.gate, b"\n" * 10)

    def close(self) -> None:
        self.let_go()
        if self.gate is not None:
            os.close(self.gate)


@pytest.fixture
async def held(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Held]:
    held = Held(tmp_path_factory.mktemp("held"))
    try:
        yield held
    finally:
        held.close()


@pytest.fixture
async def writing(
    bare: BareDomain, held: Held, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[asyncio.Task[Any]]:
    """A snapshot whose QEMU stands still as soon as it is to write its memory."""
    await bare.start()
    begin = background.Capture.begin

    async def slow(*arguments: Any, **options: Any) -> Any:
        held.hold(bare.instance.pid)
        return await begin(*arguments, **options)

    monkeypatch.setattr(background.Capture, "begin", slow)
    task = asyncio.ensure_future(bare.service.snapshot_create_xml(bare.uuid, bare.full_xml("s")))
    reached = asyncio.ensure_future(held.reached.wait())
    await asyncio.wait({task, reached}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        reached.cancel()
        assert task.result().memory_mode != "background"
        pytest.skip("needs QEMU 9.0, and userfaultfd for this user")
    try:
        yield task
    finally:
        held.let_go()
        await asyncio.wait({task})


async def merging(
    bare: BareDomain, held: Held, monkeypatch: pytest.MonkeyPatch, *, offline: bool
) -> asyncio.Task[Any]:
    """The deletion of a snapshot with 32 MiB to merge on each disk, held at its first word of progress."""
    if not offline:
        await bare.start()
    await bare.put(1, size="32M")
    await bare.disk_only("s")
    await bare.put(2, size="32M")

    if offline:
        held.hold_merges(monkeypatch)

    def progress(_: Progress) -> None:
        if offline:
            held.reached.set()
        elif not held.reached.is_set():
            held.hold(bare.instance.pid)

    task = asyncio.ensure_future(bare.service.snapshot_delete(bare.uuid, "s", progress=progress))
    reached = asyncio.ensure_future(held.reached.wait())
    await asyncio.wait({task, reached}, return_when=asyncio.FIRST_COMPLETED)
    assert not task.done(), "it was over before it told of anything"
    return task


def leftovers(bare: BareDomain) -> set[str]:
    return {path.suffix for path in (bare.folder / "root" / "lock").iterdir()} - {".lock"}


async def test_writing_memory_is_seen_from_outside(
    bare: BareDomain, writing: asyncio.Task[Any], held: Held
) -> None:
    said = await bare.cli_ok("domjobinfo", "bare")
    assert said.startswith("Job type:         Unbounded   \nOperation:        Snapshot    \nTime elapsed:")
    held.let_go()
    assert await writing == "s"
    assert await bare.cli_ok("domjobinfo", "bare") == "Job type:         None        \n\n"
    assert leftovers(bare) == {".completed"}


async def test_writing_memory_is_aborted_from_outside(
    bare: BareDomain, writing: asyncio.Task[Any], held: Held
) -> None:
    files = bare.files()
    assert await bare.cli_ok("domjobabort", "bare") == "\n"
    assert not writing.done(), "undoing it needs QEMU, which stands still"
    held.let_go()
    with pytest.raises(Aborted, match=r"^operation aborted: job 'snapshot' canceled by client$"):
        await writing
    assert await bare.names() == set()
    assert bare.files() == files - {"s.mem", "vda.s", "vdb.s"}
    assert bare.service.store.journal(bare.uuid) is None
    assert leftovers(bare) == set()
    # And the domain is as good as before.
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    held.reached.clear()
    assert "operation is not valid: no job is active" in await bare.cli_fails("domjobabort", "bare")


@pytest.mark.parametrize("offline", [False, True])
async def test_a_merge_is_seen_from_outside(
    bare: BareDomain, held: Held, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    task = await merging(bare, held, monkeypatch, offline=offline)
    said = await bare.cli_ok("domjobinfo", "bare")
    assert said.startswith("Job type:         Unbounded   \nOperation:        Snapshot delete\n")
    assert "\nFile total:       3" in said
    held.let_go()
    await task
    # 32 MiB of data, and what qcow2 needs to say where they are.
    done = await bare.service.job_info(bare.uuid, JobStats.COMPLETED | JobStats.KEEP_COMPLETED)
    assert (done.type, done.operation) == (JobType.COMPLETED, JobOperation.SNAPSHOT_DELETE)
    assert done.disk.processed == done.disk.total >= 32 * MIB
    assert done.memory == Amount()
    assert await bare.got() == [2, 2]
    said = await bare.cli_ok("domjobinfo", "bare", "--completed")
    assert f"\nTime elapsed:     {done.elapsed_ms:<12} ms\n" in said
    assert await bare.service.job_info(bare.uuid, JobStats.COMPLETED) == JobInfo()


@pytest.mark.parametrize("offline", [False, True])
async def test_a_merge_is_aborted_from_outside(
    bare: BareDomain, held: Held, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    task = await merging(bare, held, monkeypatch, offline=offline)
    assert await bare.cli_ok("domjobabort", "bare") == "\n"
    held.let_go()
    with pytest.raises(Failed) as caught:
        await task
    assert str(caught.value).startswith("operation aborted: ")
    # What overwrites frozen content is only completed, what does not is undone.
    wanted = set() if caught.value.outcome is Outcome.NEEDS_RECOVERY else {"s"}
    assert await bare.names() == wanted
    assert await bare.got() == [2, 2]
    assert bare.service.store.journal(bare.uuid) is None
    assert leftovers(bare) <= {".completed"}


async def test_an_abort_that_comes_too_late_changes_nothing(
    bare: BareDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    complete = jobs._Board.complete

    def late(board: jobs._Board) -> None:
        complete(board)
        assert board._task is not None
        board.aborted = True
        asked.append(board._task.cancel())

    monkeypatch.setattr(jobs._Board, "complete", late)
    await bare.disk_only("s")
    await asyncio.sleep(0)  # where a cancellation left over would strike
    assert asked == [True]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert await bare.names() == {"s"}


async def test_a_cancellation_by_the_caller_stays_one(
    bare: BareDomain, writing: asyncio.Task[Any], held: Held
) -> None:
    assert await jobs.abort(bare.service.root, bare.uuid)
    writing.cancel()
    held.let_go()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await bare.names() == set()


async def test_of_a_holder_that_died_nothing_is_told(bare: BareDomain, crasher: Crasher) -> None:
    xml = "<domainsnapshot><name>s</name></domainsnapshot>"
    assert (await crasher.run(bare, 3, "snapshot_create_xml", xml, int(SnapshotCreate.DISK_ONLY))).died
    assert leftovers(bare) == {".job", ".abort"}
    for call in (bare.service.job_info, bare.service.abort_job):
        with pytest.raises(OperationInvalid, match="domain is not running"):
            await call(bare.uuid)
    assert bare.service.store.journal(bare.uuid) is not None, "looking at jobs recovers nothing"
    assert await bare.names() in (set(), {"s"})
    assert leftovers(bare) == set()


@pytest.fixture
def long_name(tmp_path: Path) -> Path:
    folder = tmp_path
    while len(str(folder)) < 200:
        folder = folder / ("long" * 10)
    return folder


async def test_paths_longer_than_a_socket_address(
    define: Callable[..., Any], long_name: Path, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = await define(str(long_name))
    task = await merging(bare, held, monkeypatch, offline=True)
    assert (await bare.service.job_info(bare.uuid)).operation is JobOperation.SNAPSHOT_DELETE
    await bare.service.abort_job(bare.uuid)
    held.let_go()
    with pytest.raises(Failed):
        await task


async def test_read_only_looks_and_leaves_it(
    bare: BareDomain, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await merging(bare, held, monkeypatch, offline=True)
    reader = await open_local(bare.folder / "root", readonly=True)
    try:
        assert (await reader.job_info(bare.uuid)).type is JobType.UNBOUNDED
        assert "read only access prevents virDomainAbortJob" in (
            await bare.cli_fails("-r", "domjobabort", "bare")
        )
        held.let_go()
        await task
        for _ in range(2):
            assert (await reader.job_info(bare.uuid, JobStats.COMPLETED)).type is JobType.COMPLETED
    finally:
        await reader.close()


async def test_post_copy_is_not_what_we_do(bare: BareDomain) -> None:
    await bare.start()
    assert "current job is not outgoing migration in post-copy mode" in (
        await bare.cli_fails("domjobabort", "bare", "--postcopy")
    )
