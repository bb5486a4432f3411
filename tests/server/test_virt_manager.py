"""virt-manager on virtsnapd, unmodified, on a screen that nobody sees, driven as a screen reader would."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.console import SyncConsole
from lab.domain import domain_xml
from lab.guest import build
from tests.server.conftest import SYSTEM_PATH, Served
from tests.server.raw import Raw
from virtsnap.wire.procedures import REMOTE

pytestmark = [pytest.mark.real, pytest.mark.guest]
SYSTEM = "/usr/bin/python3"
LIFECYCLE = 0
RESUMED_FROM_SNAPSHOT = (4, 2)
PICTURES = "VIRTSNAP_PICTURES"
"""A folder for pictures of its windows (docs/pictures); without it they are thrown away."""


def missing() -> str:
    """What this machine lacks, by the names of Debian's packages."""
    programs = {"virt-manager": "virt-manager", "Xvfb": "xvfb", "dbus-run-session": "dbus"}
    lacks = [
        package for program, package in programs.items() if shutil.which(program, path=SYSTEM_PATH) is None
    ]
    script = "import gi; gi.require_version('Atspi', '2.0'); gi.require_version('Gdk', '3.0')"
    if subprocess.run([SYSTEM, "-c", script], capture_output=True, check=False).returncode:
        lacks.append("gir1.2-atspi-2.0")
    return ", ".join(lacks)


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of programs on a screen of their own; they leave nothing in the user's home."""
    if lacks := missing():
        pytest.skip(f"no {lacks} here (script/setup --with-parity installs it)")
    with (tmp_path / "xvfb.log").open("wb") as log:
        reading, writing = os.pipe()
        xvfb = subprocess.Popen(
            ["/usr/bin/Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"],
            pass_fds=[writing],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        os.close(writing)
    with open(reading) as told:
        number = told.readline().strip()
    for folder in ("home", "run"):
        (tmp_path / folder).mkdir(mode=0o700)
    try:
        assert number, (tmp_path / "xvfb.log").read_text()
        yield {
            "PATH": SYSTEM_PATH,
            "HOME": str(tmp_path / "home"),
            "XDG_RUNTIME_DIR": str(tmp_path / "run"),
            "DISPLAY": f":{number}",
            "GSETTINGS_BACKEND": "memory",
            "LC_ALL": "C.UTF-8",
        }
    finally:
        xvfb.terminate()
        xvfb.wait()


class Person:
    """A script next to this file, which waits after each part until it is told to go on."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def has(self, word: str) -> None:
        """Wait until it has come so far."""
        assert self._process.stdout is not None
        # The services of the session's bus say this and that.
        heard = next((line for line in self._process.stdout if line.strip() == word), None)
        assert heard is not None, self._log.read_text()[-8000:]

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()


@contextmanager
def person(script: str, *words: str, screen: dict[str, str], log: Path) -> Iterator[Person]:
    with log.open("wb") as said:
        process = subprocess.Popen(
            ["dbus-run-session", "--", SYSTEM, Path(__file__).with_name(script), *words],
            env=screen,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
        )
    try:
        yield Person(process, log)
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        raise
    finally:
        process.communicate()
    assert process.returncode == 0, log.read_text()[-8000:]
    assert "Traceback" not in log.read_text(), log.read_text()[-8000:]


def test_a_snapshot_is_taken_and_reverted_to(served: Served, screen: dict[str, str], tmp_path: Path) -> None:
    disk = served.folder / "vda.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "64M"], check=True)
    served.ok("pool-define-as", "default", "dir", "--target", str(served.folder / "images"))
    screens = "<graphics type='vnc'/><video><model type='vga'/></video>"
    serial = served.folder / "console"
    xml = domain_xml("demo", build(), [disk], memory_mib=128, serial=serial, devices=screens)
    (served.folder / "demo.xml").write_text(xml)
    served.ok("define", str(served.folder / "demo.xml"))
    served.ok("start", "demo")
    pictures = os.environ.get(PICTURES, str(tmp_path))
    words = served.uri, "demo", pictures
    with person("virt_manager_snapshots.py", *words, screen=screen, log=tmp_path / "log") as somebody:
        with SyncConsole(serial) as guest:
            guest.wait_ready()
            assert guest.run("mem put early && disk put vda early").rc == 0
            somebody.has("listed")
            somebody.go_on()
            somebody.has("taken")
            assert served.ok("snapshot-list", "demo", "--name").split() == ["before-update"]
            assert "<description>all is well</description>" in served.ok("snapshot-current", "demo")
            assert guest.run("mem put late && disk put vda late").rc == 0
        with Raw(served.socket) as watcher:
            watcher.open().call("connect_domain_event_callback_register_any", LIFECYCLE, None)
            somebody.go_on()
            somebody.has("reverted")
            told = None
            while told != RESUMED_FROM_SNAPSHOT:
                frame = watcher.receive()
                assert frame is not None
                told = REMOTE["domain_event_callback_lifecycle"].unpack_arguments(frame.payload)[-1][1:]
        with SyncConsole(serial) as guest:
            guest.wait_ready()
            assert guest.run("mem get; disk get vda").out.splitlines() == ["early", "early"]
        assert served.ok("domstate", "demo", "--reason").strip() == "running (from snapshot)"
        somebody.go_on()
    for name in ("virt-manager.png", "virt-manager-snapshots.png"):
        assert (Path(pictures) / name).read_bytes().startswith(b"\x89PNG")
