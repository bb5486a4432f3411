"""QEMU as a process: started so that it outlives us, named so that it is never mistaken, ended without races.

A process is named by pid, start time and boot id; signals go through a pidfd that is checked against
all three after it was opened, so that a reused pid is never hit. What is not here: the command line
(`machine`), the conversation (`qemu.monitor`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Protocol

from virtsnap.model.errors import ErrorCode, Failed
from virtsnap.model.frozen import dataclass
from virtsnap.qemu.monitor import Monitor, MonitorLost, connect_socket
from virtsnap.qemu.paths import socket_address

_LOG_TAIL_BYTES = 4096
_RETRY_SECONDS = 0.02


class Process(Protocol):
    """What names a process for ever; `model.domain.Instance` is one."""

    @property
    def pid(self) -> int:
        """The number, which may be used again."""
        ...

    @property
    def start_ticks(self) -> int:
        """Field 22 of /proc/PID/stat: clock ticks from boot to the start."""
        ...

    @property
    def boot_id(self) -> str:
        """The host boot that pid and ticks belong to."""
        ...


@dataclass(frozen=True)
class Spawned:
    """A process just started."""

    pid: int
    start_ticks: int
    boot_id: str
    log_start: int = 0
    """Where in its log, which earlier processes have written to, its own words begin."""


@dataclass(frozen=True)
class _Stat:
    """The fields of /proc/PID/stat that we use (proc_pid_stat(5))."""

    state: bytes
    utime: int
    stime: int
    start_ticks: int
    rss_pages: int
    cpu: int


def listen(path: str) -> socket.socket:
    """A listening unix socket at `path` that only its owner may connect to; for a QEMU to inherit.

    Made by us rather than by QEMU, so that a client can connect before QEMU is up, and `path` may be long.
    Raises Failed (code 38) when the path exists or cannot be made.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The mode of an unbound socket is what bind() gives the file; so there is no moment of a wider one.
        os.fchmod(sock.fileno(), 0o600)
        with socket_address(path) as address:
            sock.bind(address)
        sock.listen(1)
        # Two threads of a starting QEMU may go to the door for one caller (see `_meet`); the one that comes
        # late must not wait there for ever.
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise Failed(
            f"Failed to bind socket to '{path}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR
        ) from error
    return sock


def spawn(
    argv: Sequence[str],
    *,
    pass_fds: Sequence[int] = (),
    log_path: str,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Spawned:
    """Start a program in its own session, with input from nothing and all output appended to `log_path`.

    It inherits `pass_fds` and no other descriptor, and it stays when we end. Raises Failed (code 38) with
    libvirt's words when the program or the log cannot be opened.
    """
    try:
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failed(
            f"failed to create logfile {log_path}: {error.strerror}", code=ErrorCode.SYSTEM_ERROR
        ) from error
    log_start = os.fstat(log).st_size
    try:
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=tuple(pass_fds),
            cwd=cwd,
            env=None if env is None else dict(env),
            start_new_session=True,
        )
    except OSError as error:
        raise Failed(
            f"Cannot check QEMU binary {argv[0]}: {error.strerror}"
            if error.errno in (errno.ENOENT, errno.EACCES)
            else f"cannot execute binary {argv[0]}: {error.strerror}",
            code=ErrorCode.SYSTEM_ERROR,
        ) from error
    finally:
        os.close(log)
    # A Popen that is forgotten while its child runs warns, and would be told of a child that is not its
    # own affair. The child is named by pid and start time from here on; `_reap` waits for it if it is ours.
    child.returncode = 0
    stat = _read_stat(child.pid)
    if stat is None:
        raise Failed(f"process {child.pid} vanished while it was started", code=ErrorCode.INTERNAL_ERROR)
    return Spawned(child.pid, stat.start_ticks, current_boot_id(), log_start)


