"""libvirt-dbus on virtsnapd, unmodified. It takes no URI: the daemon listens where a user's libvirtd does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import daemon
from tests.parity.oracle import NOBODY, end_guests

pytestmark = pytest.mark.real
SERVICE = Path("/usr/share/dbus-1/services/org.libvirt.service")
SYSTEM = "/usr/bin/python3"


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a daemon at the socket of a user's libvirtd; the user is nobody where root runs this."""
    if not SERVICE.exists() or shutil.which("dbus-run-session") is None:
        pytest.skip("no libvirt-dbus here (script/setup --with-parity installs it)")
    with tempfile.TemporaryDirectory(prefix="vs-dbus-") as text:
        folder = Path(text)
        folder.chmod(0o755)
        (folder / "run" / "libvirt").mkdir(parents=True)
        (folder / "config").write_text(
            "unix_sock_group = 'nogroup'\nunix_sock_rw_perms = '0660'\n" if os.getuid() == 0 else ""
        )
        if os.getuid() == 0:
            for owned in (folder / "run", folder / "run" / "libvirt"):
                os.chown(owned, NOBODY, NOBODY)
        socket = folder / "run" / "libvirt" / "libvirt-sock"
        process = daemon.start(folder / "root", socket, "--config", str(folder / "config"))
        try:
            yield folder
        finally:
            daemon.stop(process)
            end_guests(folder)


def test_a_life_with_a_snapshot(folder: Path) -> None:
    image = folder / "vm.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
    xml = (
        "<domain type='qemu'><name>vm</name><memory unit='MiB'>32</memory>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices><disk type='file'>"
        f"<driver name='qemu' type='qcow2'/><source file='{image}'/><target dev='vda'/></disk></devices>"
        "</domain>"
    )
    user = NOBODY if os.getuid() == 0 else None
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "run")}
    done = subprocess.run(
        ["dbus-run-session", "--", SYSTEM, "-", xml],
        input=Path(__file__).with_name("libvirt_dbus_life.py").read_text(),
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "domains": 0,
        "state": [1, 1],
        "snapshots": True,
        "reverted": [1, 4],
        "told": [["DomainEvent", 0, 0], ["DomainEvent", 4, 0]],
    }
