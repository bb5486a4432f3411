"""Plays scenarios on both sides and compares them, step by step.

`python -m tests.parity.play [--diff] [--through WAY] [--virsh FOLDER] [NAME...]` prints the table of
script/parity.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from lab.console import ConsoleError, SyncConsole
from lab.guest import GuestImage, build
from tests import daemon
from tests.parity import domains, known, oracle
from tests.parity.normal import Normal
from tests.parity.scenario import FOLDER, Scenario, Step, load, names

_SECONDS = 90
"""The longest that a command may take on either side."""
_VIRTSNAP = Path(sys.executable).with_name("virtsnap")


@dataclass(frozen=True)
class Answer:
    """What a step ended with, as lines to compare: 'status N', 'out ...', 'err ...'."""

    status: int
    lines: list[str]


def _run(words: list[str], folder: Path, editor: str | None) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, as the user who runs this. Raises subprocess.TimeoutExpired."""
    kept = {key: value for key, value in os.environ.items() if key not in ("EDITOR", "VISUAL")}
    return subprocess.run(
        words,
        env=kept | {"LC_ALL": "C.UTF-8"} | ({"EDITOR": editor} if editor else {}),
        cwd=folder,
        timeout=_SECONDS,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        stdin=subprocess.DEVNULL,
        check=False,
    )


