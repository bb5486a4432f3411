"""The store itself: one SQLite file in a connection's root, shared by every process that uses the root.

Reads (`reads`) may happen at any time and see the last commit, and within a transaction also what it
wrote. Writes (`transaction`) need `with store.transaction() as tx`; it commits as a whole, or nothing of it
happened. WAL with synchronous=FULL: when the block is left, the change survives a power cut, unless the
caller does without.

Two rules for callers: no `await` inside a transaction (calls are short and block), and no transaction
inside another one.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from virtsnap.model.domain import DomainHead
from virtsnap.model.frozen import dataclass
from virtsnap.model.snapshot import SnapshotTree
from virtsnap.store.bell import ring
from virtsnap.store.connection import connect
from virtsnap.store.reads import BUSY_COLUMN, Reads, Standing
from virtsnap.store.rows import (
    DOMAIN_COLUMNS,
    HEAD_COLUMNS,
    SNAPSHOT_COLUMNS,
    Row,
    domain_head,
    domain_record,
    snapshot_value,
)
from virtsnap.store.transaction import Transaction
from virtsnap.store.troubles import translated

FILE_NAME = "virtsnap.db"
_TREES_MAX = 64
_STANDINGS_MAX = 4096
_BUSY = "SELECT uuid FROM journal UNION SELECT uuid FROM block_jobs WHERE active = 1"
_TREE_REVISION = (
    "SELECT COUNT(*), COALESCE(MAX(revision), -1),"
    " (SELECT name FROM snapshots WHERE uuid = ? AND current = 1) FROM snapshots WHERE uuid = ?"
)
_NEWER_SNAPSHOTS = f"SELECT {SNAPSHOT_COLUMNS} FROM snapshots WHERE uuid = ? AND revision > ?"
_Version = tuple[int, int]
"""Another one whenever something was written: by other connections, and by this one."""


@dataclass(frozen=True)
class _KnownTree:
    """A tree as it was read."""

    version: _Version | None
    newest: int
    """The highest revision of its snapshots; -1 if it has none."""
    tree: SnapshotTree


_NO_TREE = _KnownTree(None, -1, SnapshotTree())


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
        self._trees: dict[str, _KnownTree] = {}
        self._standings: dict[str, tuple[Row, Standing]] = {}
        self._compared: set[str] = set()
        """Those of `_standings` that are known to be as the database has them at `_version`."""
        self._heads: tuple[tuple[DomainHead, ...], frozenset[str]] | None = None
        self._known_heads: dict[Row, DomainHead] = {}
        self._version: _Version | None = None

    def close(self) -> None:
        """Let go of the file. A later call opens it again."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None
                self._trees.clear()
                self._standings.clear()
                self._known_heads.clear()
                self._compare_anew(None)

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[Transaction]:
        """All or nothing. Waits until no other process is within its own transaction.

        Without `durable` nobody waits for the disk, and a power cut may take it back: right for what
        describes processes, which a power cut ends too. Whatever is written durably afterwards makes this
        durable as well. Other processes see it at once, and a crash of ours leaves it.
        """
        with self._lock, translated(self.path):
            connection = self._connection()
            if connection.in_transaction:
                raise RuntimeError("a transaction of this store is already open")
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
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
        """The snapshots of a domain; an empty tree for a domain that is not known.

        The same object while nobody changes it. After a write to the database the snapshots' revisions are
        asked for, and what is newer is read.
        """
        with self._lock, translated(self.path):
            connection = self._connection()
            known = self._trees.get(uuid, _NO_TREE)
            if connection.in_transaction:
                return self._read_tree(uuid, known, None).tree
            version = _version(connection)
            if known.version != version:
                if uuid not in self._trees and len(self._trees) >= _TREES_MAX:
                    self._trees.clear()
                with _one_moment(connection):
                    known = self._trees[uuid] = self._read_tree(uuid, known, version)
            return known.tree

    def _read_tree(self, uuid: str, known: _KnownTree, version: _Version | None) -> _KnownTree:
        count, newest, current = self._rows(_TREE_REVISION, uuid, uuid)[0]
        tree = known.tree
        # Where nothing is newer, snapshots may only have gone.
        if (count, newest, current) != (len(tree), known.newest, tree.current):
            newer = self._rows(_NEWER_SNAPSHOTS, uuid, known.newest)
            snapshots = {**tree.snapshots, **{row[0]: snapshot_value(row) for row in newer}}
            if len(snapshots) != count:
                names = self._rows("SELECT name FROM snapshots WHERE uuid = ?", uuid)
                snapshots = {name: snapshots[name] for (name,) in names}
            tree = SnapshotTree.of(snapshots.values(), current)
        return _KnownTree(version, newest, tree)

    def standing(self, uuid: str) -> Standing | None:
        """How a domain stands; read only when somebody has written to the database since."""
        with self._lock, translated(self.path):
            connection = self._connection()
            if connection.in_transaction:
                rows = self._standing_rows(" WHERE uuid = ?", uuid)
                return _standing(rows[0]) if rows else None
            self._compare_anew(_version(connection))
            if uuid not in self._compared:
                rows = self._standing_rows(" WHERE uuid = ?", uuid)
                if not rows:
                    self._standings.pop(uuid, None)
                    return None
                if len(self._standings) >= _STANDINGS_MAX:
                    self._standings.clear()
                    self._compared.clear()
                self._remember(rows[0])
            return self._standings[uuid][1]

    def heads(self) -> tuple[tuple[DomainHead, ...], frozenset[str]]:
        """Those of all domains, sorted by name, and the uuids of the busy ones (see `Standing`).

        Both are the same objects while nobody writes to the database.
        """
        with self._lock, translated(self.path):
            connection = self._connection()
            self._compare_anew(None if connection.in_transaction else _version(connection))
            if self._heads is None:
                # Whatever is written in between makes another version.
                busy = frozenset(row[0] for row in self._rows(_BUSY))
                rows = self._rows(f"SELECT {HEAD_COLUMNS} FROM domains ORDER BY name")
                known = self._known_heads
                self._known_heads = {row: known[row] if row in known else domain_head(row) for row in rows}
                self._heads = tuple(self._known_heads.values()), busy
            return self._heads

    def _compare_anew(self, version: _Version | None) -> None:
        if self._version != version:
            self._version = version
            self._compared.clear()
            self._heads = None
        elif version is None:
            self._heads = None

    def _remember(self, row: Row) -> Standing:
        """The standing of a row that was just read: the one that is known if nothing is new."""
        uuid = row[0]
        known = self._standings.get(uuid)
        if known is None or known[0] != row:
            known = self._standings[uuid] = (row, _standing(row))
        self._compared.add(uuid)
        return known[1]

    def _standing_rows(self, condition: str, *values: str) -> list[Row]:
        return self._rows(f"SELECT {DOMAIN_COLUMNS}, {BUSY_COLUMN} FROM domains{condition}", *values)

    def _rows(self, sql: str, *values: str | int) -> list[Row]:
        with self._lock, translated(self.path):
            return self._connection().execute(sql, values).fetchall()

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = connect(self.root, self.path)
        return self._opened


@contextlib.contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """Whatever is read within is of the same commit."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> _Version:
    return (connection.execute("PRAGMA data_version").fetchone()[0], connection.total_changes)


def _standing(row: Row) -> Standing:
    return Standing(domain_record(row[:-1]), bool(row[-1]))
