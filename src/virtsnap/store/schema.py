"""The version of a database and the way up to ours: numbered SQL files, each run once, in order.

`PRAGMA user_version` holds the number of the last file that ran. A file that has been released is never
changed; the next change is the next number. What is not here: a way down.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from virtsnap.model.errors import ConfigUnsupported, Damaged

FOLDER = Path(__file__).parent / "migrations"


def migrations() -> list[Path]:
    """The migration files, the first at index 0."""
    return sorted(FOLDER.glob("[0-9][0-9][0-9][0-9]_*.sql"))


def version(connection: sqlite3.Connection) -> int:
    """The number of the last migration that ran; 0 for an empty database."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def is_current(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether nothing is to be done.

    Raises ConfigUnsupported when a newer virtsnap has written the database at `path`.
    """
    have, ours = version(connection), len(migrations())
    if have > ours:
        raise ConfigUnsupported(
            f"the store '{path}' has schema version {have}, written by a newer virtsnap;"
            f" this one knows versions up to {ours}"
        )
    return have == ours


def migrate(connection: sqlite3.Connection, path: Path, upto: int | None = None) -> None:
    """Run what is missing, each file in its own transaction (`upto`: stop at that version).

    The caller keeps other processes away. Raises Damaged when the data break the new schema's
    references; the database then stays at the version before.
    """
    files = migrations()
    # A file that rebuilds a table must not set off ON DELETE actions; the references are checked after.
    connection.execute("PRAGMA foreign_keys = OFF")
    try:
        for number in range(version(connection) + 1, (len(files) if upto is None else upto) + 1):
            _run(connection, path, number, files[number - 1].read_text(encoding="utf-8"))
    finally:
        connection.execute("PRAGMA foreign_keys = ON")


def _run(connection: sqlite3.Connection, path: Path, number: int, script: str) -> None:
    try:
        connection.executescript("BEGIN IMMEDIATE;\n" + script)
        broken = connection.execute("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise Damaged(f"the store '{path}' cannot go to schema version {number}: broken rows {broken}")
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
