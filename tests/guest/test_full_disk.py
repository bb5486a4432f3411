"""No space left, in the middle: the guest runs on, the files are as before, the error says why."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.machine import Machine
from tests.service.whole import assert_whole
from virtsnap.model.domain import DomainState

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system"),
]

FULL = "No space left on device"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB: less than the guest's memory, more than what would be refused at once."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24M", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield folder
    # What is still open there is ended by the fixture that made the machine, perhaps after this one.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("more", [(), ("--live",)], ids=["paused", "live"])
async def test_memory_image(machine: Machine, small: Path, more: tuple[str, ...]) -> None:
    before = machine.instance, machine.files(), await machine.sources(), await machine.names()
    memory = small / "one.mem"
    said = await machine.cli_fails("snapshot-create-as", "guest", "one", "--memspec", str(memory), *more)
    assert FULL in said
    assert list(small.iterdir()) == []
    assert await machine.cli_ok("domstate", "guest") == "running\n\n"
    assert (machine.instance, machine.files(), await machine.sources(), await machine.names()) == before
    await assert_whole(machine)
    assert await machine.marks() == ["seed"] * 3
    await machine.full("two", 0)
    assert await machine.marks() == ["seed"] * 3


async def test_overlay(machine: Machine, small: Path) -> None:
    """The guest writes more than there is room for: QEMU pauses it, and it goes on when there is room."""
    disks = [word for disk in ("vda", "vdb") for word in ("--diskspec", f"{disk},file={small}/{disk}")]
    await machine.cli_ok("snapshot-create-as", "guest", "one", "--disk-only", *disks)
    (small / "filler").write_bytes(bytes(20 << 20))
    console = await machine.console()
    async with machine.events("STOP") as listener:
        await console.send("disk fill vda 8 8; echo written >/dev/ttyS0")
        await listener.get()
    assert await machine.cli_ok("domstate", "guest", "--reason") == "paused (I/O error)\n\n"
    (small / "filler").unlink()
    await machine.cli_ok("resume", "guest")
    await console.seen("written")
    assert await machine.state() is DomainState.RUNNING
    assert await machine.marks() == ["seed"] * 3
    # What is large is on the small file system, where the rest finds no room: it is merged the other way.
    await machine.cli_ok("snapshot-delete", "guest", "one")
    assert list(small.iterdir()) == []
    await assert_whole(machine)
    assert await machine.marks() == ["seed"] * 3
