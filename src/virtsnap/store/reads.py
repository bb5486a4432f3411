"""What the store can tell, at any time and without a transaction; `database.Store` adds what it remembers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from virtsnap.model.domain import DomainRecord
from virtsnap.model.event import DomainEvent
from virtsnap.model.frozen import dataclass
from virtsnap.store.journal import (
    HISTORY_COLUMNS,
    JOURNAL_COLUMNS,
    HistoryEntry,
    JournalEntry,
    JournalStep,
    history_entry,
    journal_entry,
)
from virtsnap.store.rows import (
    DOMAIN_COLUMNS,
    EVENT_COLUMNS,
    Row,
    domain_event,
    domain_record,
)

if TYPE_CHECKING:
    from virtsnap.model.block_job import BlockJob


@dataclass(frozen=True)
class EventLog:
    """How far the event log of one QEMU has been read."""

    run_dir: str
    uuid: str
    position: int
    """Bytes; -1: it was there before anybody read such logs."""
    heard: str
    """What matters of it for the rest, as the reader wrote it down."""


@dataclass(frozen=True)
class Standing:
    """All that says how a domain stands. As long as nothing of it changes, it is the same object."""

    record: DomainRecord
    busy: bool
    """An operation or a block job of it is not at its end."""


BUSY_COLUMN = (
    "EXISTS (SELECT 1 FROM journal WHERE journal.uuid = domains.uuid)"
    " OR EXISTS (SELECT 1 FROM block_jobs WHERE block_jobs.uuid = domains.uuid AND active = 1)"
)


class Reads(ABC):
    """The questions; `database.Store` brings the connection."""

    # domains
    def domain(self, uuid: str) -> DomainRecord | None:
        """The domain of that uuid."""
        return self._domain("uuid = ?", uuid)

    def domain_by_name(self, name: str) -> DomainRecord | None:
        """The domain of that name."""
        return self._domain("name = ?", name)

    def domain_by_id(self, id: int) -> DomainRecord | None:
        """The active domain of that libvirt id."""
        return self._domain("instance_id = ?", id)

    def domains(self) -> list[DomainRecord]:
        """All, sorted by name."""
        return [
            domain_record(row) for row in self._rows(f"SELECT {DOMAIN_COLUMNS} FROM domains ORDER BY name")
        ]

    # images
    def images(self, uuid: str) -> dict[str, str]:
        """Path to role of every image file that belongs to the domain's snapshots."""
        return dict(self._rows("SELECT path, role FROM images WHERE uuid = ? ORDER BY path", uuid))

    def image_owners(self, path: str) -> list[str]:
        """The uuids of all domains that `path` belongs to."""
        return [row[0] for row in self._rows("SELECT uuid FROM images WHERE path = ? ORDER BY uuid", path)]

    # events
    def last_event(self) -> int:
        """The sequence number of the newest event; 0 when there never was one."""
        return int(self._rows("SELECT COALESCE(MAX(sequence), 0) FROM events")[0][0])

    def events_after(self, sequence: int) -> list[DomainEvent]:
        """What happened since, oldest first, as far as it is kept."""
        rows = self._rows(
            f"SELECT sequence, {EVENT_COLUMNS} FROM events WHERE sequence > ? ORDER BY sequence", sequence
        )
        return [domain_event(row) for row in rows]

    def event_logs(self, uuid: str | None = None) -> list[EventLog]:
        """Those of the QEMUs of a domain, or of all, in the order of their starts."""
        columns = "SELECT run_dir, uuid, position, heard FROM event_logs"
        rows = self._rows(columns) if uuid is None else self._rows(columns + " WHERE uuid = ?", uuid)
        # Run folders are numbers that grow.
        return sorted((EventLog(*row) for row in rows), key=lambda log: (len(log.run_dir), log.run_dir))

    # block jobs
    def block_jobs(self, uuid: str, *, active: bool = False) -> tuple[BlockJob, ...]:
        """The domain's block jobs, oldest first; `active`: only those that are not known to be over.

        Those that are over stay for a while.
        """
        more = " AND active = 1" if active else ""
        rows = self._rows(f"SELECT job FROM block_jobs WHERE uuid = ?{more} ORDER BY sequence", uuid)
        if not rows:
            return ()
        # Both take their time to import, and most domains have no job.
        from virtsnap.formats import plan_json
        from virtsnap.model.block_job import BlockJob

        return tuple(plan_json.loads(row[0], BlockJob) for row in rows)

    # journal
    def journal(self, uuid: str) -> JournalEntry | None:
        """The domain's open operation."""
        # LEFT JOIN and not two SELECTs: another process may close the journal in between.
        rows = self._rows(
            f"SELECT {_prefixed('journal', JOURNAL_COLUMNS)}, step_index, phase, at FROM journal"
            " LEFT JOIN journal_steps ON journal_steps.uuid = journal.uuid"
            " WHERE journal.uuid = ? ORDER BY sequence",
            uuid,
        )
        if not rows:
            return None
        steps = tuple(JournalStep(*row[-3:]) for row in rows if row[-3] is not None)
        return journal_entry(rows[0][:-3], steps)

    def history(self, uuid: str) -> list[HistoryEntry]:
        """The domain's last closed operations, newest first."""
        rows = self._rows(
            f"SELECT {HISTORY_COLUMNS} FROM history WHERE uuid = ? ORDER BY sequence DESC", uuid
        )
        return [history_entry(row) for row in rows]

    def _domain(self, condition: str, value: str | int) -> DomainRecord | None:
        rows = self._rows(f"SELECT {DOMAIN_COLUMNS} FROM domains WHERE {condition}", value)
        return domain_record(rows[0]) if rows else None

    @abstractmethod
    def _rows(self, sql: str, *values: str | int) -> list[Row]:
        """All rows of one SELECT."""


def _prefixed(table: str, columns: str) -> str:
    return ", ".join(f"{table}.{column}" for column in columns.split(", "))
