"""The same life on both sides, from the definition to its end, and what `event --all --loop` says of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.console import SyncConsole
from lab.guest import build as build_guest
from tests.parity import domains, oracle
from tests.parity.known import difference
from tests.service.local_domain import kill_all, processes_naming

pytestmark = pytest.mark.parity

PROGRAM = Path(sys.executable).with_name("virtsnap")
MARK = "mark"
"""A domain that is defined again after each command: when that is told, all before it was."""
IGNORED = re.compile(r"event '(migration-iteration|job-completed)'|\t")
"""docs/differences.md"""

LIFE = """
define vm.xml
define vm.xml
domrename vm wm
domrename wm vm
start vm
suspend vm
suspend vm
resume vm
define vm.xml
reset vm
snapshot-create-as vm int
snapshot-create-as vm disk --disk-only
snapshot-create-as vm full --memspec {dir}/full.mem
snapshot-create-as vm live --memspec {dir}/live.mem --live
snapshot-delete vm live
snapshot-create-as vm halt --memspec {dir}/halt.mem --halt
unlike: snapshot-delete vm halt
snapshot-revert vm full
snapshot-revert vm full --paused
snapshot-revert vm disk
snapshot-revert vm disk --running
snapshot-revert vm disk --paused
snapshot-revert vm full
save vm {dir}/image
restore {dir}/image
managedsave vm
start vm
managedsave vm --paused
start vm
managedsave vm
start vm --paused
resume vm
destroy vm
start vm --paused
destroy vm
restore {dir}/image --paused
undefine vm
destroy vm
define vm.xml
undefine vm
"""

JOBS = """
define vm.xml
start vm
snapshot-create-as vm a --disk-only --no-metadata
snapshot-create-as vm b --disk-only --no-metadata
blockcommit vm vda --top {dir}/a.a --base {dir}/a.qcow2 --wait
blockcommit vm vda --active --pivot --wait
snapshot-create-as vm c --disk-only --no-metadata
blockpull vm vda --wait
blockcopy vm vda {dir}/copy.qcow2 --wait --transient-job
blockjob vm vda --abort
blockcopy vm vda {dir}/copy2.qcow2 --wait --pivot --transient-job
destroy vm
undefine vm
define broken.xml
fails: start broken
undefine broken
define missing.xml
fails: start missing
undefine missing
"""
ENDS = """
define vm.xml
start vm
guest: (sleep 1; reboot -f) >/dev/null 2>&1 &
until: event 'reboot'
guest: (sleep 1; poweroff -f) >/dev/null 2>&1 &
until: Stopped
undefine vm
"""
CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"


@dataclass
class Side:
    """One program on its own folder, and what its watcher has printed."""

    name: str
    folder: Path
    words: list[str]
    options: dict[str, object] = field(default_factory=dict)

    def run(self, *words: str) -> None:
        self.ask(*words)

    def ask(self, *words: str, fails: bool = False) -> str:
        """What it prints; it must succeed, or fail."""
        done = subprocess.run(
            [*self.words, *words],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **self.options,  # type: ignore[call-overload]
        )
        assert done.returncode == int(fails), (self.name, words, done.stderr)
        return done.stdout.strip()

    @contextmanager
    def watching(self) -> Iterator[Iterator[str]]:
        self.run("define", "mark.xml")
        watcher = subprocess.Popen(
            ["stdbuf", "-oL", *self.words, "event", "--all", "--loop"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            **self.options,  # type: ignore[call-overload]
        )
        assert watcher.stdout is not None
        try:
            first = watcher.stdout
            os.set_blocking(first.fileno(), False)
            # Whether it watches already nobody can see: something happens until it tells.
            while not first.readline():
                self.run("define", "mark.xml")
            os.set_blocking(first.fileno(), True)
            yield iter(first)
        finally:
            watcher.terminate()
            watcher.wait()
            watcher.stdout.close()

    def told(self, lines: Iterator[str]) -> list[str]:
        """What was told until now, from the last mark on."""
        self.run("domrename", MARK, "done")
        self.run("domrename", "done", MARK)
        found = []
        for line in lines:
            if "'done': Undefined" in line:
                break
            if self._counts(line):
                found.append(line.rstrip("\n").replace(str(self.folder), "{dir}"))
        return found

    def _counts(self, line: str) -> bool:
        return f"'{MARK}'" not in line and "'done'" not in line and not IGNORED.match(line)

    def live(self, script: str) -> list[str]:
        """The log: each command, and what was told of it."""
        log = []
        with self.watching() as lines:
            self.told(lines)
            for command in script.strip().split("\n"):
                log.append(f"$ {command}")
                if command.startswith("unlike: "):
                    # docs/differences.md: libvirt starts a QEMU for it, whose jobs and end are told.
                    self.run(*command.split()[1:])
                    self.told(lines)
                    continue
                if command.startswith("guest: "):
                    self._guest(command.removeprefix("guest: "))
                    continue  # what comes of it is waited for
                elif command.startswith("fails: "):
                    self.ask(*command.split()[1:], fails=True)
                elif command.startswith("until: "):
                    for line in lines:
                        if self._counts(line):
                            log.append(line.rstrip("\n"))
                        if command.removeprefix("until: ") in line:
                            break
                else:
                    if command.startswith("snapshot-revert"):
                        # libvirt names the new layer by the second, and gives up when there is one.
                        time.sleep(1.005 - time.time() % 1)
                    self.run(*command.replace("{dir}", str(self.folder)).split())
                log += self.told(lines)
        return log

    def _guest(self, command: str) -> None:
        with SyncConsole(self.folder / "console") as console:
            console.wait_ready(120)
            console.check(command)


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    reason = oracle.missing()
    if reason is not None:
        pytest.skip(reason)
    # A short path, since sockets are in it.
    with tempfile.TemporaryDirectory(prefix="vs-ev-") as name:
        os.chmod(name, 0o755)
        daemon, theirs, ours = (Path(name, part) for part in "dto")
        for folder in (daemon, theirs, ours):
            folder.mkdir()
        with oracle.running(daemon) as libvirt:
            libvirt.own(theirs)
            user = libvirt.user
            as_daemon = {"env": libvirt.environment, "user": user, "group": user}
            as_daemon["extra_groups"] = None if user is None else []
            try:
                yield (
                    Side("virsh", theirs, ["virsh", "-c", "qemu:///session"], as_daemon),
                    Side("virtsnap", ours, [str(PROGRAM), "-c", f"qemu:///embed?root={ours}/root"]),
                )
            finally:
                kill_all(processes_naming(ours))


def prepare(side: Side, words: list[str], guest: bool) -> None:
    for name, given in (("vm", words), (MARK, [])):
        made = domains.build([name, *given], side.folder, build_guest() if guest and given else None)
        xml = made.xml.replace("</devices>", CHANNEL + "</devices>") if guest and given else made.xml
        (side.folder / f"{name}.xml").write_text(xml)
        for image in made.images:
            quiet = ["qemu-img", "create", "-q", "-f", image.format, str(image.path), domains.DISK_SIZE]
            subprocess.run(quiet, check=True)
            os.chown(image.path, side.folder.stat().st_uid, side.folder.stat().st_gid)
    # QEMU does not take one's option, and the other's image is not there.
    schema = "http://libvirt.org/schemas/domain/qemu/1.0"
    nonsense = f"<commandline xmlns='{schema}'><arg value='-nonsense'/></commandline></domain>"
    for name, words, end in (("broken", [], nonsense), ("missing", ["vda=missing.qcow2"], "</domain>")):
        made = domains.build([name, *words], side.folder, None)
        (side.folder / f"{name}.xml").write_text(made.xml.replace("</domain>", end))


@pytest.mark.timeout(240)
def test_a_life(sides: tuple[Side, Side]) -> None:
    for side in sides:
        prepare(side, ["vda=a.qcow2"], guest=False)
    assert compared(sides, LIFE) > 80


@pytest.mark.timeout(240)
def test_block_jobs(sides: tuple[Side, Side]) -> None:
    for side in sides:
        prepare(side, ["vda=a.qcow2"], guest=False)
    assert compared(sides, JOBS) > 15


@pytest.mark.timeout(240)
def test_a_guest_that_ends_itself(sides: tuple[Side, Side]) -> None:
    for side in sides:
        prepare(side, ["guest", "vda=a.qcow2"], guest=True)
    assert compared(sides, ENDS) > 8


def once(log: list[str]) -> list[str]:
    """Events that follow on each other, the same, as one: a guest asks for its reset until it happens, and
    QEMU tells of each time, a moment later if it likes."""
    found, last = [], ""
    for line in log:
        if not line.startswith("event") or line != last:
            found.append(line)
        if line.startswith("event"):
            last = line
    return found


def compared(sides: tuple[Side, Side], script: str) -> int:
    """How many events both have told, all of them the same."""
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(sides[0].live, script)
        virtsnap = sides[1].live(script)
        virsh = waiting.result()
    assert difference(once(virsh), once(virtsnap)) == []
    return sum(line.startswith("event") for line in virsh)
