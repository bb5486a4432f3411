"""Opens the database file: its permissions, SQLite's settings, and the schema brought up to date."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from virtsnap.model.errors import SystemRefused
from virtsnap.store import schema

BUSY_TIMEOUT_MS = 10_000
"""How long a write waits for another process's transaction; ours take milliseconds."""

_CACHE_KIB = 1024
"""Pages that SQLite keeps in memory; the kernel keeps the others as well."""


def connect(root: Path, path: Path) -> sqlite3.Connection:
    """A connection to the database `path` within the directory `root`; makes what is missing.

    A root that is made is 0700, the file is 0600. Raises ConfigUnsupported (written by a newer virtsnap),
    SystemRefused (access), and SQLite's own errors.
    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives the -wal and -shm files the mode of the database, so this one open decides for all.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        fresh = path.stat().st_size == 0
    except OSError as error:
        raise SystemRefused(f"cannot open file '{path}': {error.strerror}") from error
    # Transactions are begun and ended by hand (isolation_level=None); Store's lock orders the threads.
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if fresh or not schema.is_current(connection, path):
            with _alone(root):
                # The switch to WAL does not honour the busy timeout: hence it, too, is done alone.
                connection.execute("PRAGMA journal_mode = WAL")
                schema.migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep other processes from changing the schema of the same store."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
