"""SQLite's errors in the project's classes, translated in this one place.

What has no row in the table is a defect of ours and passes through untranslated.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from virtsnap.model.errors import Damaged, ErrorCode, Failed, ResourceBusy, SystemRefused, VirtsnapError

_PRIMARY = 0xFF  # the low byte of an extended result code is its primary code


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about the file itself into ours; `path` is the database they speak of."""
    try:
        yield
    except sqlite3.Error as error:
        known = _translate(error, path)
        if known is None:
            raise
        raise known from error


def breaks_foreign_key(error: sqlite3.Error) -> bool:
    """Whether a write named a row of another table that is not there (or is still needed)."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY


def _translate(error: sqlite3.Error, path: Path) -> VirtsnapError | None:
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ResourceBusy(f"another process is writing to '{path}'")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Damaged(f"the store '{path}' is damaged: {error}")
    if code == sqlite3.SQLITE_FULL:
        return Failed(
            f"cannot write data to file '{path}': No space left on device", code=ErrorCode.SYSTEM_ERROR
        )
    if code == sqlite3.SQLITE_IOERR:
        return Failed(f"cannot write data to file '{path}': {error}", code=ErrorCode.SYSTEM_ERROR)
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY):
        return SystemRefused(f"cannot open file '{path}': {error}")
    return None
