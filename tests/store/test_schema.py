from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from virtsnap.model.errors import ConfigUnsupported, Damaged
from virtsnap.store import schema
from virtsnap.store.database import open_store


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "virtsnap.db", isolation_level=None)) as connection:
        yield connection


def test_numbers_have_no_gap() -> None:
    assert [int(path.name[:4]) for path in schema.migrations()] == list(
        range(1, len(schema.migrations()) + 1)
    )


@pytest.mark.parametrize("number", range(1, len(schema.migrations()) + 1))
def test_every_step_up_works_alone_and_keeps_references(
    empty: sqlite3.Connection, tmp_path: Path, number: int
) -> None:
    schema.migrate(empty, tmp_path, upto=number)
    assert schema.version(empty) == number
    assert empty.execute("PRAGMA foreign_keys").fetchone() == (1,)
    schema.migrate(empty, tmp_path)
    assert schema.is_current(empty, tmp_path)


def test_first_makes_the_tables(empty: sqlite3.Connection, tmp_path: Path) -> None:
    schema.migrate(empty, tmp_path, upto=1)
    tables = {row[0] for row in empty.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables >= {"domains", "counters", "snapshots", "images", "journal", "journal_steps", "history"}


def test_a_failing_migration_leaves_the_version_before(
    empty: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_good.sql").write_text("CREATE TABLE a (x);")
    (folder / "0002_bad.sql").write_text("CREATE TABLE b (x); CREATE TABLE a (x);")
    monkeypatch.setattr(schema, "FOLDER", folder)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        schema.migrate(empty, tmp_path)
    assert schema.version(empty) == 1
    assert empty.execute("SELECT name FROM sqlite_master").fetchall() == [("a",)]


def test_a_migration_that_breaks_references_is_refused(
    empty: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_bad.sql").write_text(
        "CREATE TABLE a (x PRIMARY KEY); CREATE TABLE b (x REFERENCES a (x)); INSERT INTO b VALUES (1);"
    )
    monkeypatch.setattr(schema, "FOLDER", folder)
    with pytest.raises(Damaged, match="cannot go to schema version 1"):
        schema.migrate(empty, tmp_path)
    assert schema.version(empty) == 0


def test_a_newer_store_is_refused_and_not_touched(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert store.domains() == []
    store.close()
    newer = len(schema.migrations()) + 1
    connection = sqlite3.connect(store.path)
    connection.execute(f"PRAGMA user_version = {newer}")
    connection.close()
    before = store.path.read_bytes()
    with pytest.raises(ConfigUnsupported, match=f"has schema version {newer}, written by a newer virtsnap"):
        store.domains()
    assert store.path.read_bytes() == before
