"""One guest that a real libvirt and virtsnap run in turn, in a folder that both reach."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.console import SyncConsole
from lab.guest import GuestImage
from tests.parity import domains, oracle
from tests.service.local_domain import kill_all, processes_naming

PROGRAM = Path(sys.executable).with_name("virtsnap")


@dataclass
class Both:
    """The domain, whichever of the two has it."""

    folder: Path
    libvirt: oracle.Oracle
    patience: float
    """Seconds that one virsh may take."""

    def virsh(self, *words: str, editor: str | None = None) -> str:
        done = self.libvirt.virsh(list(words), cwd=self.folder, editor=editor, timeout=self.patience)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def virtsnap(self, *words: str, editor: str | None = None) -> str:
        status, out, error = self.try_virtsnap(*words, editor=editor)
        assert status == 0, (words, error)
        return out

    def try_virtsnap(self, *words: str, editor: str | None = None) -> tuple[int, str, str]:
        """Status, output and error."""
        done = subprocess.run(
            [PROGRAM, "-c", f"qemu:///embed?root={self.folder}/root", *words],
            env=os.environ | ({"EDITOR": editor} if editor else {}),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def guest(self, command: str) -> str:
        with SyncConsole(self.folder / "console") as console:
            console.wait_ready(120)
            return console.check(command)

    def mark(self, text: str) -> None:
        self.guest(f"mem put {text} && disk put vda {text}")

    def marks(self) -> list[str]:
        return self.guest("mem get; disk get vda").splitlines()


@contextmanager
def running(guest: GuestImage, patience: float = 60) -> Iterator[Both]:
    """A daemon, and the lab's guest in `vm.xml`, defined nowhere yet; nothing of them is left afterwards."""
    # A short path, since sockets are in it.
    with tempfile.TemporaryDirectory(prefix="vs-bo-") as name:
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
                yield Both(folder, libvirt, patience)
            finally:
                kill_all(processes_naming(folder))
