"""The console against the guest's own agent, run by the host's busybox on a pty: no guest needed."""

from __future__ import annotations

import asyncio
import os
import pty
import shutil
import socket
import tty
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lab.console import CommandFailed, ConsoleClosed, ConsoleError, ConsoleTimeout, GuestConsole, SyncConsole
from lab.guest import ROOTFS

AGENT = ROOTFS / "lib" / "agent.sh"
SHELL = shutil.which("busybox")
needs_busybox = pytest.mark.skipif(SHELL is None, reason="busybox is not installed")


@pytest.fixture(name="agent")
async def _agent() -> AsyncIterator[int]:
    """An agent on a pty; our end of it. As with QEMU, the master is our side of the guest's serial port."""
    assert SHELL
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        SHELL, "sh", "-c", f". {AGENT}; agent {os.ttyname(slave)}", stdin=slave, stdout=slave
    )
    try:
        yield os.dup(master)
    finally:
        process.kill()
        await process.wait()
        os.close(master)
        os.close(slave)


@needs_busybox
async def test_status_output_and_quoting(agent: int) -> None:
    async with GuestConsole(agent) as console:
        await console.wait_ready()
        assert await console.check("printf 'a\\nb\\n\\n'") == "a\nb"
        result = await console.run("echo out; echo err >&2; exit 7")
        assert (result.rc, result.out) == (7, "out\nerr")
        assert await console.check("""echo "it's #1" '@x' """) == "it's #1 @x"
        assert (await console.run("read line")).rc == 1
        assert len(await console.check("yes 123456789 | head -n 20000")) == 199_999
        with pytest.raises(CommandFailed, match="no such"):
            await console.check("echo no such thing; false")


@needs_busybox
async def test_whatever_else_is_on_the_line_is_passed_over(agent: int) -> None:
    async with GuestConsole(agent) as console:
        await console.wait_ready()
        await console.write(b"@half a command without its end")
        assert await console.check("echo fine") == "fine"
        await console.write(b"garbage\n@x y #z\n@ #\n@q #q\n\n")
        assert await console.check("echo fine") == "fine"
        await console.send("echo late; echo answer")
        assert await console.check("echo mine") == "mine"


@needs_busybox
async def test_a_command_that_does_not_end(agent: int) -> None:
    async with GuestConsole(agent) as console:
        await console.wait_ready()
        with pytest.raises(ConsoleTimeout, match="sleep 1"):
            await console.run("sleep 1", timeout=0.2)


async def test_a_command_is_one_line(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        async with GuestConsole(ours.detach()) as console:
            for wrong in ("two\nlines", "x" * 5000):
                with pytest.raises(ValueError, match="one line"):
                    await console.run(wrong)


async def test_the_other_end_goes_away() -> None:
    ours, theirs = socket.socketpair()
    async with GuestConsole(ours.detach()) as console:
        theirs.sendall(b"last words")
        await console.seen("last words")
        waiting = asyncio.create_task(console.run("true"))
        closing = asyncio.create_task(console.wait_closed())
        await asyncio.sleep(0)
        theirs.close()
        with pytest.raises(ConsoleClosed):
            await waiting
        await closing
        with pytest.raises(ConsoleClosed):
            await console.run("true")


async def test_an_answer_with_kernel_text_inside_is_refused() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        async with GuestConsole(ours.detach()) as console:
            asked = asyncio.create_task(console.run("true"))
            theirs.setblocking(False)
            line = await asyncio.get_running_loop().sock_recv(theirs, 4096)
            token = line.strip().split()[0]
            theirs.sendall(b"\n%b rc=0 len=4\nab[ 1.0] oops\ncd\n%b end\n" % (token, token))
            with pytest.raises(ConsoleError, match="mixed with other text"):
                await asked


def test_without_an_event_loop_over_a_pty() -> None:
    """`SyncConsole` by address, against a guest of three lines."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        with SyncConsole(os.ttyname(slave)) as console:
            os.write(master, b"@ready 6\n")
            console.send("poweroff -f")
            assert b"poweroff -f" in os.read(master, 4096)
            with pytest.raises(ConsoleTimeout):
                console.run("true", timeout=0.05)
            with pytest.raises(ConsoleTimeout):
                console.wait_closed(timeout=0.05)
    finally:
        os.close(slave)
        os.close(master)


def test_nobody_there(tmp_path: Path) -> None:
    path = tmp_path / "console"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    with pytest.raises(ConnectionRefusedError):
        SyncConsole(path)
    with pytest.raises(FileNotFoundError):
        SyncConsole(tmp_path / "none")
