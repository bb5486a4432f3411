"""A lab guest under virtsnap, resumed from one saved state: what every test in this folder starts from.

`make_seed` boots the guest once and keeps a full system snapshot of it: memory image, disks and the two
documents. `Machine.resume` takes them over into a folder of its own (the memory image by a hard link) through
`snapshot-create --redefine`, and reverts: a running guest in a moment, and each test another proof that
records can be taken back.

The guest's serial port calls us (`tests.guest.lines`), since QEMU looks only once a second whether somebody
has opened a pseudo-terminal.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.console import GuestConsole
from lab.domain import domain_xml
from lab.guest import GuestImage
from tests.guest.lines import Lines
from virtsnap.model.domain import DomainState, Instance
from virtsnap.model.flags import DomainXml, SnapshotCreate
from virtsnap.service.local import LocalService, open_local

PROGRAM = Path(sys.executable).parent / "virtsnap"
NAME = "guest"
SEED = "seed"
DISKS = ("vda", "vdb")
DISK_MIB = 64
MEMORY_MIB = 128


def same(text: str) -> str:
    """Leave a document as it is."""
    return text


@dataclass(frozen=True)
class Seed:
    """Where the saved guest is, and its documents with @FOLDER@ and @LINE@ in the place of paths."""

    folder: Path
    domain_xml: str
    snapshot_xml: str

    @classmethod
    def read(cls, folder: Path) -> Seed:
        """One that `make_seed` has finished."""
        return cls(folder, (folder / "domain.xml").read_text(), (folder / "snapshot.xml").read_text())


async def make_seed(folder: Path, image: GuestImage) -> Seed:
    """Boot the guest, put the marker `seed` everywhere, and keep the state."""
    folder.mkdir()
    disks = [create_disk(folder / f"{target}.qcow2") for target in DISKS]
    service = await open_local(folder / "root")
    lines = Lines()

    def keep(name: str, text: str) -> None:
        text = text.replace(str(folder), "@FOLDER@").replace(str(lines.path), "@LINE@")
        (folder / name).write_text(text)

    xml = domain_xml(NAME, image, disks, memory_mib=MEMORY_MIB, serial=lines.path)
    assert "mode='bind'" in xml
    handle = await service.define_xml(xml.replace("mode='bind'", "mode='connect'"))
    machine = Machine(folder, service, handle.uuid, lines)
    try:
        keep("domain.xml", await service.domain_xml(handle.uuid, DomainXml.INACTIVE))
        await service.create(handle.uuid)
        await machine.mark(SEED)
        await machine.full(SEED)
        keep("snapshot.xml", await service.snapshot_xml(handle.uuid, SEED))
    finally:
        await machine.end()
    shutil.rmtree(folder / "root")
    for target in DISKS:
        (folder / f"{target}.{SEED}").unlink()
    return Seed.read(folder)


def create_disk(path: Path, size: str = f"{DISK_MIB}M", format: str = "qcow2") -> Path:
    """An empty image."""
    subprocess.run(["qemu-img", "create", "-q", "-f", format, str(path), size], check=True)
    return path


def written_mark(image: str | Path) -> str:
    """The marker in an image that no QEMU has open."""
    with tempfile.NamedTemporaryFile() as raw:
        command = ["qemu-img", "dd", "-O", "raw", "bs=4096", "count=1", f"if={image}", f"of={raw.name}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return Path(raw.name).read_bytes().split(b"\n", 1)[0].decode()


@dataclass(frozen=True)
class Result:
    """What a program ended with."""

    status: int
    out: str
    err: str


@dataclass
class Machine:
    """One domain in a folder of its own: `root` is virtsnap's, everything else there is the guest's files."""

    folder: Path
    service: LocalService
    uuid: str
    lines: Lines

    @classmethod
    async def resume(cls, folder: Path, seed: Seed, edit: Callable[[str], str] = same) -> Machine:
        """A running guest with the marker `seed`, of a domain whose one snapshot is `seed`.

        `edit` changes both documents before they are taken over.
        """
        machine = await cls.prepare(folder, seed, edit)
        try:
            await machine.service.snapshot_revert(machine.uuid, SEED)
        except BaseException:
            await machine.end()
            raise
        return machine

    @classmethod
    async def prepare(cls, folder: Path, seed: Seed, edit: Callable[[str], str] = same) -> Machine:
        """The same, shut off: defined, with the snapshot's record and files."""
        folder.mkdir(parents=True, exist_ok=True)
        os.link(seed.folder / f"{SEED}.mem", folder / f"{SEED}.mem")
        for target in DISKS:
            shutil.copy(seed.folder / f"{target}.qcow2", folder)
        service = await open_local(folder / "root")
        lines = Lines()

        def here(text: str) -> str:
            return edit(text.replace("@FOLDER@", str(folder)).replace("@LINE@", str(lines.path)))

        handle = await service.define_xml(here(seed.domain_xml))
        flags = SnapshotCreate.REDEFINE | SnapshotCreate.CURRENT
        await service.snapshot_create_xml(handle.uuid, here(seed.snapshot_xml), flags)
        return cls(folder, service, handle.uuid, lines)

    # --- the guest -------------------------------------------------------------------------------------

    async def console(self) -> GuestConsole:
        """The line to the agent in the guest that runs now, ready to answer."""
        console = await self.lines.of_process(self.instance().pid)
        await console.wait_ready()
        return console

    def instance(self) -> Instance:
        """The process of the guest that runs now."""
        record = self.service.store.domain(self.uuid)
        assert record is not None
        assert record.instance is not None, "the guest does not run"
        return record.instance

    async def guest(self, command: str) -> str:
        """Run a command in the guest that must succeed."""
        return await (await self.console()).check(command)

    async def mark(self, text: str) -> None:
        """Put a marker into the memory and on every disk."""
        await self.guest(f"mem put {text} && " + " && ".join(f"disk put {disk} {text}" for disk in DISKS))

    async def marks(self) -> list[str]:
        """The markers in the memory and on every disk, read inside the guest."""
        return (await self.guest("mem get; " + "; ".join(f"disk get {disk}" for disk in DISKS))).splitlines()

    async def disk_marks(self) -> list[str]:
        """The markers on the disks."""
        return (await self.guest("; ".join(f"disk get {disk}" for disk in DISKS))).splitlines()

    # --- snapshots -------------------------------------------------------------------------------------

    async def full(self, name: str, flags: int = 0) -> None:
        """Take a full system snapshot, its memory in `NAME.mem`."""
        await self.service.snapshot_create_xml(self.uuid, self.full_xml(name), flags)

    def full_xml(self, name: str) -> str:
        """The document of a full system snapshot."""
        memory = f"<memory snapshot='external' file='{self.folder}/{name}.mem'/>"
        return f"<domainsnapshot><name>{name}</name>{memory}</domainsnapshot>"

    async def disk_only(self, name: str) -> None:
        """Take a snapshot of the disks alone."""
        xml = f"<domainsnapshot><name>{name}</name></domainsnapshot>"
        await self.service.snapshot_create_xml(self.uuid, xml, SnapshotCreate.DISK_ONLY)

    async def names(self) -> set[str]:
        """The names of all snapshots."""
        return set((await self.service.snapshot_tree(self.uuid)).snapshots)

    async def state(self) -> DomainState:
        """What `domstate` says."""
        return (await self.service.domain_state(self.uuid))[0]

    async def sources(self) -> dict[str, str]:
        """The image that each disk writes to, by target."""
        return {
            device.target: device.source
            for device in await self.service.block_devices(self.uuid)
            if device.source is not None
        }

    # --- files, programs, processes ----------------------------------------------------------------------

    def files(self) -> set[str]:
        """The names of the guest's files: everything in the folder but virtsnap's own."""
        return {entry.name for entry in self.folder.iterdir() if entry.name != "root"}

    @property
    def uri(self) -> str:
        """What `-c` takes."""
        return self.service.uri

    async def cli_start(self, *words: str) -> asyncio.subprocess.Process:
        """The program as a process of its own, running."""
        return await asyncio.create_subprocess_exec(
            PROGRAM,
            "-c",
            self.uri,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def cli(self, *words: str) -> Result:
        """Run the program to its end."""
        return await ended(await self.cli_start(*words))

    async def cli_ok(self, *words: str) -> str:
        """Run what must succeed; its output."""
        result = await self.cli(*words)
        assert (result.status, result.err) == (0, "")
        return result.out

    async def cli_fails(self, *words: str) -> str:
        """Run what must fail with status 1 and say why; what it said."""
        result = await self.cli(*words)
        assert result.status == 1
        assert result.err.startswith("error: ")
        assert "Traceback" not in result.err
        return result.err

    def processes(self) -> list[int]:
        """The pids of all processes whose command line names the folder."""
        return processes_naming(self.folder)

    async def end(self) -> None:
        """End the guest if it runs, and let go of everything."""
        self.lines.close()
        try:
            if await self.state() is not DomainState.SHUTOFF:
                await self.service.destroy(self.uuid)
        finally:
            await self.service.close()


async def ended(process: asyncio.subprocess.Process) -> Result:
    """Wait for a process of `cli_start`."""
    out, err = await process.communicate()
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())


def processes_naming(folder: Path) -> list[int]:
    """The pids of all other processes whose command line names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it has just ended
        if os.fsencode(folder) in command:
            found.append(int(entry.name))
    return found


def kill_all(pids: list[int]) -> None:
    """End processes that should not be there any more."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
