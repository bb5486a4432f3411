"""A guest that runs when a test begins: booted once, saved with virtsnap itself, then started from there.

The saved state lies in the lab's cache under a hash of all that it depends on, virtsnap's source included.
Every `Station` is a domain of its own in a folder of its own: two disks (vda, vdb), a console and a pulse on
unix sockets, no snapshots. It may run beside others, and nothing of it is left when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import virtsnap
from lab.console import GuestConsole
from lab.domain import disk_targets, domain_xml
from lab.guest import GuestImage, build, default_cache
from lab.pulse import Pulse
from virtsnap import SnapshotCreate, SnapshotDelete, aio

NAME = "guest"
DISKS = 2
DISK_SIZE = "64M"
_SAVED = "booted"


@dataclass(frozen=True)
class Ran:
    """What a command line ended with."""

    status: int
    out: str
    err: str


class Station:
    """One domain in one folder. `root` is the folder virtsnap keeps its own things in."""

    def __init__(self, folder: Path, image: GuestImage) -> None:
        """`folder` must have a short path: unix sockets lie in it."""
        self.folder = folder
        self.image = image
        self.root = folder / "root"
        self.uri = f"qemu:///embed?root={self.root}"
        self.name = NAME
        self.disks = [folder / f"{target}.qcow2" for target in disk_targets(DISKS)]

    @property
    def xml(self) -> str:
        """The definition of the domain."""
        return domain_xml(
            NAME, self.image, self.disks, serial=self.folder / "console", tick_socket=self.folder / "tick"
        )

    async def console(self) -> GuestConsole:
        """A new connection to the guest's agent, which answers. After a revert, take another."""
        console = await GuestConsole.connect(self.folder / "console")
        try:
            await console.wait_ready()
        except BaseException:
            console.close()
            raise
        return console

    async def pulse(self) -> Pulse:
        """The guest's ticks. One at a time; after a revert, take another."""
        return await Pulse.connect(self.folder / "tick")

    async def cli(self, *words: str) -> Ran:
        """Run `virtsnap` in a process of its own on this station's root."""
        process = await self.start_cli(*words)
        out, err = await process.communicate()
        return Ran(process.returncode or 0, out.decode(), err.decode())

    async def start_cli(self, *words: str) -> asyncio.subprocess.Process:
        """Start `virtsnap` and return at once: for tests that kill it."""
        program = Path(sys.executable).with_name("virtsnap")
        return await asyncio.create_subprocess_exec(
            str(program), "-c", self.uri, *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    def qemu_pids(self) -> list[int]:
        """The QEMU processes that run in this folder, whatever virtsnap thinks of them."""
        own = str(self.folder).encode() + b"/"
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    line = (entry / "cmdline").read_bytes()
                    if b"qemu-system" in line.split(b"\0")[0] and own in line:
                        found.append(int(entry.name))
        return found

    def end(self) -> None:
        """Kill what still runs here."""
        for pid in self.qemu_pids():
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                try:
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                    # Readable once it is gone: its locks on the images are gone too.
                    _wait_readable(fd)
                finally:
                    os.close(fd)


@asynccontextmanager
async def station(saved: Path | None = None) -> AsyncIterator[Station]:
    """A station whose guest runs. `saved` is what `prepare` returned."""
    saved = saved or await prepare()
    image = build()
    with _folder("vs-") as folder:
        one = Station(folder, image)
        try:
            for disk in one.disks:
                base = saved / disk.name
                await _image("-b", str(base), "-F", "qcow2", str(disk))
            _same_file(saved / "memory", folder / "memory")
            origin = (saved / "origin").read_text()
            record = (saved / "snapshot.xml").read_text().replace(origin, str(folder))
            definition = (saved / "domain.xml").read_text().replace(origin, str(folder))
            async with await aio.open(one.uri) as connection:
                domain = await connection.defineXML(definition)
                snapshot = await domain.snapshotCreateXML(
                    record, SnapshotCreate.REDEFINE | SnapshotCreate.CURRENT
                )
                await domain.revertToSnapshot(snapshot)
                await snapshot.delete(SnapshotDelete.METADATA_ONLY)
            # The guest has read it; no snapshot names it any more.
            (folder / "memory").unlink()
            yield one
        finally:
            one.end()


@asynccontextmanager
async def booting_station() -> AsyncIterator[Station]:
    """A station that is defined and shut off: for tests of starting itself."""
    with _folder("vs-") as folder:
        one = Station(folder, build())
        try:
            for disk in one.disks:
                await _image(str(disk), DISK_SIZE)
            async with await aio.open(one.uri) as connection:
                await connection.defineXML(one.xml)
            yield one
        finally:
            one.end()


async def prepare(cache: Path | None = None) -> Path:
    """Boot a guest and save it, or find it saved; the folder of the saved state.

    The disks hold what they held at the snapshot, and are only ever read from then on.
    """
    cache = (cache or default_cache()).resolve()
    image = build(cache)
    saved = cache / f"booted-{_key(image)}"
    with (cache / "booted.lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        if not saved.exists():
            _forget_old(cache)
            with _folder("vs-") as folder:
                await _boot_and_save(Station(folder, image))
                new = cache / "booted-new"
                shutil.copytree(folder, new, ignore=lambda _, names: set(names) - _KEPT)
                new.rename(saved)
    return saved


_KEPT = {"memory", "snapshot.xml", "domain.xml", "origin", *(f"{t}.qcow2" for t in disk_targets(DISKS))}


async def _boot_and_save(one: Station) -> None:
    folder = one.folder
    try:
        for disk in one.disks:
            await _image(str(disk), DISK_SIZE)
        async with await aio.open(one.uri) as connection:
            domain = await connection.defineXML(one.xml)
            (folder / "domain.xml").write_text(await domain.XMLDesc())
            await domain.create()
            (await one.console()).close()
            snapshot = await domain.snapshotCreateXML(_request(folder))
            (folder / "snapshot.xml").write_text(await snapshot.getXMLDesc())
            (folder / "origin").write_text(str(folder))
            await domain.destroy()
    finally:
        one.end()


def _forget_old(cache: Path) -> None:
    shutil.rmtree(cache / "booted-new", ignore_errors=True)
    states = sorted(cache.glob("booted-*"), key=lambda path: path.stat().st_mtime_ns)
    # Tests of another moment's source may be running from the last few.
    for old in states[:-3]:
        shutil.rmtree(old)


def _request(folder: Path) -> str:
    disks = "".join(
        f"<disk name='{target}'><source file='{folder}/{target}.after'/></disk>"
        for target in disk_targets(DISKS)
    )
    return (
        f"<domainsnapshot><name>{_SAVED}</name><memory snapshot='external' file='{folder}/memory'/>"
        f"<disks>{disks}</disks></domainsnapshot>"
    )


def _key(image: GuestImage) -> str:
    digest = hashlib.sha256(f"{image.initrd}\0{image.kernel_release}\0{image.cmdline}\0".encode())
    version = subprocess.run(["qemu-system-x86_64", "--version"], stdout=subprocess.PIPE, check=True)
    digest.update(version.stdout)
    source = Path(virtsnap.__file__).parent
    for path in [*sorted(source.rglob("*.py")), Path(__file__), Path(__file__).with_name("domain.py")]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _same_file(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


async def _image(*words: str) -> None:
    process = await asyncio.create_subprocess_exec("qemu-img", "create", "-q", "-f", "qcow2", *words)
    if await process.wait():
        raise RuntimeError(f"qemu-img create {' '.join(words)} ended with {process.returncode}")


@contextmanager
def _folder(prefix: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as text:
        yield Path(text).resolve()


def _wait_readable(fd: int) -> None:
    select.select([fd], [], [], 10)