class Side:
    """One program: runs steps in a folder of its own."""

    user: int | None = None

    def __init__(self, folder: Path, guest: GuestImage | None) -> None:
        self.folder = folder
        self._guest = guest
        self._normal = Normal(folder)
        self._editor: str | None = None
        self._second = 0

    def play(self, steps: tuple[Step, ...]) -> list[Answer | None]:
        """The answer to every step; None for a step that asks nothing."""
        return [self._step(step) for step in steps]

    def program(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        raise NotImplementedError

    def itself(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """For a step of this side alone."""
        return self.program(words)

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        raise NotImplementedError

    def _step(self, step: Step) -> Answer | None:
        match step.kind:
            case "file":
                self._write(self.folder / step.text, step.body.replace("{dir}", str(self.folder)))
            case "editor":
                script = self.folder / ".editor"
                self._write(script, f'#!/bin/sh\nexec sed -i -e {shlex.quote(step.text)} "$1"\n')
                script.chmod(0o755)
                self._editor = str(script)
            case "guest":
                return self._ask_guest(step.text)
            case "sh":
                return self._answer(
                    self.run(["sh", "-c", step.text.replace("{dir}", str(self.folder))]), "sh"
                )
            case "await":
                return self._await(*step.text.split(" ", 1))
            case "domain":
                return self._domain(step)
            case "save":
                file, *words = step.words(self.folder)
                said = self.program(words)
                said.check_returncode()
                self._write(self.folder / file, said.stdout)
            case "virsh" | "virtsnap":
                if step.kind == self.name:
                    done = self._command(step.words(self.folder), self.itself)
                    if done.status:
                        raise RuntimeError(f"line {step.number}: {step.text}: {done.lines}")
            case _:
                return self._command(step.words(self.folder))
        return None

    name = ""

    def _command(
        self, words: list[str], program: Callable[[list[str]], subprocess.CompletedProcess[str]] | None = None
    ) -> Answer:
        named = words[0] == "snapshot-revert" or (words[0] == "snapshot-create" and len(words) == 2)
        if named:
            self._another_second()
        try:
            return self._answer((program or self.program)(words), shlex.join(words))
        except subprocess.TimeoutExpired:
            return Answer(-1, ["status none: it did not end"])
        finally:
            if named:
                self._second = int(time.time())

    def _another_second(self) -> None:
        # libvirt names files and snapshots by the second, and two within one collide.
        while int(time.time()) == self._second:
            time.sleep(1.005 - time.time() % 1)

    def _domain(self, step: Step) -> Answer:
        words = step.words(self.folder)
        made = domains.build(words, self.folder, self._guest)
        for image in made.images:
            if not image.path.exists():
                quiet = ["qemu-img", "create", "-q", "-f", image.format, str(image.path), domains.DISK_SIZE]
                self.run(quiet).check_returncode()
        file = self.folder / f"{words[0]}.xml"
        self._write(file, made.xml)
        return self._command(["define", str(file)])

    def _await(self, domain: str, state: str) -> Answer:
        for _ in range(_SECONDS * 4):
            said = self.program(["domstate", domain]).stdout.strip()
            if said == state:
                break
            # Neither program can be told to wait for a state.
            time.sleep(0.25)
        return Answer(0, [f"out {said}"])

    def _ask_guest(self, command: str) -> Answer:
        try:
            with SyncConsole(self.folder / "console") as console:
                console.wait_ready(120)
                result = console.run(command)
        except (OSError, ConsoleError) as error:
            return Answer(-1, [f"status none: {error}"])
        return Answer(result.rc, [f"status {result.rc}", *_lines("out", result.out)])

    def _answer(self, done: subprocess.CompletedProcess[str], command: str) -> Answer:
        out, err = self._normal.text(done.stdout, command), self._normal.text(done.stderr, command)
        lines = [f"status {done.returncode}", *_lines("out", out), *_lines("err", err)]
        return Answer(done.returncode, lines)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        if self.user is not None:
            os.chown(path, self.user, self.user)


class VirshSide(Side):
    name = "virsh"

    def __init__(
        self, folder: Path, guest: GuestImage | None, daemon: oracle.Oracle, virsh: str = "virsh"
    ) -> None:
        super().__init__(folder, guest)
        self.user = daemon.user
        self._daemon = daemon
        self._virsh = virsh
        daemon.own(folder)

    def program(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return self._daemon.virsh(
            words, program=self._virsh, timeout=_SECONDS, cwd=self.folder, editor=self._editor
        )

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return self._daemon.run(words, timeout=_SECONDS, cwd=self.folder)

    def end(self) -> None:
        """Nothing of it runs on, and the daemon knows no domain."""
        self._daemon.clear()


class ClientOnLibvirtd(VirshSide):
    """virtsnap in virsh's place: the same libvirtd answers, so nothing may differ but our own words."""

    def program(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        uri = f"qemu:///session?socket={self._daemon.socket}"
        return _run([str(_VIRTSNAP), "-c", uri, *words], self.folder, self._editor)


class VirtsnapSide(Side):
    name = "virtsnap"

    def __init__(self, folder: Path, guest: GuestImage | None, root: Path) -> None:
        super().__init__(folder, guest)
        self._program = [str(_VIRTSNAP), "-c", f"qemu:///embed?root={root}"]

    def program(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return self.run([*self._program, *words])

    def end(self) -> None:
        """Nothing of it runs on but guests."""

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return _run(words, self.folder, self._editor)


class DaemonSide(VirtsnapSide):
    """Another client on a virtsnapd of our own; what is for virtsnap alone goes past the daemon."""

    client: tuple[str, ...] = ()

    def __init__(self, folder: Path, guest: GuestImage | None, root: Path) -> None:
        super().__init__(folder, guest, root)
        root.parent.mkdir(parents=True, exist_ok=True)
        self._socket = root.with_suffix(".sock")
        self._process = daemon.start(root, self._socket)

    def program(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return self.run([*self.client, "-c", f"qemu:///system?socket={self._socket}", *words])

    def itself(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return super().program(words)

    def end(self) -> None:
        daemon.stop(self._process)


class VirshOnDaemon(DaemonSide):
    client = ("virsh",)

    def use(self, virsh: str) -> None:
        """Another one than the installed."""
        self.client = (virsh,)


class ClientOnDaemon(DaemonSide):
    client = (str(_VIRTSNAP),)


THROUGH = {"": VirtsnapSide, "virtsnapd": VirshOnDaemon, "client": ClientOnDaemon}
"""Who plays our side: virtsnap itself, real virsh on the daemon, virtsnap on the daemon. A fourth, LIBVIRTD,
has a libvirtd of its own."""
LIBVIRTD = "libvirtd"


@dataclass(frozen=True)
class Compared:
    """A step that both answered. `unexplained` are the lines of the diff that no rule allows."""

    step: Step
    virsh: Answer
    virtsnap: Answer
    diff: list[str]
    unexplained: list[str]


@dataclass
class Score:
    """One scenario's outcome."""

    scenario: str
    steps: list[Compared] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Steps where virsh did not do what the scenario says."""
    stale: list[known.Rule] = field(default_factory=list)
    """Rules that name this scenario and explained nothing in it."""
    seconds: float = 0

    @property
    def same(self) -> int:
        return sum(not step.diff for step in self.steps)

    @property
    def known(self) -> int:
        return sum(bool(step.diff) and not step.unexplained for step in self.steps)

    @property
    def good(self) -> bool:
        return not (self.wrong or self.stale or self.unknown)

    @property
    def unknown(self) -> list[Compared]:
        return [step for step in self.steps if step.unexplained]


class Stage:
    """Where scenarios are played: one daemon, one guest image, two folders.

    `other`: a second daemon, for virtsnap to be the client of.
    """

    def __init__(
        self,
        folder: Path,
        daemon: oracle.Oracle,
        rules: list[known.Rule],
        *,
        through: str = "",
        virsh: str = "virsh",
        other: oracle.Oracle | None = None,
    ) -> None:
        self.folder = folder
        self._through = through
        self._other = other
        self._virsh = virsh
        self._daemon = daemon
        self.rules = rules
        self._image: GuestImage | None = None

    def play(self, scenario: Scenario) -> Score:
        """Play on both sides at once, compare, and leave nothing running."""
        start = time.monotonic()
        guest = self._guest() if scenario.has_guest else None
        ours, theirs = self.folder / "o" / scenario.name, self.folder / "t" / scenario.name
        root = self.folder / "r" / scenario.name
        for folder in (ours, theirs):
            folder.mkdir(parents=True)
        virsh = VirshSide(theirs, guest, self._daemon, self._virsh)
        virtsnap = self._ours(ours, guest, root)
        try:
            with ThreadPoolExecutor(1) as other:
                answers = other.submit(virsh.play, scenario.steps)
                mine = virtsnap.play(scenario.steps)
                compared = zip(scenario.steps, answers.result(), mine, strict=True)
        finally:
            virsh.end()
            virtsnap.end()
            oracle.end_guests(ours, root)
        score = Score(scenario.name)
        for step, left, right in compared:
            if left is not None and right is not None:
                score.steps.append(self._compare(scenario.name, step, left, right))
                if (left.status != 0) != step.fails and step.kind in ("command", "domain"):
                    score.wrong.append(f"line {step.number}: {step.text}: {' / '.join(left.lines)}")
        # A rule for virtsnap's own work explains nothing of virsh's, or of libvirtd's.
        if self._through not in ("virtsnapd", LIBVIRTD):
            score.stale = [
                r for r in self.rules if scenario.name in r.scenarios and scenario.name not in r.used
            ]
        score.seconds = time.monotonic() - start
        return score

    def _ours(self, folder: Path, guest: GuestImage | None, root: Path) -> VirtsnapSide | ClientOnLibvirtd:
        if self._other is not None:
            return ClientOnLibvirtd(folder, guest, self._other)
        side = THROUGH[self._through](folder, guest, root)
        if isinstance(side, VirshOnDaemon):
            side.use(self._virsh)
        return side

    def _compare(self, scenario: str, step: Step, virsh: Answer, virtsnap: Answer) -> Compared:
        text = step.text if step.kind == "command" else f"{step.kind}: {step.text}"
        diff = known.difference(virsh.lines, virtsnap.lines)
        open_lines = [
            line for line in diff if not any(rule.explains(scenario, text, line) for rule in self.rules)
        ]
        return Compared(step, virsh, virtsnap, diff, open_lines)

    def _guest(self) -> GuestImage:
        if self._image is None:
            self._image = build()
        return self._image


@contextlib.contextmanager
def stage(*, through: str = "", virsh: Path | None = None) -> Iterator[Stage]:
    """A stage with its daemon; both are gone afterwards. Raises RuntimeError when libvirtd does not start.

    `virsh`: a folder with another release's program, which both sides use.
    """
    with tempfile.TemporaryDirectory(prefix="vs-par-", ignore_cleanup_errors=True) as text:
        folder = Path(text)
        folder.chmod(0o755)
        theirs = folder / "d"
        theirs.mkdir()
        program = "virsh"
        if virsh is not None:  # copied, since libvirtd's user may not come where it lies
            program = str(Path(shutil.copytree(virsh, folder / "v", symlinks=True), "virsh"))
        with contextlib.ExitStack() as daemons:
            running = daemons.enter_context(oracle.running(theirs))
            other = None
            if through == LIBVIRTD:
                second = folder / "e"
                second.mkdir()
                other = daemons.enter_context(oracle.running(second))
            yield Stage(folder, running, known.load(), through=through, virsh=program, other=other)


def _lines(kind: str, text: str) -> list[str]:
    return [f"{kind} {line}" for line in text.split("\n")] if text else []


def report(score: Score, *, everything: bool = False) -> list[str]:
    """What is wrong, with diffs; with `everything` the known differences too, their lines in brackets."""
    said = [f"!! virsh does otherwise than {score.scenario}.txt says: {line}" for line in score.wrong]
    said += [f"!! a rule of known.toml explains nothing here: {r.command} ({r.row})" for r in score.stale]
    for step in score.steps:
        if step.unexplained or (step.diff and everything):
            mark = "unknown" if step.unexplained else "known"
            said.append(f"-- {score.scenario}.txt:{step.step.number} ({mark}): {step.step.text}")
            said += [f"   {line}" if line in step.unexplained else f"   [{line}]" for line in step.diff]
    return said


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/parity", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios (patterns with * and ? too)")
    parser.add_argument("--diff", action="store_true", help="show every difference (as when names are given)")
    parser.add_argument(
        "--through",
        choices=["virtsnapd", "client", LIBVIRTD],
        default="",
        help="by way of the daemon: ask ours with real virsh too, or with virtsnap as its client; "
        "libvirtd: virtsnap as the client of a real libvirtd",
    )
    parser.add_argument(
        "--virsh", type=Path, metavar="FOLDER", help="of another release: the program in it (.cache/virsh)"
    )
    chosen = parser.parse_args()
    reason = oracle.missing()
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    every = names(through=chosen.through == "virtsnapd")
    wanted = [name for name in every if not chosen.names or any(fnmatch(name, p) for p in chosen.names)]
    if not wanted:
        parser.error(f"no such scenario in {FOLDER}")
    with stage(through=chosen.through, virsh=chosen.virsh) as where:
        good = _table(where, wanted, details=bool(chosen.names) or chosen.diff)
    return 0 if good else 1


def _table(where: Stage, wanted: list[str], *, details: bool) -> bool:
    width = max(map(len, wanted))
    print(f"{'scenario':{width}}  commands  same  known  unknown")
    sums = [0, 0, 0, 0]
    good = True
    for name in wanted:
        score = where.play(load(FOLDER / f"{name}.txt"))
        row = [len(score.steps), score.same, score.known, len(score.unknown)]
        sums = [a + b for a, b in zip(sums, row, strict=True)]
        good = good and score.good
        print(_row(name, width, row), f"  {score.seconds:.1f} s" if details else "", flush=True)
        if said := report(score, everything=details):
            print("\n".join(said))
    print(_row("all", width, sums))
    print(
        f"score: {sums[1] + sums[2]} of {sums[0]} ({sums[1]} the same, {sums[2]} as in docs/differences.md)"
    )
    return good


def _row(name: str, width: int, row: list[int]) -> str:
    return f"{name:{width}}  {row[0]:8}  {row[1]:4}  {row[2]:5}  {row[3]:7}"


if __name__ == "__main__":
    sys.exit(main())
