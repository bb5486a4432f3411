"""The differences that are meant: rules in known.toml, each standing on a row of docs/differences.md.

A rule names scenarios and a command (with * and ?) and says, in regular expressions, which lines only virsh
and which only virtsnap may print there. Lines begin with 'out ', 'err ' or 'status '.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

RULES = Path(__file__).parent / "known.toml"
DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "differences.md"


@dataclass
class Rule:
    scenarios: list[str]
    """By name; the rule must explain something in each of them."""
    command: str
    row: str
    """How the row's first cell in docs/differences.md begins."""
    virsh: list[str] = field(default_factory=list)
    virtsnap: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    """The scenarios where it explained a line."""

    def explains(self, scenario: str, command: str, line: str) -> bool:
        """Is this line of a diff ('-' or '+' before it) one that the rule allows?"""
        if not (scenario in self.scenarios and fnmatchcase(command, self.command)):
            return False
        patterns = self.virsh if line[0] == "-" else self.virtsnap
        if any(re.fullmatch(pattern, line[1:], re.S) for pattern in patterns):
            self.used.add(scenario)
            return True
        return False


def load(path: Path = RULES) -> list[Rule]:
    """Raises TypeError for a rule with an unknown or a missing key."""
    return [Rule(**entry) for entry in tomllib.loads(path.read_text()).get("known", [])]


def rows(document: Path = DOCUMENT) -> list[str]:
    """The first cells of the tables of docs/differences.md."""
    lines = [line for line in document.read_text().split("\n") if line.startswith("| ")]
    return [line.split("|")[1].strip() for line in lines]


def difference(virsh: list[str], virtsnap: list[str]) -> list[str]:
    """The lines that only one has, '-' before virsh's and '+' before ours."""
    return [line[0] + line[2:] for line in difflib.ndiff(virsh, virtsnap) if line.startswith(("- ", "+ "))]
