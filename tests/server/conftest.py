"""A virtsnapd for the tests of a module, and ways to talk to it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import daemon
from tests.parity.oracle import end_guests

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""For programs that look for the system's Python there, and not for that of a .venv."""


@dataclass
class Served:
    """A daemon, its folder, its socket."""

    folder: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def socket(self) -> Path:
        return self.folder / "sock"

    @property
    def uri(self) -> str:
        return f"qemu:///system?socket={self.socket}"

    def restart(self) -> None:
        daemon.stop(self.process)
        self.process = daemon.start(self.folder / "root", self.socket)

    def said(self) -> str:
        return Path(f"{self.socket}.log").read_text()

    def virsh(self, *words: str, readonly: bool = False) -> subprocess.CompletedProcess[str]:
        """What real virsh says."""
        if shutil.which("virsh") is None:
            pytest.skip("no virsh here (script/setup --with-parity installs it)")
        option = ["-r"] if readonly else []
        return subprocess.run(
            ["virsh", "-c", self.uri, *option, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )

    def ok(self, *words: str) -> str:
        """Its stdout; it must succeed."""
        done = self.virsh(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def define(self, name: str = "vm", devices: str = "") -> str:
        """A machine without a system, with one disk."""
        image = self.folder / f"{name}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
        xml = self.folder / f"{name}.xml"
        xml.write_text(
            f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory>"
            "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
            "<disk type='file'><driver name='qemu' type='qcow2'/>"
            f"<source file='{image}'/><target dev='vda' bus='virtio'/></disk>{devices}</devices></domain>"
        )
        return self.ok("define", str(xml))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("d")
    where = Served(folder, daemon.start(folder / "root", folder / "sock"))
    try:
        yield where
    finally:
        daemon.stop(where.process)
        end_guests(folder)
    assert "Traceback" not in where.said()
