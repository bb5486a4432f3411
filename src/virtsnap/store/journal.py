"""The journal of a domain's one open operation, and the history of those that ended, as values.

The rows are written through `database.Transaction`; what recovery does with them is `engine`.
"""

from __future__ import annotations

import json
from typing import Literal

from virtsnap.model.frozen import dataclass
from virtsnap.store.rows import Row

Phase = Literal["begin", "done", "undone"]
"""'begin' is written before a step touches the world; 'done' and 'undone' after."""

HISTORY_LENGTH = 50
"""Closed operations kept per domain."""


@dataclass(frozen=True)
class JournalStep:
    """One line: step `step_index` of the plan reached `phase` at `at` (seconds since the epoch)."""

    step_index: int
    phase: Phase
    at: float


@dataclass(frozen=True)
class JournalEntry:
    """An operation that has been opened and not closed: running now, or left by a process that died."""

    uuid: str
    operation: str
    plan_json: str
    facts_json: str
    holder: str
    opened_at: float
    committed: bool
    steps: tuple[JournalStep, ...] = ()

    def phases(self) -> dict[int, Phase]:
        """The last phase of every step that has one."""
        return {step.step_index: step.phase for step in self.steps}

    def to_undo(self) -> list[int]:
        """Steps begun and not undone, last first: what recovery takes back before the commit."""
        return sorted((index for index, phase in self.phases().items() if phase != "undone"), reverse=True)


@dataclass(frozen=True)
class HistoryEntry:
    """A closed operation and how it ended."""

    entry: JournalEntry
    outcome: str
    closed_at: float


JOURNAL_COLUMNS = "uuid, operation, plan, facts, holder, opened_at, committed"
HISTORY_COLUMNS = JOURNAL_COLUMNS + ", steps, outcome, closed_at"


def journal_entry(row: Row, steps: tuple[JournalStep, ...]) -> JournalEntry:
    """From a row of JOURNAL_COLUMNS."""
    uuid, operation, plan, facts, holder, opened_at, committed = row
    return JournalEntry(uuid, operation, plan, facts, holder, opened_at, bool(committed), steps)


def history_row(entry: JournalEntry, outcome: str, closed_at: float) -> Row:
    """In the order of HISTORY_COLUMNS."""
    steps = json.dumps([[step.step_index, step.phase, step.at] for step in entry.steps])
    return (
        *(entry.uuid, entry.operation, entry.plan_json, entry.facts_json, entry.holder, entry.opened_at),
        *(entry.committed, steps, outcome, closed_at),
    )


def history_entry(row: Row) -> HistoryEntry:
    """From a row of HISTORY_COLUMNS."""
    *columns, steps, outcome, closed_at = row
    lines = tuple(JournalStep(index, phase, at) for index, phase, at in json.loads(steps))
    return HistoryEntry(journal_entry(tuple(columns), lines), outcome, closed_at)
