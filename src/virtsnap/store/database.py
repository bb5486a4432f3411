"""The store itself: one SQLite file in a connection's root, shared by every process that uses the root.

Reads (`reads`) may happen at any time and see the last commit, and within a transaction also what it
wrote. Writes (`transaction`) need `with store.transaction() as tx`; it commits as a whole, or nothing of it
happened. WAL with synchronous=FULL: when the block is left, the change survives a power cut.

Two rules for callers: no `await` inside a transaction (calls are short and block), and no transaction
inside another one.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from virtsnap.model.snapshot import SnapshotTree
from virtsnap.store.bell import ring
from virtsnap.store.connection import connect
from virtsnap.store.reads import Reads
from virtsnap.store.rows import Row
from virtsnap.store.transaction import Transaction
from virtsnap.store.troubles import translated

FILE_NAME = "virtsnap.db"
_TREES_MAX = 64


def open_store(root: Path) -> Store:
    """The store in the directory `root`. Lazy: the first call that needs the file makes or opens it."""
    return Store(root)


class Store(Reads):
    """Reads, and the door to transactions. May be used from several threads; they wait for each other.

    Any method raises ConfigUnsupported when a newer virtsnap has written the store, Damaged when the file
    is not a whole database, ResourceBusy when another process writes for longer than ten seconds,
    SystemRefused or Failed when the system denies access or space.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / FILE_NAME
        self._opened: sqlite3.Connection | None = None
        self._lock = threading.RLock()
        self._trees: dict[str, tuple[tuple[int, int], SnapshotTree]] = {}

    def close(self) -> None:
        """Let go of the file. A later call opens it again."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None
                self._trees.clear()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All or nothing. Waits until no other process is within its own transaction."""
        with self._lock, translated(self.path):
            connection = self._connection()
            if connection.in_transaction:
                raise RuntimeError("a transaction of this store is already open")
            connection.execute("BEGIN IMMEDIATE")
            try:
                transaction = Transaction(self, connection)
                yield transaction
                connection.execute("COMMIT")
            except BaseException:
                # A full disk makes SQLite roll back by itself; then there is nothing left to undo.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            if transaction.has_events:
                ring(self.root)

    def tree(self, uuid: str) -> SnapshotTree:
        """As ever, and not read again while nobody writes to the database: lists ask for every snapshot."""
        with self._lock, translated(self.path):
            connection = self._connection()
            if connection.in_transaction:
                return super().tree(uuid)
            # Both are of this connection: commits of others, and what was written by itself.
            version = (connection.execute("PRAGMA data_version").fetchone()[0], connection.total_changes)
            known = self._trees.get(uuid)
            if known is None or known[0] != version:
                if len(self._trees) >= _TREES_MAX:
                    self._trees.clear()
                known = self._trees[uuid] = (version, super().tree(uuid))
            return known[1]

    def _rows(self, sql: str, *values: str | int) -> list[Row]:
        with self._lock, translated(self.path):
            return self._connection().execute(sql, values).fetchall()

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = connect(self.root, self.path)
        return self._opened
