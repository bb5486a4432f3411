"""The machine of real libvirt against ours: every definition of tests/machine/corpus, asked again.

`python -m tests.parity.test_machine [NAME...]` writes libvirt's answers to tests/machine/golden, from which
tests/machine runs where there is no libvirt.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.guest_visible import pairs, reduce
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.command_line import Launch, command_line
from virtsnap.machine.complete import complete
from virtsnap.machine.firmware import from_json
from virtsnap.machine.host import Host

pytestmark = pytest.mark.parity

MACHINE = Path(__file__).parent.parent / "machine"
CORPUS = sorted(path.stem for path in (MACHINE / "corpus").glob("*.xml"))
NO_COMMAND_LINE = {"pc-host-model", "q35-host-model"}
"""Refused by us, by name."""
VERSION = "11.3"
FIRMWARE = Path("/usr/share/qemu/firmware")
NVRAM_DIR = "/ROOT/lib/qemu/nvram"


_REAPER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
child = os.spawnvp(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
while True:
    pid, status = os.wait()
    if pid == child:
        sys.exit(os.waitstatus_to_exitcode(status))
"""
"""libvirt probes QEMU in daemons of its own and waits until they are gone, which takes as long as their
parent takes to reap them. Process 1 may be in no hurry, so this one adopts them (PR_SET_CHILD_SUBREAPER)."""


class Oracle:
    """A private libvirt inside virsh, with its files in a folder of its own; no daemon."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        # Probing QEMU as root finds the same /dev/kvm as libvirt's check of its cache does; otherwise it
        # may probe again every time.
        settings = Path(folder) / "etc" / "qemu.conf"
        settings.parent.mkdir(exist_ok=True)
        settings.write_text('user = "root"\ngroup = "root"\n')

    def run(self, command: str) -> str:
        """One virsh session; raises RuntimeError with what it said when it fails."""
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                _REAPER,
                "virsh",
                "-q",
                "-c",
                f"qemu:///embed?root={self.folder}",
                command,
            ],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return done.stdout

    def ask(self, name: str) -> tuple[str, list[str]]:
        """The inactive XML and QEMU's argv for a definition of the corpus."""
        file = shlex.quote(str(MACHINE / "corpus" / f"{name}.xml"))
        answer = self.run(
            f"define {file}; dumpxml --inactive {name}; echo @@@;"
            f" domxml-to-native qemu-argv --domain {name}; echo @@@; undefine --keep-nvram {name}"
        )
        xml, native, _ = answer.split("@@@")
        words = shlex.split(native)
        first = next(i for i, word in enumerate(words) if word.startswith("/") and "qemu" in word)
        argv = [word.replace(self.folder, "/ROOT") for word in words[first:]]
        return xml.strip("\n").replace(self.folder, "/ROOT") + "\n", argv


def missing() -> str | None:
    """Why there is no oracle here; None where there is one."""
    if shutil.which("virsh") is None or shutil.which("libvirtd") is None:
        return "no libvirt here to compare with"
    version = subprocess.run(["virsh", "--version"], capture_output=True, text=True, check=False).stdout
    if not version.startswith(VERSION):
        return f"libvirt {version.strip()} is not the {VERSION} we compare with"
    return None


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    folder = tempfile.mkdtemp(prefix="vs-oracle-")
    try:
        yield Oracle(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def host(oracle: Oracle) -> Host:
    """What libvirt found about this machine's QEMU."""
    aliases = {}
    for alias in ("q35", "pc"):
        machine = re.search(r"machine='([^']*)'", oracle.ask(f"{alias}-bare")[0])
        assert machine is not None
        aliases[alias] = machine[1]
    emulator = re.search(r"<emulator>(.*)</emulator>", oracle.ask("q35-bare")[0])
    assert emulator is not None
    descriptors = sorted(FIRMWARE.glob("*.json"), key=lambda path: path.name)
    firmwares = [found for path in descriptors if (found := from_json(path.read_text())) is not None]
    return Host(
        emulator=emulator[1], machine_aliases=aliases, firmwares=tuple(firmwares), nvram_dir=NVRAM_DIR
    )


@pytest.mark.parametrize("name", CORPUS)
def test_same_machine(oracle: Oracle, host: Host, name: str) -> None:
    if "uefi" in name and not host.firmwares:
        pytest.skip("no UEFI firmware here")
    xml, argv = oracle.ask(name)
    definition = DomainDefinition.parse((MACHINE / "corpus" / f"{name}.xml").read_text())
    ours = complete(definition, host)
    assert ours.to_xml() == xml
    if name not in NO_COMMAND_LINE:
        line = command_line(ours, Launch(run_dir="/run/x", now=1_700_000_000))
        assert reduce(pairs(line.argv)) == reduce(pairs(argv))


def renew(names: list[str]) -> None:
    """Write libvirt's answers to the golden folder."""
    folder = tempfile.mkdtemp(prefix="vs-oracle-")
    try:
        for name in names or CORPUS:
            xml, argv = Oracle(folder).ask(name)
            (MACHINE / "golden" / f"{name}.xml").write_text(xml)
            if name in NO_COMMAND_LINE:
                continue
            lines = [argv[0], *(f"{option} {value}".rstrip() for option, value in pairs(argv))]
            (MACHINE / "golden" / f"{name}.args").write_text("\n".join(lines) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    renew(sys.argv[1:])