@cache
def current_boot_id() -> str:
    """The id of this boot of the host (proc(5), /proc/sys/kernel/random/boot_id)."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def alive(process: Process) -> bool:
    """Whether that very process runs. A zombie is dead, once all of its threads are.

    The main thread often ends first, and then /proc calls the process a zombie while the others still have
    its files open: an image would still be locked.
    """
    descriptor = open_pidfd(process)
    if descriptor is None:
        return False
    try:
        ended = _has_ended(descriptor)
    finally:
        os.close(descriptor)
    if ended:
        _reap(process)
    return not ended


def beating(process: Process) -> int | None:
    """Processor time in nanoseconds of that very process, if it certainly runs; else ask `alive`.

    One look into /proc, for those who ask all the time.
    """
    stat = _read_stat(process.pid)
    if stat is None or stat.state in (b"Z", b"X") or not _is_that(process, stat):
        return None
    return _nanoseconds(stat)


def kill(process: Process, number: signal.Signals = signal.SIGKILL) -> bool:
    """Send a signal to that very process. False when it has ended already."""
    descriptor = open_pidfd(process)
    if descriptor is None:
        return False
    try:
        if _has_ended(descriptor):
            _reap(process)
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


async def wait_gone(process: Process, timeout: float | None = None) -> bool:
    """Wait for the process to end; False when it still runs after `timeout` seconds."""
    descriptor = open_pidfd(process)
    if descriptor is None:
        return True
    try:
        async with asyncio.timeout(timeout):
            await _readable(descriptor)
    except TimeoutError:
        return False
    finally:
        os.close(descriptor)
    _reap(process)
    return True


def ends(process: Process, timeout: float) -> bool:
    """`wait_gone` for those who cannot await; only for a process that is about to end."""
    descriptor = open_pidfd(process)
    if descriptor is None:
        return True
    try:
        gone = bool(select.select([descriptor], [], [], timeout)[0])
    finally:
        os.close(descriptor)
    if gone:
        _reap(process)
    return gone


def naming(text: str) -> list[Spawned]:
    """The living processes that have `text` in their command lines."""
    found: list[Spawned] = []
    marker = text.encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                command = file.read()
            if marker in command and (one := identify(int(entry))) is not None:
                found.append(one)
    return found


def cpu_time_ns(process: Process) -> int | None:
    """Processor time used, user and system, in nanoseconds. None when it has ended."""
    stat = _stat_of(process)
    return None if stat is None else _nanoseconds(stat)


def cpu_times_ns(process: Process) -> tuple[int, int] | None:
    """The same, user and system apart."""
    stat = _stat_of(process)
    if stat is None:
        return None
    tick = 1_000_000_000 // _ticks()
    return stat.utime * tick, stat.stime * tick


def _nanoseconds(stat: _Stat) -> int:
    return (stat.utime + stat.stime) * (1_000_000_000 // _ticks())


@cache
def _ticks() -> int:
    return os.sysconf("SC_CLK_TCK")


def rss_kib(process: Process) -> int | None:
    """Resident memory in KiB. None when it has ended."""
    stat = _stat_of(process)
    return None if stat is None else stat.rss_pages * os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True)
class Thread:
    """A thread of a process: its processor time, where it was last, where it may be."""

    cpu_time_ns: int
    cpu: int
    affinity: frozenset[int]


def thread_time_ns(pid: int, tid: int) -> int | None:
    """Processor time of a thread. None when it has ended."""
    stat = _read_stat(f"{pid}/task/{tid}")
    return None if stat is None else _nanoseconds(stat)


def thread(pid: int, tid: int) -> Thread | None:
    """None when it has ended."""
    stat = _read_stat(f"{pid}/task/{tid}")
    if stat is None:
        return None
    try:
        affinity = frozenset(os.sched_getaffinity(tid))
    except ProcessLookupError:
        return None
    return Thread(_nanoseconds(stat), stat.cpu, affinity)


@dataclass(frozen=True)
class Waits:
    """How long a thread has waited, in nanoseconds."""

    wait_ns: int
    """Between wish and turn, as the scheduler's statistics have it; 0 where the kernel keeps none."""
    delay_ns: int
    """Ready to run, in a queue."""


def waits(pid: int, tid: int) -> Waits:
    """Of a thread; zeros when it has ended, or where the kernel does not tell."""
    wait = 0
    for line in _read_text(f"/proc/{pid}/task/{tid}/sched").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("wait_sum", "se.statistics.wait_sum"):
            wait = int(float(value) * 1_000_000)
    fields = _read_text(f"/proc/{pid}/task/{tid}/schedstat").split()
    return Waits(wait, int(fields[1]) if len(fields) > 1 else 0)


