"""What may be written to the store, and only within `database.Store.transaction`."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Literal

from virtsnap.model.domain import DomainRecord
from virtsnap.model.errors import NoDomain, NoSnapshot, OperationFailed, OperationInvalid
from virtsnap.model.event import DomainEvent
from virtsnap.model.snapshot import Snapshot
from virtsnap.store.journal import HISTORY_COLUMNS, HISTORY_LENGTH, JOURNAL_COLUMNS, Phase, history_row
from virtsnap.store.reads import Reads
from virtsnap.store.rows import (
    DOMAIN_COLUMNS,
    EVENT_COLUMNS,
    SNAPSHOT_COLUMNS,
    Row,
    domain_row,
    event_row,
    snapshot_row,
)
from virtsnap.store.troubles import breaks_foreign_key

if TYPE_CHECKING:
    from virtsnap.model.block_job import BlockJob

ImageRole = Literal["overlay", "origin", "memory", "nvram"]
"""An overlay some snapshot put on top; the image that was below the first one; a memory image; a copy of the
UEFI variables."""

EVENTS_KEPT = 10_000
"""A watcher that falls further behind misses the oldest."""


class Transaction:
    """The writes. Only valid inside the `with` block that gave it; reads go through the store as ever."""

    def __init__(self, reads: Reads, connection: sqlite3.Connection) -> None:
        self._reads = reads
        self._connection = connection
        self.has_events = False
        """Something was told: whoever watches is to be woken once it is committed."""

    # domains
    def put_domain(self, record: DomainRecord) -> None:
        """Insert or replace; the domain's snapshots, images and journal stay.

        Raises OperationFailed when another domain has the name.
        """
        taken = self._reads.domain_by_name(record.name)
        if taken is not None and taken.uuid != record.uuid:
            raise OperationFailed(f"domain '{record.name}' already exists with uuid {taken.uuid}")
        self._upsert("domains", "uuid", DOMAIN_COLUMNS, domain_row(record))

    def delete_domain(self, uuid: str) -> None:
        """Forget the domain with its snapshots, images and history.

        Raises NoDomain, and OperationInvalid while it has an open journal.
        """
        try:
            deleted = self._connection.execute("DELETE FROM domains WHERE uuid = ?", (uuid,)).rowcount
        except sqlite3.IntegrityError as error:
            if not breaks_foreign_key(error):
                raise
            raise OperationInvalid("domain has an unfinished operation") from error
        if not deleted:
            raise _no_domain(uuid)

    def next_domain_id(self) -> int:
        """A number no domain of this root has had before, from 1."""
        return self._next("domain_id")

    def next_domain_ids(self, count: int) -> int:
        """The first of so many such numbers in a row."""
        return self._next("domain_id", count)

    # snapshots
    def put_snapshot(self, uuid: str, snapshot: Snapshot) -> None:
        """Insert or replace by name; which snapshot is current does not change. Raises NoDomain."""
        row = (uuid, self._next("snapshot_revision"), *snapshot_row(snapshot))
        self._of_domain(uuid, "snapshots", "uuid, name", "uuid, revision, " + SNAPSHOT_COLUMNS, row)

    def delete_snapshot(self, uuid: str, name: str) -> None:
        """Forget one; if it was current, none is. Its children keep its name as their parent.

        Raises NoSnapshot.
        """
        deleted = self._connection.execute(
            "DELETE FROM snapshots WHERE uuid = ? AND name = ?", (uuid, name)
        ).rowcount
        if not deleted:
            raise _no_snapshot(name)

    def set_current(self, uuid: str, name: str | None) -> None:
        """Make `name` the current snapshot; None: none is. Raises NoSnapshot."""
        self._connection.execute("UPDATE snapshots SET current = 0 WHERE uuid = ? AND current = 1", (uuid,))
        if name is None:
            return
        changed = self._connection.execute(
            "UPDATE snapshots SET current = 1 WHERE uuid = ? AND name = ?", (uuid, name)
        ).rowcount
        if not changed:
            raise _no_snapshot(name)

    # images
    def put_image(self, uuid: str, path: str, role: ImageRole) -> None:
        """Note that `path` belongs to the domain; a second call changes its role. Raises NoDomain."""
        self._of_domain(uuid, "images", "uuid, path", "uuid, path, role", (uuid, path, role))

    def delete_image(self, uuid: str, path: str) -> None:
        """Forget that `path` belongs to the domain. Quiet when it did not: finish steps may repeat."""
        self._connection.execute("DELETE FROM images WHERE uuid = ? AND path = ?", (uuid, path))

    # events
    def tell(self, event: DomainEvent) -> None:
        """Append an event; its place in the sequence is found here."""
        row = event_row(event)
        done = self._connection.execute(f"INSERT INTO events ({EVENT_COLUMNS}) VALUES ({_marks(row)})", row)
        self._connection.execute(
            "DELETE FROM events WHERE sequence <= ?", ((done.lastrowid or 0) - EVENTS_KEPT,)
        )
        self.has_events = True

    def put_event_log(self, uuid: str, run_dir: str, position: int, heard: str) -> None:
        """Note how far a QEMU's event log has been read. Raises NoDomain."""
        self._of_domain(
            uuid,
            "event_logs",
            "run_dir",
            "run_dir, uuid, position, heard",
            (run_dir, uuid, position, heard),
        )

    def delete_event_log(self, run_dir: str) -> None:
        """That QEMU has ended, and it was told. Quiet when it is not known."""
        self._connection.execute("DELETE FROM event_logs WHERE run_dir = ?", (run_dir,))

    # block jobs
    def next_block_job(self) -> int:
        """A number that no block job of this root has had before, from 1."""
        return self._next("block_job")

    def put_block_job(self, uuid: str, job: BlockJob) -> None:
        """Insert or replace by name. Of those that are over the last 50 of a domain stay. Raises NoDomain."""
        from virtsnap.formats import plan_json

        row = (uuid, job.name, job.target, job.active, plan_json.dumps(job))
        self._of_domain(uuid, "block_jobs", "name", "uuid, name, target, active, job", row)
        self._connection.execute(
            "DELETE FROM block_jobs WHERE uuid = ? AND active = 0 AND sequence NOT IN"
            " (SELECT sequence FROM block_jobs WHERE uuid = ? ORDER BY sequence DESC LIMIT ?)",
            (uuid, uuid, HISTORY_LENGTH),
        )

    # journal
    def open_journal(
        self,
        uuid: str,
        operation: str,
        plan_json: str,
        facts_json: str,
        holder: str,
        *,
        at: float | None = None,
    ) -> None:
        """Begin an operation. `holder` names the process for messages; `at`: seconds since the epoch, now
        if not given.

        Raises NoDomain, and OperationInvalid when the domain's last operation is not closed.
        """
        unfinished = self._reads.journal(uuid)
        if unfinished is not None:
            raise OperationInvalid(f"domain has an unfinished operation: {unfinished.operation}")
        self._of_domain(
            uuid,
            "journal",
            "uuid",
            JOURNAL_COLUMNS,
            (uuid, operation, plan_json, facts_json, holder, _moment(at), False),
        )

    def record(self, uuid: str, step_index: int, phase: Phase, *, at: float | None = None) -> None:
        """Append one line to the open journal. Raises OperationInvalid when none is open."""
        try:
            self._connection.execute(
                "INSERT INTO journal_steps (uuid, step_index, phase, at) VALUES (?, ?, ?, ?)",
                (uuid, step_index, phase, _moment(at)),
            )
        except sqlite3.IntegrityError as error:
            if not breaks_foreign_key(error):
                raise
            raise _no_journal() from error

    def mark_committed(self, uuid: str) -> None:
        """From here on recovery goes forward. Raises OperationInvalid when no journal is open."""
        changed = self._connection.execute(
            "UPDATE journal SET committed = 1 WHERE uuid = ?", (uuid,)
        ).rowcount
        if not changed:
            raise _no_journal()

    def close_journal(self, uuid: str, outcome: str, *, at: float | None = None) -> None:
        """End the operation and move it to the history, which keeps the last 50 of each domain.

        Raises OperationInvalid when no journal is open.
        """
        entry = self._reads.journal(uuid)
        if entry is None:
            raise _no_journal()
        self._connection.execute("DELETE FROM journal WHERE uuid = ?", (uuid,))
        row = history_row(entry, outcome, _moment(at))
        self._connection.execute(f"INSERT INTO history ({HISTORY_COLUMNS}) VALUES ({_marks(row)})", row)
        self._connection.execute(
            "DELETE FROM history WHERE uuid = ? AND sequence NOT IN"
            " (SELECT sequence FROM history WHERE uuid = ? ORDER BY sequence DESC LIMIT ?)",
            (uuid, uuid, HISTORY_LENGTH),
        )

    def _next(self, counter: str, count: int = 1) -> int:
        """The first of `count` numbers in a row."""
        row = self._connection.execute(
            "UPDATE counters SET value = value + ? WHERE name = ? RETURNING value", (count, counter)
        ).fetchone()
        return int(row[0]) - count + 1

    def _of_domain(self, uuid: str, table: str, key: str, columns: str, row: Row) -> None:
        """Upsert a row that belongs to a domain."""
        try:
            self._upsert(table, key, columns, row)
        except sqlite3.IntegrityError as error:
            if not breaks_foreign_key(error):
                raise
            raise _no_domain(uuid) from error

    def _upsert(self, table: str, key: str, columns: str, row: Row) -> None:
        # Not INSERT OR REPLACE: that deletes the old row first, and with it all that refers to it.
        names = columns.split(", ")
        updates = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key.split(", "))
        self._connection.execute(
            f"INSERT INTO {table} ({columns}) VALUES ({_marks(row)})"
            f" ON CONFLICT ({key}) DO UPDATE SET {updates}",
            row,
        )


def _moment(at: float | None) -> float:
    return time.time() if at is None else at


def _marks(row: Row) -> str:
    return ", ".join("?" * len(row))


def _no_domain(uuid: str) -> NoDomain:
    return NoDomain(f"no domain with matching uuid '{uuid}'")


def _no_snapshot(name: str) -> NoSnapshot:
    return NoSnapshot(f"no domain snapshot with matching name '{name}'")


def _no_journal() -> OperationInvalid:
    return OperationInvalid("domain has no open operation")
