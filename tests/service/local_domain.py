"""A domain of the local service in a folder of its own, and the program run on it as a process.

`BareDomain` has no guest: QEMU or qemu-io writes what is on its disks. With one: `tests.guest.machine`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from virtsnap.engine.world import query_path
from virtsnap.model.domain import DomainState, Instance
from virtsnap.model.flags import SnapshotCreate
from virtsnap.qemu import capabilities
from virtsnap.qemu.monitor import Listener, Monitor
from virtsnap.service.local import LocalService, open_local

PROGRAM = Path(sys.executable).parent / "virtsnap"
DISKS = ("vda", "vdb")
DISK_MIB = 64


def same(text: str) -> str:
    """Leave a document as it is."""
    return text


def create_disk(path: Path, size: str = f"{DISK_MIB}M", format: str = "qcow2") -> Path:
    """An empty image."""
    subprocess.run(["qemu-img", "create", "-q", "-f", format, str(path), size], check=True)
    return path


def written(image: str | Path, block: int, skip: int = 0) -> bytes:
    """Block number `skip` of `block` bytes of an image. A QEMU that has it open must have flushed."""
    with tempfile.NamedTemporaryFile() as raw:
        words = [f"bs={block}", f"skip={skip}", f"count={skip + 1}", f"if={image}", f"of={raw.name}"]
        subprocess.run(["qemu-img", "dd", "-U", "-O", "raw", *words], check=True, stdout=subprocess.DEVNULL)
        return Path(raw.name).read_bytes()


@dataclass(frozen=True)
class Result:
    """What a program ended with."""

    status: int
    out: str
    err: str


@dataclass
class LocalDomain:
    """One domain in a folder: `root` is virtsnap's, everything else there are the guest's files."""

    folder: Path
    service: LocalService
    uuid: str
    ended: bool = False

    @property
    def instance(self) -> Instance:
        """The process that runs it now."""
        record = self.service.store.domain(self.uuid)
        assert record is not None
        assert record.instance is not None, "the domain does not run"
        return record.instance

    @contextlib.asynccontextmanager
    async def events(self, *names: str) -> AsyncIterator[Listener]:
        """What QEMU tells from now on, on the monitor that no operation uses."""
        async with (
            await Monitor.connect(query_path(self.instance.run_dir)) as monitor,
            monitor.events(*names) as listener,
        ):
            yield listener

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
        """End the guest if it runs, and let go of everything. Quiet when it was done before."""
        if self.ended:
            return
        self.ended = True
        try:
            if await self.state() is not DomainState.SHUTOFF:
                await self.service.destroy(self.uuid)
        finally:
            await self.service.close()


@dataclass
class BareDomain(LocalDomain):
    """A machine in which nothing boots. Its disks' content is a byte repeated, written by QEMU or qemu-io."""

    @classmethod
    async def define(cls, folder: Path, edit: Callable[[str], str] = same) -> BareDomain:
        """Shut off, with two empty disks."""
        folder.mkdir(parents=True)
        for target in DISKS:
            create_disk(folder / f"{target}.qcow2")
        disks = "".join(
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
            f"<source file='{folder}/{target}.qcow2'/><target dev='{target}' bus='virtio'/></disk>"
            for target in DISKS
        )
        service = await open_local(folder / "root")
        try:
            handle = await service.define_xml(edit(_BARE.format(disks=disks)))
        except BaseException:
            await service.close()
            raise
        return cls(folder, service, handle.uuid)

    async def start(self) -> None:
        """Run it."""
        await self.service.create(self.uuid)

    async def put(self, number: int, at: str = "0", size: str = "64k") -> None:
        """Fill a part of every disk, at least its first 64 KiB, with the byte."""
        command = f"write -P {number} {at} {size}"
        if await self.state() is DomainState.SHUTOFF:
            for image in (await self.sources()).values():
                subprocess.run(
                    ["qemu-io", "-f", "qcow2", "-c", command, image], check=True, stdout=subprocess.DEVNULL
                )
            return
        async with await Monitor.connect(query_path(self.instance.run_dir)) as monitor:
            for index in range(len(DISKS)):
                # What it answers goes to QEMU's log. `got` tells whether it worked.
                item = f"-d /machine/peripheral/virtio-disk{index}/virtio-backend"
                for word in (command, "flush"):
                    await monitor.execute("human-monitor-command", command_line=f'qemu-io {item} "{word}"')

    async def got(self, at_mib: int = 0) -> list[int]:
        """The byte that the first 64 KiB of every disk (or those at a MiB) are filled with."""
        found = []
        for image in (await self.sources()).values():
            data = written(image, 65536, at_mib * 16)
            assert data == data[:1] * 65536, f"{image} holds pieces of different content"
            found.append(data[0])
        return found


_BARE = """<domain type='qemu'>
  <name>bare</name>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <on_crash>destroy</on_crash>
  <devices>
    {disks}
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""


async def ended(process: asyncio.subprocess.Process) -> Result:
    """Wait for a process of `cli_start`."""
    out, err = await process.communicate()
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())


def processes_naming(what: Path | str) -> list[int]:
    """The pids of all other processes whose command line names it: a folder, as a rule."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it has just ended
        if os.fsencode(what) in command:
            found.append(int(entry.name))
    return found


async def skip_without(save_format: str) -> None:
    """Skip a test where no memory image of that format can be written."""
    if save_format == "sparse" and not (await capabilities.probe()).has_mapped_ram:
        pytest.skip("needs QEMU 9.0")
    if save_format not in ("sparse", "raw") and shutil.which(save_format) is None:
        pytest.skip(f"no {save_format} here")


def kill_all(pids: list[int]) -> None:
    """End processes that should not be there any more."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
