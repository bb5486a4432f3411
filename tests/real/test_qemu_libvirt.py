"""Memory images go both ways between us and a real libvirt (its embedded driver, so no daemon is needed)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtsnap.formats.save_image import SaveFormat
from virtsnap.model.facts import MemoryWay
from virtsnap.qemu import background, memory, process
from virtsnap.qemu.monitor import Monitor

pytestmark = [pytest.mark.real, pytest.mark.parity]

MIB = 1 << 20
CONFIG = 'user = "root"\ngroup = "root"\nsecurity_driver = "none"\nstdio_handler = "file"\nnamespaces = []\n'
XML = """<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>memory</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices><memballoon model='none'/></devices>
  <qemu:commandline>
    <qemu:arg value='-chardev'/><qemu:arg value='socket,id=test,path={folder}/qmp,server=on,wait=off'/>
    <qemu:arg value='-mon'/><qemu:arg value='chardev=test,mode=control'/>
    <qemu:arg value='-device'/><qemu:arg value='loader,file={folder}/fill,addr=0x1000000,force-raw=on'/>
  </qemu:commandline>
</domain>
"""


class Virsh:
    """One virsh session with a driver of its own, in which libvirt's domains are."""

    def __init__(self, folder: Path) -> None:
        self._child = subprocess.Popen(
            ["virsh", "-q", "-c", f"qemu:///embed?root={folder}/root"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )

    def __call__(self, command: str) -> str:
        """What virsh prints, its errors too, after the prompt and the command that it repeats."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        # The quotes tell the mark in the answer from the command that asks for it.
        mark = 'echo "@@""@"'
        self._child.stdin.write(f"{command}\n{mark}\n".encode())
        seen = b""
        while not seen.endswith(b"@@@"):
            chunk = self._child.stdout.read(1)
            assert chunk, seen
            seen += chunk
        text = seen.decode().split(f"{command}\n", 1)[1]
        return text[: text.rindex(mark)].removesuffix("virsh # ")

    def close(self) -> None:
        """End the session."""
        self._child.communicate(b"quit\n", timeout=60)


@pytest.fixture(scope="module")
def session() -> Iterator[Virsh]:
    if os.geteuid() != 0 or shutil.which("virsh") is None:
        pytest.skip("needs libvirt, and root for its driver")
    # A short path, since libvirt puts sockets below it.
    with tempfile.TemporaryDirectory(prefix="vs-lv-") as name:
        (Path(name) / "root/etc").mkdir(parents=True)
        (Path(name) / "root/etc/qemu.conf").write_text(CONFIG)
        virsh = Virsh(Path(name))
        yield virsh
        virsh.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vs-mem-") as name:
        folder = Path(name)
        (folder / "fill").write_bytes(os.urandom(4 * MIB))
        (folder / "domain.xml").write_text(XML.format(folder=folder))
        yield folder


@pytest.fixture
def virsh(folder: Path, session: Virsh) -> Iterator[Virsh]:
    try:
        created = session(f"create {folder}/domain.xml --paused")
        if session("domstate memory").strip() != "paused":
            pytest.skip(f"no domain of libvirt's can be started here: {created}")
        yield session
    finally:
        session("destroy memory")


async def content(folder: Path) -> bytes:
    """The memory that the loader filled, in whatever QEMU runs now."""
    async with await Monitor.connect(f"{folder}/qmp") as monitor:
        await monitor.execute("pmemsave", val=16 * MIB, size=4 * MIB, filename=f"{folder}/dump")
    return (folder / "dump").read_bytes()


@pytest.mark.parametrize("was_running", [False, True], ids=["paused", "running"])
@pytest.mark.parametrize("way", list(MemoryWay), ids=lambda way: way.value)
async def test_libvirt_restores_what_we_saved(
    folder: Path, virsh: Virsh, way: MemoryWay, was_running: bool
) -> None:
    path = folder / "memory"
    xml = virsh("dumpxml memory --migratable")
    async with await Monitor.connect(f"{folder}/qmp") as monitor:
        if not way.background:
            await memory.save(monitor, path=str(path), xml=xml, was_running=was_running, way=way, live=False)
        elif not (await background.choose(monitor)).background:
            pytest.skip("needs QEMU 9.0, and userfaultfd for this user")
        else:
            await monitor.execute("cont")
            capture = await background.Capture.prepare(
                monitor, path=str(path), xml=xml, was_running=was_running, way=way
            )
            await monitor.execute("stop")
            await capture.begin()
            await capture.complete()
    refused = virsh(f"restore {path}")
    assert "save image is incomplete" in refused
    await memory.seal(str(path))
    virsh("destroy memory")
    # With other content in the way, what is found came from the image.
    wanted = (folder / "fill").read_bytes()
    (folder / "fill").write_bytes(bytes(4 * MIB))
    said = virsh(f"restore {path}")
    assert virsh("domstate memory").strip() == ("running" if was_running else "paused"), said
    assert await content(folder) == wanted


@pytest.mark.parametrize("format", ["raw", "sparse"])
async def test_we_load_what_libvirt_saved(folder: Path, virsh: Virsh, format: str) -> None:
    path = folder / "memory"
    command = Path(f"/proc/{qemu_of(folder)}/cmdline").read_bytes().split(b"\0")[:-1]
    saved = virsh(f"save memory {path} --image-format {format}")
    assert path.exists(), saved
    header = memory.read_header(str(path))
    assert header.format is (SaveFormat.SPARSE if format == "sparse" else SaveFormat.RAW)
    assert "<name>memory</name>" in header.xml
    assert not header.was_running
    assert header.data_length + 92 == header.stream_offset
    wanted = (folder / "fill").read_bytes()
    (folder / "fill").write_bytes(bytes(4 * MIB))
    spawned = process.spawn([*ours(command), "-incoming", "defer"], log_path=f"{folder}/log", cwd=str(folder))
    try:
        # QEMU makes this socket itself, so there is a moment without it.
        while not (folder / "qmp").exists() and process.alive(spawned):
            await process.wait_gone(spawned, 0.01)
        async with await process.await_monitor(spawned, f"{folder}/qmp", f"{folder}/log") as monitor:
            await memory.load(monitor, path=str(path), log_path=f"{folder}/log")
            assert (await monitor.execute("query-status"))["running"] is False
        assert await content(folder) == wanted
    finally:
        process.kill(spawned)
        await process.wait_gone(spawned, 20)


def qemu_of(folder: Path) -> int:
    """The QEMU that libvirt started: the one that was told our socket."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"path={folder}/qmp,".encode() in (entry / "cmdline").read_bytes():
                return int(entry.name)
    raise AssertionError("libvirt's QEMU is not there")


def ours(command: list[bytes]) -> list[str]:
    """libvirt's command line without what only libvirt can give: its monitor, its secret, its sandbox."""
    words = [os.fsdecode(word) for word in command]
    kept = words[:1]
    at = 1
    while at < len(words):
        option = words[at]
        value = words[at + 1] if at + 1 < len(words) and not words[at + 1].startswith("-") else None
        at += 1 if value is None else 2
        if option in ("-object", "-sandbox", "-name") and "memory-backend" not in (value or ""):
            continue
        if value is not None and ("charmonitor" in value):
            continue
        kept += [option] if value is None else [option, value]
    return kept
