"""What becomes of a guest, by its own wish or somebody else's, and what `domstate --reason` says of it."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import tty

import pytest

from lab.console import GuestConsole
from tests.guest.conftest import Resume
from tests.guest.machine import Machine
from tests.service.local_domain import PROGRAM
from tests.service.whole import assert_whole
from virtsnap.model.domain import DomainState, Reason
from virtsnap.qemu import process

pytestmark = pytest.mark.guest


async def _reason(machine: Machine) -> str:
    return (await machine.cli_ok("domstate", "guest", "--reason")).strip()


async def test_powers_off_by_itself(machine: Machine) -> None:
    instance = machine.instance
    await (await machine.console()).send("poweroff -f")
    assert await process.wait_gone(instance, 30)
    assert await _reason(machine) == "shut off (shutdown)"
    await assert_whole(machine)


async def test_shutdown_presses_the_power_button(machine: Machine) -> None:
    instance = machine.instance
    await machine.mark("kept")
    assert "is being shutdown" in await machine.cli_ok("shutdown", "guest")
    assert await process.wait_gone(instance, 30)
    assert await _reason(machine) == "shut off (shutdown)"
    assert await machine.disk_marks() == ["kept", "kept"]


async def test_destroyed_and_killed(machine: Machine) -> None:
    await machine.cli_ok("destroy", "guest")
    assert await _reason(machine) == "shut off (destroyed)"
    await assert_whole(machine)
    await machine.cli_ok("snapshot-revert", "guest", "seed")
    assert await _reason(machine) == "running (from snapshot)"
    instance = machine.instance
    process.kill(instance, signal.SIGKILL)
    assert await process.wait_gone(instance, 30)
    assert await _reason(machine) == "shut off (crashed)"
    await assert_whole(machine)


async def test_suspend_and_resume(machine: Machine) -> None:
    await machine.cli_ok("suspend", "guest")
    assert await _reason(machine) == "paused (user)"
    await machine.full("paused")
    assert await _reason(machine) == "paused (user)"
    await machine.cli_ok("resume", "guest")
    assert await _reason(machine) == "running (unpaused)"
    assert await machine.marks() == ["seed"] * 3
    await machine.mark("later")
    await machine.cli_ok("snapshot-revert", "guest", "paused")
    assert await _reason(machine) == "paused (from snapshot)"
    await machine.cli_ok("snapshot-revert", "guest", "paused", "--running")
    assert await _reason(machine) == "running (from snapshot)"
    assert await machine.marks() == ["seed"] * 3


@pytest.mark.parametrize("command", ["reboot", "reset"])
async def test_boots_again_in_the_same_process(machine: Machine, command: str) -> None:
    await machine.guest("touch /run/lost")
    before = machine.instance
    console = await machine.lines.of_process(before.pid)
    await machine.cli_ok(command, "guest")
    await console.seen("@ready", 60)
    assert machine.instance == before
    assert (await (await machine.console()).run("test -e /run/lost")).rc == 1
    assert await machine.disk_marks() == ["seed", "seed"]
    assert await machine.state() is DomainState.RUNNING


async def test_screenshot(resume: Resume) -> None:
    """No guest is asked: the machine with a screen is started anew, paused."""
    machine = await resume()
    xml = await machine.service.domain_xml(machine.uuid)
    await machine.service.destroy(machine.uuid)
    video = "<graphics type='vnc' autoport='yes'/><video><model type='vga'/></video>"
    document = machine.folder / "root" / "with-screen.xml"
    document.write_text(xml.replace("<memballoon", f"{video}<memballoon"))
    await machine.cli_ok("define", str(document))
    await machine.cli_ok("start", "guest", "--paused")
    picture = machine.folder / "root" / "picture.png"
    await machine.cli_ok("screenshot", "guest", str(picture))
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    assert width >= 640
    assert height >= 400
    assert data.endswith(b"IEND\xaeB`\x82")


def _with_pty(text: str) -> str:
    start, end = text.index("<serial type='unix'>"), text.index("</serial>")
    return f"{text[:start]}<serial type='pty'><target port='0'/>{text[end:]}"


async def test_console(resume: Resume) -> None:
    """`virtsnap console` on a terminal: what is typed reaches the guest, and its answer comes back."""
    machine = await resume(edit=_with_pty)
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    program = await asyncio.create_subprocess_exec(
        *(PROGRAM, "-c", machine.uri, "console", "guest"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    terminal = GuestConsole(ours)
    try:
        await terminal.seen("Connected to domain 'guest'")
        await terminal.wait_ready()
        assert await terminal.check("mem get") == "seed"
        await terminal.write(b"\x1d")  # ^]
        assert await asyncio.wait_for(program.wait(), 30) == 0
    finally:
        terminal.close()
        if program.returncode is None:
            program.kill()
            await program.wait()
    assert await machine.service.domain_state(machine.uuid) == (
        DomainState.RUNNING,
        Reason.RUNNING_FROM_SNAPSHOT,
    )
