"""A saved guest with QEMU's guest agent, a journaled file system on its second disk, and a busy writer there.

`Machine.resume` takes it like any other seed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lab import guest
from lab.domain import domain_xml
from tests.guest.lines import Lines
from tests.guest.machine import MEMORY_MIB, NAME, SEED, SPARE_PORT, Machine, Seed
from tests.service.local_domain import DISK_MIB, create_disk, kill_all, processes_naming, written
from virtsnap.formats.guest_agent import agent_channel
from virtsnap.model.errors import AgentRefused
from virtsnap.model.flags import DomainXml, SnapshotCreate
from virtsnap.qemu import agent
from virtsnap.service.local import open_local

QUIESCE = SnapshotCreate.DISK_ONLY | SnapshotCreate.QUIESCE
CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
_PATH = os.environ.get("PATH", "") + ":/sbin:/usr/sbin"


async def agent_seed(base: Path) -> Seed:
    """The saved guest, made by the first that wants it."""
    if not all(shutil.which(program, path=_PATH) for program in ("mke2fs", "e2fsck")):
        pytest.skip("no mke2fs or no e2fsck here (package e2fsprogs)")
    folder = base / "agent-seed"
    with (base / "agent-seed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            try:
                await _make(folder)
            finally:
                kill_all(processes_naming(folder))
            (folder / "done").touch()
    return Seed.read(folder)


async def _make(folder: Path) -> None:
    folder.mkdir()
    disks = [create_disk(folder / "vda.qcow2"), _journaled_disk(folder / "vdb.qcow2")]
    service, lines = await open_local(folder / "root"), Lines()
    image = guest.build(agent=True)
    xml = domain_xml(
        NAME, image, disks, memory_mib=MEMORY_MIB, serial=lines.path, devices=SPARE_PORT + CHANNEL
    )
    handle = await service.define_xml(xml.replace("mode='bind'", "mode='connect'"))
    machine = Machine(folder, service, handle.uuid, lines=lines)

    def keep(name: str, text: str) -> None:
        text = text.replace(str(folder), "@FOLDER@").replace(str(lines.path), "@LINE@")
        (folder / name).write_text(text)

    try:
        keep("domain.xml", await service.domain_xml(handle.uuid, DomainXml.INACTIVE))
        await service.create(handle.uuid)
        await machine.console()
        with pytest.raises(AgentRefused, match="QEMU guest agent is not connected"):
            await quiesced(machine, "too-early")
        await machine.guest("journal mount vdb && journal write vdb && qga start")
        await agent_answers(machine)
        await machine.full(SEED)
        keep("snapshot.xml", await service.snapshot_xml(handle.uuid, SEED))
    finally:
        await machine.end()
    shutil.rmtree(folder / "root")
    for target in ("vda", "vdb"):
        (folder / f"{target}.{SEED}").unlink()


def _journaled_disk(path: Path) -> Path:
    raw = path.with_suffix(".raw")
    raw.touch()
    os.truncate(raw, DISK_MIB << 20)
    _run("mke2fs", "-q", "-t", "ext4", raw)
    _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path)
    raw.unlink()
    return path


def _run(program: str, *words: str | Path, statuses: tuple[int, ...] = (0,)) -> str:
    found = shutil.which(program, path=_PATH)
    assert found is not None, f"{program} is not here"
    done = subprocess.run([found, *words], capture_output=True, text=True, check=False)
    assert done.returncode in statuses, done.stdout + done.stderr
    return done.stdout


# --- the guest -------------------------------------------------------------------------------------------


async def quiesced(machine: Machine, name: str, disks: str = "", flags: int = 0) -> None:
    """Take a disk-only snapshot with --quiesce."""
    xml = f"<domainsnapshot><name>{name}</name><disks>{disks}</disks></domainsnapshot>"
    await machine.service.snapshot_create_xml(machine.uuid, xml, QUIESCE | flags)


def agent_socket(machine: Machine) -> str:
    """Where the agent of the guest that runs now is asked."""
    record = machine.service.store.domain(machine.uuid)
    assert record is not None
    assert record.live_xml is not None
    channel = agent_channel(record.live_xml)
    assert channel is not None
    assert channel.socket is not None
    return channel.socket


async def agent_answers(machine: Machine) -> None:
    """Return when the agent has opened its channel: before, QEMU throws away what is said to it."""
    async with await agent.Agent.connect(agent_socket(machine)) as conversation:
        while True:
            try:
                return await conversation.sync(0.5)
            except agent.AgentUnresponsive:
                continue


async def moves_on(machine: Machine) -> None:
    """Return when the writer is past what it had done, and what it may have begun."""
    due = int(await machine.guest("journal count")) + 2
    await machine.guest(f"until [ $(journal count) -ge {due} ]; do usleep 10000; done")


async def stands_still(machine: Machine) -> bool:
    """Whether the writer gets no further, in the time that it takes for dozens of files."""
    # What it was about to note when the file systems froze, it notes now.
    await machine.guest("usleep 200000")
    before = await machine.guest("journal count")
    await machine.guest("usleep 800000")
    return await machine.guest("journal count") == before


# --- the file system -------------------------------------------------------------------------------------


def below(image: str | Path) -> Path:
    """The image that another one stands on."""
    told = json.loads(_run("qemu-img", "info", "-U", "--output=json", str(image)))
    return Path(told["full-backing-filename"])


def needs_recovery(image: str | Path) -> bool:
    """Whether the journal would have to be played back at the next mount (ext4's INCOMPAT_RECOVER)."""
    block = written(image, 4096)
    assert block[1024 + 0x38 : 1024 + 0x3A] == b"\x53\xef", "there is no ext file system"
    return bool(block[1024 + 0x60] & 4)


def faults(image: str | Path, folder: Path) -> str:
    """What e2fsck finds wrong with the file system in an image, which it leaves as it is."""
    raw = folder / "checked.raw"
    _run("qemu-img", "convert", "-U", "-O", "raw", str(image), raw)
    said = _run("e2fsck", "-f", "-n", raw, statuses=(0, 4))
    raw.unlink()
    return "" if "WARNING" not in said and "Fix? no" not in said else said
