"""The program itself, as a process, over the service inside it and a real QEMU without a guest."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import virtsnap
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk, SnapshotState
from virtsnap.store.database import open_store

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed"),
]

PROGRAM = Path(sysconfig.get_path("scripts"), "virtsnap")

XML = """<domain type='qemu'>
  <name>vm</name>
  <memory unit='MiB'>256</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>
    <serial type='pty'/>
  </devices>
</domain>
"""


class Program:
    """Runs `virtsnap -c URI`; its root and the domain's files are in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.command = [str(PROGRAM), "-c", f"qemu:///embed?root={self.root}"]

    def __call__(self, *words: str) -> str:
        done = subprocess.run([*self.command, *words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), (words, done.stderr)
        return done.stdout

    def refused(self, *words: str) -> str:
        done = subprocess.run([*self.command, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if path.is_file()} - {"vm.xml"}


@pytest.fixture(name="program")
def _program(tmp_path: Path) -> Iterator[Program]:
    disk = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "16M"], check=True)
    program = Program(tmp_path)
    (tmp_path / "vm.xml").write_text(XML.format(disk=disk))
    program("define", str(tmp_path / "vm.xml"))
    yield program
    subprocess.run([*program.command, "destroy", "vm"], capture_output=True, check=False)


def test_there_and_back_and_nothing_left(program: Program) -> None:
    memory = program.folder / "s1.mem"
    assert program("start", "vm") == "Domain 'vm' started\n\n"
    assert (
        program("snapshot-create-as", "vm", "s1", "--memspec", str(memory)) == "Domain snapshot s1 created\n"
    )
    assert program("snapshot-create-as", "vm", "s2", "--disk-only") == "Domain snapshot s2 created\n"
    assert program("snapshot-list", "vm", "--tree") == "s1\n  |\n  +- s2\n    \n\n"
    before = program.files()
    assert "Plan: revert snapshot 's1'" in program("snapshot-revert", "vm", "s1", "--dry-run")
    assert program.files() == before
    assert program("snapshot-revert", "vm", "s1") == "Domain snapshot s1 reverted\n\n"
    assert program("domstate", "vm", "--reason") == "running (from snapshot)\n\n"
    assert program("snapshot-delete", "vm", "s1", "--children") == "Domain snapshot s1 deleted\n\n"
    assert program.files() == {"disk.qcow2"}
    assert program("-q", "domblklist", "vm") == f" vda   {program.folder}/disk.qcow2\n"
    assert program("destroy vm; undefine vm; list --all").endswith("--------------------\n\n")


def test_refusals_touch_nothing(program: Program) -> None:
    program("start", "vm")
    assert program.refused("snapshot-create-as", "vm", "x", "--memspec", "/nonexistent/x") != ""
    assert program.refused("snapshot-create-as", "vm", "x", "--disk-only", "--diskspec", "vdz") == (
        "error: unsupported configuration: no disk named 'vdz'\n"
    )
    assert program.refused("start", "vm") == "error: Domain is already active\n"
    assert program.refused("-r", "destroy", "vm").endswith("read only access prevents virDomainDestroy\n")
    assert program.files() == {"disk.qcow2"}
    assert program("domstate", "vm") == "running\n\n"


def test_an_interrupt_leaves_the_domain_as_it_was(program: Program) -> None:
    """Wherever the interrupt falls: all of the snapshot, or nothing of it."""
    program("start", "vm")
    memory = program.folder / "s.mem"
    words = [*program.command, "snapshot-create-as", "vm", "s", "--memspec", str(memory)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        # The memory's file is the first thing made: it says that the operation is under way.
        while not memory.exists() and process.poll() is None:
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read() if process.stderr is not None else ""
    assert "Traceback" not in said
    names = program("-q", "snapshot-list", "vm", "--name").split()
    if names:
        assert program.files() == {"disk.qcow2", "disk.s", "s.mem"}
    else:
        assert (process.returncode, program.files()) == (130, {"disk.qcow2"})
    assert program("domstate", "vm") == "running\n\n"


def test_the_synchronous_api(program: Program) -> None:
    with virtsnap.open(program.command[2]) as connection:
        domain = connection.lookupByName("vm")
        assert domain.state()[0] == virtsnap.VIR_DOMAIN_SHUTOFF
        snapshot = domain.snapshotCreateXML(
            "<domainsnapshot><name>off</name></domainsnapshot>", virtsnap.SnapshotCreate.DISK_ONLY
        )
        assert domain.snapshotCurrent() == snapshot
        domain.revertToSnapshot(snapshot)
        assert snapshot.delete() == 0
    assert program.files() == {"disk.qcow2"}


def _imported(words: Sequence[str]) -> set[str]:
    """The modules that a run of the program imports: what its start costs, whatever else the machine does."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}


def test_the_version_needs_next_to_nothing() -> None:
    imported = _imported([str(PROGRAM), "--version"])
    assert "virtsnap.cli.main" in imported
    assert not imported & {"asyncio", "sqlite3", "lxml.etree", "virtsnap.service.local"}


def test_two_hundred_snapshots_are_listed_without_what_only_changes_need(program: Program) -> None:
    store = open_store(program.root)
    try:
        domain = store.domain_by_name("vm")
        assert domain is not None
        with store.transaction() as transaction:
            for number in range(200):
                disk = SnapshotDisk("vda", Location.EXTERNAL, path=f"/x/{number}", format="qcow2")
                parent = f"s{number - 1}" if number else None
                transaction.put_snapshot(
                    domain.uuid,
                    Snapshot(
                        f"s{number}",
                        1_700_000_000 + number,
                        SnapshotState.RUNNING,
                        parent=parent,
                        memory=Location.EXTERNAL,
                        disks=(disk,),
                        domain_xml=domain.config_xml,
                    ),
                )
    finally:
        store.close()
    assert len(program("-q", "snapshot-list", "vm").splitlines()) == 200
    imported = _imported([*program.command, "snapshot-list", "vm"])
    assert "virtsnap.service.local" in imported
    assert not imported & {"virtsnap.plan.create", "virtsnap.engine.runner", "virtsnap.machine.command_line"}
