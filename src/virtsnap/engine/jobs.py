"""What an operation tells other processes while it runs, and how they ask it to stop.

Beside a domain's lock, as long as its holder works on a long operation, lie `UUID.job`, a note of what it
does and how far it is, replaced as a whole a few times a second; and `UUID.abort`, a socket. Whoever connects
to that cancels the operation as Ctrl-C would: what was begun is undone. A socket rather than a signal, since
the holder may be a program with other things to do; and one that a dead holder has left answers nobody.
`UUID.completed` tells of the last operation that went well and copied something.

What is not here: who holds the lock (`locks`), what undoing means (`runner`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from virtsnap.engine.world import Report, World
from virtsnap.model.errors import Aborted, Failed
from virtsnap.model.frozen import dataclass
from virtsnap.model.job import Amount, JobInfo, JobOperation, JobType
from virtsnap.qemu import process
from virtsnap.qemu.paths import socket_address

_NOTE_SECONDS = 0.25
_ANSWER_SECONDS = 5.0
_TAKEN = b"aborting"

_OPERATIONS = {
    "create": JobOperation.SNAPSHOT,
    "revert": JobOperation.SNAPSHOT_REVERT,
    "delete": JobOperation.SNAPSHOT_DELETE,
    "flatten": JobOperation.FLATTEN,
    "save": JobOperation.SAVE,
    "restore": JobOperation.RESTORE,
}
"""Plans that take their time, by the name of the plan's operation."""

_JOB_NAMES = {"flatten": "flatten", "save": "save", "restore": "start"}
"""What libvirt calls the job in messages, if not 'snapshot'."""

_DISK_LABELS = frozenset({JobOperation.SNAPSHOT_DELETE.word})
"""Progress under these labels counts bytes of images, under others bytes of memory."""


@dataclass(frozen=True)
class _Note:
    pid: int
    start_ticks: int
    boot_id: str
    operation: str
    began: float
    """CLOCK_BOOTTIME, the same in all processes."""
    memory: tuple[int, int] = (0, 0)
    disk: tuple[int, int] = (0, 0)
    memory_mode: str = ""
    memory_reason: str = ""

    def info(self, type: JobType) -> JobInfo:
        return JobInfo(
            type,
            _OPERATIONS.get(self.operation, JobOperation.UNKNOWN),
            round((_now() - self.began) * 1000),
            memory=Amount(*self.memory),
            disk=Amount(*self.disk),
            memory_mode=self.memory_mode,
            memory_reason=self.memory_reason,
        )


@contextlib.asynccontextmanager
async def job(
    world: World, operation: str, memory_mode: str = "", memory_reason: str = ""
) -> AsyncIterator[None]:
    """Tell of the operation in the block, whose caller holds the domain's lock, and let others abort it.

    `memory_mode`, `memory_reason`: see `model.steps.Plan`.

    Raises Aborted instead of the cancellation that somebody asked for in this way.
    """
    if operation not in _OPERATIONS:
        yield
        return
    told = world.report
    board = _Board(world.root, world.uuid, operation, told, (memory_mode, memory_reason))
    with board:
        world.report, world.job = board.report, board.info
        try:
            yield
        except asyncio.CancelledError:
            if not board.taken_back():
                raise
            name = _JOB_NAMES.get(operation, "snapshot")
            raise Aborted(f"job '{name}' canceled by client") from None
        else:
            board.complete()
            if board.aborted:
                # It came too late, perhaps so late that the cancellation is still on its way.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
        finally:
            world.report, world.job = told, JobInfo
            board.taken_back()


def info(root: Path, uuid: str) -> JobInfo:
    """The job that some process works on now; of type NONE when there is none."""
    note = _read(_path(root, uuid, "job"))
    if note is None or not process.alive(process.Spawned(note.pid, note.start_ticks, note.boot_id)):
        return JobInfo()
    return note.info(JobType.UNBOUNDED)


def completed(root: Path, uuid: str, *, keep: bool) -> JobInfo:
    """The last job that completed; of type NONE when there is none. Told only once, unless `keep`."""
    path = _path(root, uuid, "completed")
    note = _read(path)
    if note is None:
        return JobInfo()
    if not keep:
        path.unlink(missing_ok=True)
    # What was written down as its beginning is how long it took.
    return replace(note.info(JobType.COMPLETED), elapsed_ms=round(note.began * 1000))


def forget(root: Path, uuid: str) -> None:
    """The domain is no more."""
    _path(root, uuid, "completed").unlink(missing_ok=True)


async def abort(root: Path, uuid: str) -> bool:
    """Ask whoever works on the domain to stop. False when nobody does. Raises Failed when it is silent."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            with socket_address(str(_path(root, uuid, "abort"))) as address:
                sock.connect(address)
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await loop.sock_recv(sock, len(_TAKEN)) == _TAKEN
        except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
            return False
        except (BlockingIOError, TimeoutError) as error:
            raise Failed("the process that works on the domain does not answer") from error


class _Board:
    """The two files of one operation, from `with` to its end."""

    def __init__(self, root: Path, uuid: str, operation: str, told: Report, memory: tuple[str, str]) -> None:
        self._root, self._uuid, self._told = root, uuid, told
        me = process.identify(os.getpid())
        assert me is not None
        self._note = _Note(
            *(me.pid, me.start_ticks, me.boot_id, operation, _now()),
            memory_mode=memory[0],
            memory_reason=memory[1],
        )
        self._reported: float | None = None
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self.aborted = False

    def __enter__(self) -> None:
        self._write()
        path = _path(self._root, self._uuid, "abort")
        path.unlink(missing_ok=True)  # of a holder that died
        self._listener = process.listen(str(path))
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._asked)

    def __exit__(self, *raised: object) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for kind in ("abort", "job"):
            _path(self._root, self._uuid, kind).unlink(missing_ok=True)

    def report(self, label: str, done: int, total: int) -> None:
        """Note it, unless that was done a moment ago, and pass it on."""
        if label in _DISK_LABELS:
            self._note = replace(self._note, disk=(done, total))
        else:
            self._note = replace(self._note, memory=(done, total))
        if self._reported is None or time.monotonic() >= self._reported + _NOTE_SECONDS:
            self._reported = time.monotonic()
            self._write()
        # A merge is a merge: what it is for is known here.
        told = JobOperation.FLATTEN.word if self._note.operation == "flatten" else label
        self._told(told, done, total)

    def info(self) -> JobInfo:
        """How far it is."""
        return self._note.info(JobType.COMPLETED)

    def complete(self) -> None:
        """It went well."""
        note = self._note
        if note.memory != (0, 0) or note.disk != (0, 0):
            path = _path(self._root, self._uuid, "completed")
            _replace(path, replace(note, began=_now() - note.began))

    def taken_back(self) -> bool:
        """Take our own cancellation of the task back; False when there is another one."""
        if not self.aborted or self._task is None:
            return False
        self.aborted = False
        return self._task.uncancel() == 0

    def _asked(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            with self._listener.accept()[0] as client:
                client.send(_TAKEN)
            if not self.aborted and self._task is not None:
                self.aborted = True
                self._task.cancel()

    def _write(self) -> None:
        _replace(_path(self._root, self._uuid, "job"), self._note)


def _path(root: Path, uuid: str, kind: str) -> Path:
    return root / "lock" / f"{uuid}.{kind}"


def _replace(path: Path, note: _Note) -> None:
    """A reader finds the old note or the new one."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(vars(note)))
    os.replace(new, path)


def _read(path: Path) -> _Note | None:
    try:
        return _Note(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return None  # of another version: not worth failing over


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
