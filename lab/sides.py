"""The two programs that the benchmark sets side by side: virtsnap, and virsh on a real libvirtd of its own.

Or virtsnapd, for what a daemon does itself. The real one is that of the parity tests. Started by root it runs
as nobody, and so does its virsh.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.demo import DemoError
from tests import daemon
from tests.parity import oracle


@dataclass(frozen=True)
class Side:
    """A program up to and including its connection."""

    name: str
    program: list[str]
    user: int | None = None
    """Whose the guests' files must be; None: ours."""
    socket: Path = Path()
    """Of the daemon, if there is one, as its process is."""
    pid: int = 0
    root: Path | None = None
    """Of virtsnapd: what it serves."""

    def own(self, folder: Path) -> None:
        """Give a folder and what is in it to the user whose guests use it."""
        if self.user is not None:
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, self.user, self.user)

    def run(self, *words: str) -> float:
        """Run a command; the seconds that it took. Raises `DemoError`."""
        begin = time.monotonic()
        done = subprocess.run(
            [*self.program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        seconds = time.monotonic() - begin
        if done.returncode:
            raise DemoError(f"{self.name}: {' '.join(words)[:200]}: {done.stderr.strip()}")
        return seconds


def ours(folder: Path) -> Side:
    """virtsnap with its root in `folder`. Its byte code is kept, as after an installation."""
    program = ["env", "-u", "PYTHONDONTWRITEBYTECODE", str(Path(sys.executable).with_name("virtsnap"))]
    return Side("virtsnap", [*program, "-c", f"qemu:///embed?root={folder}/root"])


@contextmanager
def libvirt(folder: Path) -> Iterator[Side]:
    """virsh with a daemon whose files are in `folder`; it ends with its guests."""
    with oracle.running(folder) as theirs:
        words = ["env", "-i", *(f"{key}={value}" for key, value in theirs.environment.items())]
        if theirs.user is not None:
            words += ["setpriv", f"--reuid={theirs.user}", f"--regid={theirs.user}", "--clear-groups"]
        program = [*words, "virsh", "-q", "-c", "qemu:///session"]
        yield Side("libvirt", program, theirs.user, theirs.socket, theirs.pid)


@contextmanager
def virtsnapd(folder: Path) -> Iterator[Side]:
    """virsh with our daemon, whose files are in `folder`; it ends with its guests."""
    path = folder / "sock"
    process = daemon.start(folder / "root", path)
    try:
        program = ["virsh", "-q", "-c", f"qemu:///system?socket={path}"]
        yield Side("virtsnapd", program, None, path, process.pid)
    finally:
        daemon.stop(process)
        oracle.end_guests(folder)


def create_disk(path: Path) -> None:
    """An empty image."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1G"], check=True)
