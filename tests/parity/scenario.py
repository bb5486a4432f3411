"""Scenario files: what both programs are told, line by line.

    # a comment
    domain: vm vda=a.qcow2 vdb=b.raw,snapshot=no     a domain without a system, its images made, and defined
    domain: vm guest vda=a.qcow2                     one with the lab's Linux guest
    snapshot-create-as vm s1 --disk-only             a command: must succeed with virsh
    ! snapshot-info vm nope                          a command that virsh refuses
    virsh: ...   virtsnap: ...                       a command for one side only; must succeed; not compared
    guest: mem put one                               a line of shell in the guest; status and output compared
    sh: qemu-img info --output=json a.qcow2          a line of shell in the scenario's folder; the same
    await: vm shut off                               go on when domstate says so
    save: s1.xml snapshot-dumpxml vm s1              a command whose output goes into a file in the folder
    editor: s/old/new/                               $EDITOR from here on: sed with this script
    file: s.xml                                      the indented lines that follow are the file's content

`{dir}` stands for the scenario's folder. Words are split as by a shell.
"""

from __future__ import annotations

import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "scenarios"
_KINDS = ("domain", "virsh", "virtsnap", "guest", "sh", "await", "save", "editor", "file")


class BadScenario(Exception):
    """A line cannot be understood; the text names it."""


@dataclass(frozen=True)
class Step:
    """One line. `kind` is 'command' or the word before its colon."""

    number: int
    kind: str
    text: str
    fails: bool = False
    """virsh refuses it."""
    body: str = ""
    """A file's content."""

    @property
    def compared(self) -> bool:
        """Is there an answer that both sides give?"""
        return self.kind in ("command", "domain", "guest", "sh", "await")

    def words(self, folder: Path) -> list[str]:
        """The command's words."""
        return shlex.split(self.text.replace("{dir}", str(folder)))


@dataclass(frozen=True)
class Scenario:
    name: str
    steps: tuple[Step, ...]

    @property
    def has_guest(self) -> bool:
        return any(step.kind == "guest" for step in self.steps)


def load(path: Path) -> Scenario:
    """Raises BadScenario."""
    return parse(path.stem, path.read_text())


def parse(name: str, text: str) -> Scenario:
    """Raises BadScenario."""
    steps: list[Step] = []
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if not line.strip() or line.startswith("#"):
            continue
        if line[0].isspace():
            raise BadScenario(f"{name}:{at}: an indented line that belongs to no file")
        kind, colon, rest = line.partition(":")
        if not colon or kind not in _KINDS:
            if line.split()[0].endswith(":"):
                raise BadScenario(f"{name}:{at}: there is no '{line.split()[0]}'")
            steps.append(Step(at, "command", line.removeprefix("!").strip(), line.startswith("!")))
            continue
        body, number = "", at
        if kind == "file":
            end = at
            while end < len(lines) and (not lines[end].strip() or lines[end][0].isspace()):
                end += 1
            body = textwrap.dedent("\n".join(lines[at:end])).strip("\n") + "\n"
            at = end
        steps.append(Step(number, kind, rest.strip(), body=body))
    return Scenario(name, tuple(steps))


def names(*, through: bool = False) -> list[str]:
    """All scenarios; `through`: also those of what only the daemon's clients can ask for."""
    folders = [FOLDER, FOLDER / "through"] if through else [FOLDER]
    return sorted(str(path.relative_to(FOLDER))[:-4] for folder in folders for path in folder.glob("*.txt"))