def _read_text(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(16384).decode("ascii", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def read_log_tail(path: str, limit: int = _LOG_TAIL_BYTES, start: int = 0) -> str:
    """The last `limit` bytes of a log as text, none from before `start`; empty when there is none."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - limit))
            return file.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


async def await_monitor(
    process: Process, path: str, log_path: str, *, log_start: int = 0, timeout: float = 30.0
) -> Monitor:
    """Connect to the monitor of a QEMU that is starting.

    Raises NeverMet in libvirt's words with the end of the log, from `log_start` on, when QEMU ends first.
    """
    descriptor = open_pidfd(process)
    if descriptor is None:
        raise _exited(log_path, log_start)
    connecting = asyncio.create_task(_meet(path, timeout))
    death = asyncio.create_task(_readable(descriptor))
    try:
        await asyncio.wait({connecting, death}, return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            _reap(process)
            raise _exited(log_path, log_start)
        return await connecting
    except BaseException:
        connecting.cancel()
        [outcome] = await asyncio.gather(connecting, return_exceptions=True)
        if isinstance(outcome, Monitor):
            await outcome.close()
        raise
    finally:
        death.cancel()
        await asyncio.wait({death})
        os.close(descriptor)


async def _meet(path: str, timeout: float) -> Monitor:
    """Connect to a QEMU that is starting.

    While QEMU starts, it hands its listening socket from one thread to another (QEMU 10.0: a monitor's socket
    to the monitors' own thread). If a caller already waits, both may go to the door: he is greeted twice, is
    forgotten, or is hung up on. So the first call only hears the greeting, and the second one, to a QEMU
    that has settled, is the conversation. Raises what `Monitor.connect` does.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            while not await _greeted(path):  # noqa: ASYNC110  (nobody tells when it is worth another try)
                await asyncio.sleep(_RETRY_SECONDS)
    while True:
        try:
            return await Monitor.connect(path, timeout=max(deadline - loop.time(), _RETRY_SECONDS))
        except MonitorLost:
            if loop.time() >= deadline:
                raise
        await asyncio.sleep(_RETRY_SECONDS)


async def _greeted(path: str) -> bool:
    """Whether somebody at the socket says a line."""
    said = b""
    try:
        with await connect_socket(path) as sock:
            while not said.endswith(b"\n"):
                more = await asyncio.get_running_loop().sock_recv(sock, 4096)
                if not more:
                    return False
                said += more
    except OSError:
        return False
    return True


class NeverMet(Failed):
    """A QEMU has ended before it answered; the text is what it said."""


def _exited(log_path: str, log_start: int) -> NeverMet:
    return NeverMet(
        f"process exited while connecting to monitor: {read_log_tail(log_path, start=log_start)}",
        code=ErrorCode.INTERNAL_ERROR,
    )


def _read_stat(task: int | str) -> _Stat | None:
    """Of a process, or of 'PID/task/TID'."""
    try:
        descriptor = os.open(f"/proc/{task}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in brackets and may hold blanks and brackets itself: count from the last one.
    fields = text[text.rindex(b")") + 2 :].split()
    return _Stat(
        state=fields[0],
        utime=int(fields[11]),
        stime=int(fields[12]),
        start_ticks=int(fields[19]),
        rss_pages=int(fields[21]),
        cpu=int(fields[36]),
    )


def _stat_of(process: Process) -> _Stat | None:
    """The process's numbers, or None when it has ended."""
    stat = _read_stat(process.pid)
    return stat if stat is not None and alive(process) else None


def _is_that(process: Process, stat: _Stat | None) -> bool:
    return (
        stat is not None and stat.start_ticks == process.start_ticks and process.boot_id == current_boot_id()
    )


def open_pidfd(process: Process) -> int | None:
    """A descriptor for that very process; None when there is no such process, not even its zombie."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # Only now that the descriptor holds the process is it safe to ask who it is.
    if not _is_that(process, _read_stat(process.pid)):
        os.close(descriptor)
        return None
    return descriptor


def _has_ended(descriptor: int) -> bool:
    """Whether a process has ended with all of its threads (pidfd_open(2): the descriptor is readable)."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _reap(process: Process) -> None:
    """Let a dead child of ours go; nothing for any other process."""
    if _is_that(process, _read_stat(process.pid)):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)


async def _readable(descriptor: int) -> None:
    """Return when a pidfd says that its process has ended."""
    if _has_ended(descriptor):
        return
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def ended() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, ended)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def identify(pid: int) -> Spawned | None:
    """The living process that has this pid now; None when there is none."""
    stat = _read_stat(pid)
    if stat is None:
        return None
    found = Spawned(pid, stat.start_ticks, current_boot_id())
    return found if alive(found) else None
