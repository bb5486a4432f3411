"""Events that a guest causes, without a guest: boot sectors that do one thing to the machine.

virsh on both sides, by a libvirtd and by virtsnapd; what `event --all --loop` says must be the same.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import NAMESPACE_DNS, uuid5

import pytest

from tests import daemon
from tests.parity import oracle
from tests.parity.known import difference
from tests.parity.test_events import MARK, Side, once

pytestmark = pytest.mark.parity

HALT = "f4 eb fd"  # hlt; jmp back
CODES = {
    "rtc": f"b0 09 e6 70 b0 30 e6 71 {HALT}",  # the clock's year: 30
    "watchdog": f"ba 43 04 b0 0f ee {HALT}",  # ib700: bark in 0 seconds
    "panic": f"ba 05 05 b0 01 ee {HALT}",  # pvpanic
    "sleep": f"ba 04 06 b8 00 24 ef {HALT}",  # ACPI: S3
    "still": HALT,
}
DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
<on_crash>{on_crash}</on_crash><on_reboot>{on_reboot}</on_reboot>
<pm><suspend-to-mem enabled='yes'/></pm>
<devices><disk type='file'><driver name='qemu' type='{format}'/><source file='{folder}/{name}.img'/>
<target dev='vda' bus='virtio'/>{readonly}</disk>{devices}<memballoon model='none'/></devices></domain>"""
WATCHDOG = "<watchdog model='ib700' action='{}'/>"
PANIC = "<panic model='isa'/>"
DRIVE = "<disk type='file' device='cdrom'><source file='{folder}/a.iso'/><target dev='hdc' bus='ide'/></disk>"
SCREEN = "<graphics type='vnc' port='{port}' listen='127.0.0.1'/><video><model type='vga'/></video>"
RACES = re.compile("Suspended|Shutdown Finished after host request")
WHEN = re.compile("timestamp='[^']*'")
NUMBERS = re.compile(r"\d{4,}")
"""Ports, and offsets in seconds."""


def image(folder: Path, name: str, code: str) -> Path:
    path = folder / f"{name}.img"
    path.write_bytes(bytes.fromhex(code).ljust(510, b"\0") + b"\x55\xaa")
    os.truncate(path, 16 << 20)  # SeaBIOS reads no smaller disks
    return path


def unreadable(folder: Path, name: str) -> Path:
    """A qcow2 image whose first table is at an odd place."""
    path = folder / f"{name}.img"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "16M"], check=True)
    with path.open("r+b") as file:
        file.seek(40)
        table = int.from_bytes(file.read(8))
        file.seek(table)
        file.write((1 << 63 | 0x50200).to_bytes(8))
    return path


def define(side: Side, name: str, devices: str = "", *, code: str | None = None, **words: str) -> None:
    made = unreadable(side.folder, name) if code is None else image(side.folder, name, CODES[code])
    (side.folder / "a.iso").write_bytes(bytes(1 << 16))
    for path in (made, side.folder / "a.iso"):
        os.chown(path, side.folder.stat().st_uid, side.folder.stat().st_gid)
    wanted = {"on_crash": "destroy", "on_reboot": "restart", **words}
    xml = DOMAIN.format(
        name=name,
        folder=side.folder,
        format="qcow2" if code is None else "raw",
        readonly="<readonly/>" if code is None else "",  # else QEMU gives the image up
        devices=devices.format(folder=side.folder),
        uuid=uuid5(NAMESPACE_DNS, name),
        **wanted,
    )
    (side.folder / f"{name}.xml").write_text(xml)
    side.run("define", f"{name}.xml")


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    reason = oracle.missing()
    if reason is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="vs-pr-") as name:
        os.chmod(name, 0o755)
        lives, theirs, ours = (Path(name, part) for part in "dto")
        for folder in (lives, theirs, ours):
            folder.mkdir()
        with oracle.running(lives) as libvirt:
            libvirt.own(theirs)
            user = libvirt.user
            as_daemon = {"env": libvirt.environment, "user": user, "group": user}
            as_daemon["extra_groups"] = None if user is None else []
            served = daemon.start(ours / "root", ours / "sock")
            uri = f"qemu:///system?socket={ours}/sock"
            found = (
                Side("libvirtd", theirs, ["virsh", "-c", "qemu:///session"], as_daemon),
                Side("virtsnapd", ours, ["virsh", "-c", uri]),
            )
            for side in found:
                define(side, MARK, code="still")
            try:
                yield found
            finally:
                daemon.stop(served)
                oracle.end_guests(ours)


