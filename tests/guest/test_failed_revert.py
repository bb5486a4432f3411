"""A revert that fails leaves the guest running with all that it has, and the files as they were."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.guest.conftest import Resume
from tests.guest.machine import Machine, with_tcp_port
from tests.service.whole import assert_whole
from virtsnap.formats.save_image import MAGIC, PARTIAL_MAGIC
from virtsnap.model.domain import DomainState

pytestmark = pytest.mark.guest

HEADER_ROOM = 1 << 20
"""The stream begins below this offset; QEMU's device state is at the end of the file."""


def _cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


_NOT_READ = "job 'snapshot' failed: |QEMU unexpectedly closed the monitor"
"""Of an image that breaks off or makes no sense; the latter before QEMU 9.1, which ends of it."""


def _damage(path: Path) -> None:
    """Every byte behind libvirt's header, up to the first pages, is another one."""
    data = path.read_bytes()
    start = data.index(b"QEVM")
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(byte ^ 0xFF for byte in data[start : start + 4096]))


def _incomplete(path: Path) -> None:
    with path.open("r+b") as file:
        assert file.read(len(MAGIC)) == MAGIC
        file.seek(0)
        file.write(PARTIAL_MAGIC)


def _other(path: Path) -> None:
    path.write_bytes(b"no memory image" * 100)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_cut, _NOT_READ),
        (_damage, _NOT_READ),
        (_incomplete, "save image is incomplete"),
        (_other, "image magic is incorrect"),
        (Path.unlink, "No such file or directory"),
    ],
)
async def test_memory_image(machine: Machine, harm: object, words: str) -> None:
    assert callable(harm)
    await machine.mark("one")
    await machine.full("one")
    await machine.mark("now")
    memory = machine.folder / "one.mem"
    kept = memory.with_name("kept")
    kept.write_bytes(memory.read_bytes())
    harm(memory)
    before = machine.instance, machine.files(), await machine.sources()
    assert re.search(words, await machine.cli_fails("snapshot-revert", "guest", "one"))
    assert (machine.instance, machine.files(), await machine.sources()) == before
    assert await machine.marks() == ["now"] * 3
    kept.replace(memory)
    await assert_whole(machine)
    await machine.cli_ok("snapshot-revert", "guest", "one")
    assert await machine.marks() == ["one"] * 3


async def test_emulator_and_disk(machine: Machine) -> None:
    """What the snapshot's definition names is gone."""
    await machine.full("one")
    await machine.mark("now")
    xml = await machine.service.snapshot_xml(machine.uuid, "one")
    start, end = xml.index("<emulator>") + len("<emulator>"), xml.index("</emulator>")
    document, emulator = machine.folder / "root" / "snapshot.xml", machine.folder / "root" / "qemu"
    emulator.symlink_to(xml[start:end])
    document.write_text(xml.replace(xml[start:end], str(emulator)))
    await machine.cli_ok("snapshot-create", "guest", str(document), "--redefine")
    emulator.unlink()
    before = machine.instance, machine.files(), await machine.sources()
    words = f"Cannot check QEMU binary {emulator}: No such file or directory"
    assert words in await machine.cli_fails("snapshot-revert", "guest", "one")
    disk, kept = machine.folder / "vdb.qcow2", machine.folder / "root" / "kept"
    disk.rename(kept)
    words = f"'{disk}': No such file or directory"
    assert words in await machine.cli_fails("snapshot-revert", "guest", "seed")
    kept.rename(disk)
    assert (machine.instance, machine.files(), await machine.sources()) == before
    assert await machine.marks() == ["now"] * 3
    await assert_whole(machine)


async def test_with_a_port_that_only_one_can_hold(resume: Resume, free_port: int) -> None:
    """The old QEMU must end first. Even then nothing is lost but the state that was to be left."""
    machine = await resume(edit=with_tcp_port(free_port))
    await machine.mark("one")
    await machine.full("one")
    await machine.mark("now")
    assert f"TCP port {free_port}" in await machine.cli_ok("snapshot-revert", "guest", "one", "--dry-run")
    old = machine.instance
    await machine.cli_ok("snapshot-revert", "guest", "one")
    assert machine.instance != old
    assert await machine.marks() == ["one"] * 3
    with socket.create_connection(("127.0.0.1", free_port), timeout=5):
        pass
    memory, kept = machine.folder / "one.mem", machine.folder / "root" / "kept"
    kept.write_bytes(memory.read_bytes())
    _cut(memory)
    said = await machine.cli_fails("snapshot-revert", "guest", "one")
    assert re.search(_NOT_READ, said)
    kept.replace(memory)
    assert await machine.state() is DomainState.SHUTOFF
    await assert_whole(machine)
    await machine.cli_ok("snapshot-revert", "guest", "one")
    assert await machine.marks() == ["one"] * 3
