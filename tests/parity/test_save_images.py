"""A guest goes to and fro between a real libvirt and us in saved files, and remembers everything."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.console import SyncConsole
from lab.guest import build as build_guest
from tests.parity import domains, oracle
from tests.service.local_domain import kill_all, processes_naming

pytestmark = [pytest.mark.parity, pytest.mark.guest]

PROGRAM = Path(sys.executable).with_name("virtsnap")
FORMATS = ("raw", "gzip", "zstd", "sparse")


@dataclass
class Both:
    """One guest, whichever of the two runs it."""

    folder: Path
    libvirt: oracle.Oracle

    def virsh(self, *words: str, editor: str | None = None) -> str:
        done = self.libvirt.virsh(list(words), cwd=self.folder, editor=editor)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def virtsnap(self, *words: str, editor: str | None = None) -> str:
        environment = os.environ | ({"EDITOR": editor} if editor else {})
        done = subprocess.run(
            [PROGRAM, "-c", f"qemu:///embed?root={self.folder}/root", *words],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def guest(self, command: str) -> str:
        with SyncConsole(self.folder / "console") as console:
            console.wait_ready(120)
            return console.check(command)

    def mark(self, text: str) -> None:
        self.guest(f"mem put {text} && disk put vda {text}")

    def marks(self) -> list[str]:
        return self.guest("mem get; disk get vda").splitlines()


@pytest.fixture
def both() -> Iterator[Both]:
    reason = oracle.missing()
    if reason is not None:
        pytest.skip(reason)
    guest = build_guest()
    # A short path, since sockets are in it.
    with tempfile.TemporaryDirectory(prefix="vs-si-") as name:
        os.chmod(name, 0o755)
        daemon, folder = Path(name, "d"), Path(name, "g")
        daemon.mkdir()
        folder.mkdir()
        with oracle.running(daemon) as libvirt:
            libvirt.own(folder)
            made = domains.build(["vm", "guest", "vda=a.qcow2"], folder, guest)
            for image in made.images:
                words = ["qemu-img", "create", "-q", "-f", image.format, str(image.path), "16M"]
                libvirt.run(words).check_returncode()
            (folder / "vm.xml").write_text(made.xml)
            try:
                yield Both(folder, libvirt)
            finally:
                kill_all(processes_naming(folder))


@pytest.mark.timeout(600)
def test_to_and_fro(both: Both) -> None:
    theirs, ours = str(both.folder / "theirs"), str(both.folder / "ours")
    both.virsh("define", "vm.xml")
    both.virsh("start", "vm")
    for format in FORMATS:
        both.mark(f"{format}-1")
        both.virsh("save", "vm", theirs, "--image-format", format)
        both.virtsnap("restore", theirs)
        assert both.marks() == [f"{format}-1"] * 2
        assert both.virtsnap("domstate", "vm", "--reason") == "running (restored)\n\n"
        both.mark(f"{format}-2")
        both.virtsnap("save", "vm", ours, "--image-format", format)
        both.libvirt.own(Path(ours))
        both.virsh("restore", ours)
        assert both.marks() == [f"{format}-2"] * 2
        assert both.virsh("domstate", "vm", "--reason") == "running (restored)\n\n"


@pytest.mark.timeout(300)
def test_heads_edited_by_the_other_side(both: Both) -> None:
    theirs, ours = str(both.folder / "theirs"), str(both.folder / "ours")
    swap = "sed -i 's/crash>destroy/crash>preserve/'"
    both.virsh("define", "vm.xml")
    both.virsh("start", "vm")
    both.mark("edited")
    both.virsh("save", "vm", theirs)
    both.virtsnap("save-image-edit", theirs, "--paused", editor=swap)
    assert "preserve" in both.virsh("save-image-dumpxml", theirs)
    both.virsh("restore", theirs)
    assert both.virsh("domstate", "vm") == "paused\n\n"
    both.virsh("save", "vm", theirs, "--running")
    both.virtsnap("restore", theirs, "--paused")
    both.virtsnap("save", "vm", ours)
    both.libvirt.own(Path(ours))
    both.virsh("save-image-edit", ours, "--running", editor="sed -i 's/crash>preserve/crash>destroy/'")
    assert "preserve" not in both.virtsnap("save-image-dumpxml", ours)
    both.virtsnap("restore", ours)
    assert both.marks() == ["edited"] * 2
