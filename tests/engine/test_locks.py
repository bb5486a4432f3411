"""One process at a time: the lock of a domain, between tasks, threads of life and death, and processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from virtsnap.engine.locks import DomainLock, LockTimeout, holder

UUID = "8d8d9b3e-6f2c-4a3f-9d55-0a9d5e0a7c11"
HOLDER = """
import sys, time
from pathlib import Path
from virtsnap.engine.locks import DomainLock
lock = DomainLock(Path(sys.argv[1]), sys.argv[2])
assert lock.try_acquire()
print("held", flush=True)
sys.stdin.read()
"""


def other_process(root: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root), UUID],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


def test_taken_and_let_go(tmp_path: Path) -> None:
    first, second = DomainLock(tmp_path, UUID), DomainLock(tmp_path, UUID)
    assert not first.held
    assert first.try_acquire()
    assert first.held
    assert not second.try_acquire()
    assert not second.held
    first.release()
    assert not first.held
    assert second.try_acquire()
    second.release()


def test_letting_go_twice_is_quiet(tmp_path: Path) -> None:
    lock = DomainLock(tmp_path, UUID)
    lock.release()
    assert lock.try_acquire()
    lock.release()
    lock.release()


def test_two_domains_do_not_meet(tmp_path: Path) -> None:
    first, second = DomainLock(tmp_path, UUID), DomainLock(tmp_path, UUID.replace("8", "9"))
    assert first.try_acquire()
    assert second.try_acquire()
    first.release()
    second.release()


def test_the_file_says_who_and_is_nobody_elses(tmp_path: Path) -> None:
    lock, other = DomainLock(tmp_path, UUID), DomainLock(tmp_path, UUID)
    assert other.holder() == "another process"
    assert lock.try_acquire()
    assert other.holder() == holder()
    assert holder().startswith(f"pid {os.getpid()}: ")
    file = tmp_path / "lock" / f"{UUID}.lock"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    lock.release()
    assert other.holder() == "another process"


def test_a_long_command_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/virtsnap", "x" * 1000])
    assert holder() == f"pid {os.getpid()}: virtsnap " + "x" * (200 - len("virtsnap "))
    monkeypatch.setattr(sys, "argv", [""])
    assert holder() == f"pid {os.getpid()}: python"


async def test_held_in_the_block_and_not_after(tmp_path: Path) -> None:
    lock = DomainLock(tmp_path, UUID)
    async with lock.acquired():
        assert lock.held
    assert not lock.held
    with pytest.raises(ZeroDivisionError):
        async with lock.acquired():
            raise ZeroDivisionError
    assert not lock.held


async def test_the_second_waits_for_the_first(tmp_path: Path) -> None:
    order: list[str] = []
    inside, leave = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with DomainLock(tmp_path, UUID).acquired():
            inside.set()
            await leave.wait()
            order.append("first")

    async def second() -> None:
        async with DomainLock(tmp_path, UUID).acquired():
            order.append("second")

    one = asyncio.create_task(first())
    await inside.wait()
    two = asyncio.create_task(second())
    leave.set()
    await asyncio.gather(one, two)
    assert order == ["first", "second"]


async def test_a_wait_has_an_end_and_says_for_whom(tmp_path: Path) -> None:
    process = other_process(tmp_path)
    try:
        with pytest.raises(LockTimeout) as caught:
            async with DomainLock(tmp_path, UUID).acquired(timeout=0.05):
                raise AssertionError("not held")
        assert str(caught.value) == (
            "Timed out during operation: cannot acquire state change lock "
            f"(held by pid {process.pid}: -c {tmp_path} {UUID})"
        )
        assert caught.value.code.number == 68
    finally:
        end(process)


async def test_a_cancelled_wait_holds_nothing(tmp_path: Path) -> None:
    first, second = DomainLock(tmp_path, UUID), DomainLock(tmp_path, UUID)
    async with first.acquired():
        task = asyncio.create_task(second.acquired().__aenter__())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not second.held
    assert second.try_acquire()
    second.release()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_death_lets_go(tmp_path: Path, how: signal.Signals) -> None:
    process = other_process(tmp_path)
    lock = DomainLock(tmp_path, UUID)
    try:
        assert not lock.try_acquire()
        process.send_signal(how)
        async with lock.acquired(timeout=30):
            assert lock.holder() == holder()
    finally:
        end(process)


def test_a_child_does_not_inherit_it(tmp_path: Path) -> None:
    """QEMU outlives us; a lock that it inherited would never be free again."""
    lock = DomainLock(tmp_path, UUID)
    assert lock.try_acquire()
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        lock.release()
        other = DomainLock(tmp_path, UUID)
        assert other.try_acquire()
        other.release()
    finally:
        with child:
            child.kill()
