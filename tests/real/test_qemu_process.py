"""`qemu.process` against real processes: QEMU itself and small ones whose death is easy to arrange."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from virtsnap.model.errors import ErrorCode, Failed
from virtsnap.qemu import process
from virtsnap.qemu.monitor import Monitor

pytestmark = pytest.mark.real

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]


def test_listen_makes_a_private_socket_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    old = os.umask(0)
    try:
        with process.listen(str(path)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_listen_refuses_a_path_that_exists(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    path.write_text("mine")
    with pytest.raises(Failed, match=r"Failed to bind socket to .*Address already in use"):
        process.listen(str(path))
    assert path.read_text() == "mine"


async def test_spawned_process_is_detached_logged_and_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    inherited, other = os.pipe()
    script = (
        "import os, signal\n"
        "fds = {n for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')}\n"
        "print(os.getsid(0) == os.getpid(), fds == {'0', '1', '2', os.environ['FD']}, os.getcwd(),"
        " os.environ.get('MARK'), os.read(0, 1), flush=True)\n"
        "os.write(int(os.environ['FD']), b'x')\n"
        "signal.pause()"
    )
    spawned = process.spawn(
        [sys.executable, "-c", script],
        pass_fds=[other],
        log_path=str(log),
        cwd=str(tmp_path),
        env={"MARK": "here", "FD": str(other)},
    )
    try:
        os.close(other)
        assert os.read(inherited, 1) == b"x"
        assert log.read_text().strip() == f"True True {tmp_path} here b''"
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        assert process.alive(spawned)
        assert not await process.wait_gone(spawned, 0.01)
        assert process.cpu_time_ns(spawned) is not None
        assert (process.rss_kib(spawned) or 0) > 1000
    finally:
        os.close(inherited)
        assert process.kill(spawned)
    assert await process.wait_gone(spawned, 10)
    assert not process.alive(spawned)
    assert not process.kill(spawned)
    assert process.cpu_time_ns(spawned) is None
    assert process.rss_kib(spawned) is None
    assert await process.wait_gone(spawned, 10)
    # Nothing of it is left, not even a zombie.
    assert not Path(f"/proc/{spawned.pid}").exists()


async def test_zombie_of_another_parent_is_dead(tmp_path: Path) -> None:
    script = (
        "import os\npid = os.fork()\nif pid == 0: os._exit(0)\n"
        "os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\nprint(pid, flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
        zombie = process.Spawned(pid, ticks, process.current_boot_id())
        assert not process.alive(zombie)
        assert not process.kill(zombie)
        assert await process.wait_gone(zombie, 1)
        parent.communicate("\n")


async def test_process_without_its_main_thread_is_alive(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = (
        "import ctypes, os, sys, threading, time\n"
        "def work():\n"
        "    while open('/proc/self/stat').read().rsplit(')', 1)[1].split()[0] != 'Z': time.sleep(0.001)\n"
        "    os.write(int(sys.argv[1]), b'alone\\n')\n"
        "    time.sleep(600)\n"
        "threading.Thread(target=work).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    reading, writing = os.pipe()
    spawned = process.spawn(
        [sys.executable, "-c", script, str(writing)], pass_fds=[writing], log_path=str(log)
    )
    try:
        os.close(writing)
        assert os.read(reading, 6) == b"alone\n", log.read_text()
        assert process.alive(spawned)
        assert process.identify(spawned.pid) == spawned
        assert not await process.wait_gone(spawned, 0.01)
    finally:
        assert process.kill(spawned)
        assert await process.wait_gone(spawned, 10)
        os.close(reading)
    assert not process.alive(spawned)
    assert process.identify(spawned.pid) is None


def test_same_pid_with_another_start_or_boot_is_not_it(tmp_path: Path) -> None:
    me = os.getpid()
    ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    boot = process.current_boot_id()
    assert process.alive(process.Spawned(me, ticks, boot))
    for other in (process.Spawned(me, ticks + 1, boot), process.Spawned(me, ticks, "another boot")):
        assert not process.alive(other)
        assert not process.kill(other, signal.SIGTERM)


def test_missing_program_is_told_in_libvirts_words(tmp_path: Path) -> None:
    with pytest.raises(Failed) as caught:
        process.spawn([f"{tmp_path}/qemu-none"], log_path=str(tmp_path / "log"))
    assert str(caught.value) == f"Cannot check QEMU binary {tmp_path}/qemu-none: No such file or directory"
    assert caught.value.code is ErrorCode.SYSTEM_ERROR


def test_log_tail_is_the_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert process.read_log_tail(str(log)) == ""
    log.write_bytes(b"x" * 5000 + b"\nthe end\xff\n")
    assert process.read_log_tail(str(log), 20).endswith("the end�")


async def test_monitor_of_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120) / ("e" * 120)
    folder.mkdir(parents=True)
    path, log = str(folder / "qmp.sock"), str(folder / "log")
    with process.listen(path) as sock:
        spawned = process.spawn(
            [
                *("qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-m", "64", "-nodefaults"),
                *(
                    "-display",
                    "none",
                    "-S",
                    "-chardev",
                    f"socket,id=mon,fd={sock.fileno()},server=on,wait=off",
                ),
                *("-mon", "chardev=mon,mode=control"),
            ],
            pass_fds=[sock.fileno()],
            log_path=log,
        )
    try:
        async with await process.await_monitor(spawned, path, log) as monitor:
            assert (await monitor.execute("query-status"))["status"] == "prelaunch"
        # The socket is free again for the next client.
        async with await Monitor.connect(path) as monitor:
            await monitor.execute("quit")
        assert await process.wait_gone(spawned, 10)
    finally:
        process.kill(spawned)


async def test_death_before_the_monitor_answers_tells_the_log(tmp_path: Path) -> None:
    path, log = str(tmp_path / "qmp.sock"), str(tmp_path / "log")
    with process.listen(path) as sock:
        spawned = process.spawn(
            ["qemu-system-x86_64", "-accel", "tcg", "-M", "no-such-machine"],
            pass_fds=[sock.fileno()],
            log_path=log,
        )
        with pytest.raises(Failed, match=r"no-such-machine|unsupported machine type") as caught:
            await process.await_monitor(spawned, path, log)
    assert str(caught.value).startswith("internal error: process exited while connecting to monitor: ")
    # And once more for a process that is dead before we look.
    assert await process.wait_gone(spawned, 10)
    with pytest.raises(Failed, match="process exited while connecting to monitor: "):
        await process.await_monitor(spawned, path, log)
