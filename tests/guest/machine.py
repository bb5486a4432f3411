"""A lab guest under virtsnap, resumed from one saved state: what every test in this folder starts from.

`make_seed` boots the guest once and keeps a full system snapshot of it: memory image, disks and the two
documents. `Machine.resume` takes them over into a folder of its own (the memory image by a hard link) through
`snapshot-create --redefine`, and reverts: a running guest in a moment, and each test another proof that
records can be taken back.

The guest's serial port calls us (`tests.guest.lines`), since QEMU looks only once a second whether somebody
has opened a pseudo-terminal.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lab.console import GuestConsole
from lab.domain import domain_xml
from lab.guest import GuestImage
from tests.guest.lines import Lines
from tests.service.local_domain import DISKS, LocalDomain, create_disk, same, written
from virtsnap.model.domain import DomainState
from virtsnap.model.flags import DomainXml, SnapshotCreate
from virtsnap.service.local import open_local

NAME = "guest"
SEED = "seed"
MEMORY_MIB = 128
FILL_MIB = 4
SPARE_PORT = "<serial type='null'><target port='1'/></serial>"


def with_tcp_port(number: int) -> Callable[[str], str]:
    """An `edit` for `Machine.resume`: the spare serial port listens on a TCP port of the host."""
    source = f"<source mode='bind' host='127.0.0.1' service='{number}'/>"
    return lambda text: text.replace(
        "<serial type='null'>", f"<serial type='tcp'>{source}<protocol type='raw'/>"
    )


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


async def make_seed(folder: Path, image: GuestImage, emulator: Path | None = None) -> Seed:
    """Boot the guest, put the marker `seed` everywhere, and keep the state."""
    folder.mkdir()
    disks = [create_disk(folder / f"{target}.qcow2") for target in DISKS]
    service = await open_local(folder / "root")
    lines = Lines()

    def keep(name: str, text: str) -> None:
        text = text.replace(str(folder), "@FOLDER@").replace(str(lines.path), "@LINE@")
        (folder / name).write_text(text)

    xml = domain_xml(
        *(NAME, image, disks),
        memory_mib=MEMORY_MIB,
        serial=lines.path,
        devices=SPARE_PORT,
        emulator=emulator,
    )
    assert "mode='bind'" in xml
    handle = await service.define_xml(xml.replace("mode='bind'", "mode='connect'"))
    machine = Machine(folder, service, handle.uuid, lines=lines)
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


def written_mark(image: str | Path) -> str:
    """The marker in an image that no QEMU has open."""
    return written(image, 4096).split(b"\n", 1)[0].decode()


@dataclass
class Machine(LocalDomain):
    """A domain with the lab guest in it."""

    lines: Lines = field(kw_only=True)

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
        return cls(folder, service, handle.uuid, lines=lines)

    # --- the guest -------------------------------------------------------------------------------------

    async def console(self) -> GuestConsole:
        """The line to the agent in the guest that runs now, ready to answer."""
        console = await self.lines.of_process(self.instance.pid)
        await console.wait_ready()
        return console

    async def guest(self, command: str) -> str:
        """Run a command in the guest that must succeed."""
        return await (await self.console()).check(command)

    async def mark(self, text: str) -> None:
        """Put a marker into the memory and on every disk."""
        await self.guest(f"mem put {text} && " + " && ".join(f"disk put {disk} {text}" for disk in DISKS))

    async def marks(self) -> list[str]:
        """The markers in the memory and on every disk, read inside the guest."""
        return (await self.guest("mem get; " + "; ".join(f"disk get {disk}" for disk in DISKS))).splitlines()

    async def fill(self) -> None:
        """Put new random content of `FILL_MIB` on every disk."""
        await self.guest(" && ".join(f"disk fill {disk} {FILL_MIB} {FILL_MIB}" for disk in DISKS))

    async def sums(self) -> list[str]:
        """What `fill` put there, as sums: read by the guest if it runs, else from the images."""
        if await self.state() is DomainState.RUNNING:
            sums = await self.guest("; ".join(f"disk sum {disk} {FILL_MIB} {FILL_MIB}" for disk in DISKS))
            return sums.splitlines()
        images = (await self.sources()).values()
        return [hashlib.sha256(written(image, FILL_MIB << 20, 1)).hexdigest() for image in images]

    async def disk_marks(self) -> list[str]:
        """The markers on the disks, read by the guest if it runs, else from the images."""
        if await self.state() is not DomainState.RUNNING:
            return [written_mark(image) for image in (await self.sources()).values()]
        return (await self.guest("; ".join(f"disk get {disk}" for disk in DISKS))).splitlines()

    async def end(self) -> None:
        """End the guest if it runs, and let go of everything. Quiet when it was done before."""
        if not self.ended:
            self.lines.close()
        await super().end()