PROVOKED = {
    "rtc": ("rtc", "", "rtc-change", {}),
    "watchdog-pause": ("watchdog", WATCHDOG.format("pause"), "Suspended", {}),
    "panic-preserve": ("panic", PANIC, "Crashed", {"on_crash": "preserve"}),
    "sleep": ("sleep", "", "event 'lifecycle' for domain 'vm': PMSuspended", {}),
    "io-error": (None, "", "io-error", {}),
}


def told(side: Side, name: str) -> list[str]:
    code, devices, until, words = PROVOKED[name]
    define(side, "vm", devices, code=code, **words)
    found = []
    with side.watching() as lines:
        side.told(lines)
        side.run("start", "vm")
        for line in lines:
            if side._counts(line):
                found.append(line.rstrip("\n").replace(str(side.folder), "{dir}"))
            if until in line and f"'{MARK}'" not in line:
                break
        if name == "sleep":  # what it does when it is awake again is its own business
            side.run("dompmwakeup", "vm")
            for line in lines:
                found.append(line.rstrip("\n"))
                if "wakeup" in line and "lifecycle" in line:
                    break
            side.run("destroy", "vm")
        else:
            found += _end(side, lines)
    side.run("undefine", "vm")
    return [NUMBERS.sub("N", line) for line in once(found)]


def _end(side: Side, lines: Iterator[str]) -> list[str]:
    """What else is told; how it stands; and what is told of its end."""
    found = side.told(lines)
    state = side.ask("domstate", "vm", "--reason")
    said = [line for line in side.ask("dominfo", "vm").split("\n") if "I/O error" in line]
    messages = [WHEN.sub("", line.replace(str(side.folder), "{dir}")) for line in said]
    if "shut off" not in state:
        side.run("destroy", "vm")
    return [*found, f"$ {state}", *messages, *side.told(lines)]


@pytest.mark.parametrize("name", PROVOKED)
def test_what_a_guest_causes(sides: tuple[Side, Side], name: str) -> None:
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(told, sides[0], name)
        ours = told(sides[1], name)
        theirs = waiting.result()
    if "panic" in name:  # threads of libvirtd's race for who tells first how it stands, or ends
        theirs, ours = ([line for line in lines if not RACES.search(line)] for lines in (theirs, ours))
    assert difference(theirs, ours) == []
    assert any(PROVOKED[name][2] in line for line in theirs)
    if name == "io-error":
        assert any("message='Input/output error'" in line for line in theirs)


def _look(port: int) -> None:
    """Connect to the screen, as far as it shows something, and go."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as screen:
        for heard, said in ((12, b"RFB 003.008\n"), (2, b"\1"), (4, b"\1"), (24, b"")):
            left = heard
            while left:
                left -= len(screen.recv(left))
            screen.sendall(said)


def acted(side: Side) -> list[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    define(side, "still", DRIVE + SCREEN.replace("{port}", str(port)), code="still")
    found = []
    with side.watching() as lines:
        side.told(lines)
        side.run("start", "still")
        found += side.told(lines)
        for words in (
            ("change-media", "still", "hdc", "--eject"),
            ("change-media", "still", "hdc", f"{side.folder}/a.iso", "--update"),
            ("change-media", "still", "hdc", "--eject", "--force"),
            ("inject-nmi", "still"),
        ):
            side.run(*words)
            found += side.told(lines)
        _look(port)
        for line in lines:
            if side._counts(line):
                found.append(line.rstrip("\n"))
            if "'graphics'" in line and "disconnect" in line:
                break
        side.run("destroy", "still")
        found += side.told(lines)
    side.run("undefine", "still")
    return [NUMBERS.sub("N", line) for line in once(found)]


def test_what_clients_cause(sides: tuple[Side, Side]) -> None:
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(acted, sides[0])
        ours = acted(sides[1])
        theirs = waiting.result()
    assert difference(theirs, ours) == []
    assert {"tray-change", "graphics"} <= {line.split("'")[1] for line in theirs if line.startswith("event")}
