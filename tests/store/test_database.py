from __future__ import annotations

import threading
from pathlib import Path

import pytest

from virtsnap.model.domain import DomainRecord
from virtsnap.model.errors import Damaged, ResourceBusy, SystemRefused
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk, SnapshotState
from virtsnap.store import connection
from virtsnap.store.database import Store, open_store


def domain(number: int) -> DomainRecord:
    return DomainRecord(uuid=f"uuid-{number}", name=f"guest-{number}", config_xml="<domain/>")


def test_opening_touches_nothing_and_first_use_makes_private_files(tmp_path: Path) -> None:
    root = tmp_path / "a" / "root"
    store = open_store(root)
    assert not root.exists()
    with store.transaction() as tx:
        tx.put_domain(domain(1))
    assert root.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in root.iterdir()}
    assert modes == {"virtsnap.db": 0o600, "virtsnap.db-wal": 0o600, "virtsnap.db-shm": 0o600}
    store.close()
    assert [path.name for path in root.iterdir()] == ["virtsnap.db"]


def test_settings_are_the_durable_ones(store: Store) -> None:
    store.domains()
    sql = store._connection().execute
    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    assert [sql(f"PRAGMA {name}").fetchone()[0] for name in names] == ["wal", 2, 1, 10_000]


def test_the_disk_is_waited_for_unless_the_caller_does_without(store: Store, uuid: str) -> None:
    def synchronous() -> int:
        return int(store._connection().execute("PRAGMA synchronous").fetchone()[0])

    with store.transaction(durable=False) as tx:
        first = tx.next_domain_id()
        assert synchronous() == 1  # NORMAL: the log is not synced at a commit
    with store.transaction() as tx:
        assert tx.next_domain_id() == first + 1
        assert synchronous() == 2


def test_an_exception_rolls_back(store: Store) -> None:
    def write_and_fail() -> None:
        with store.transaction() as tx:
            tx.put_domain(domain(1))
            assert store.domain("uuid-1") == domain(1)
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    assert store.domains() == []
    with store.transaction() as tx:
        tx.put_domain(domain(2))
    assert store.domains() == [domain(2)]


def test_a_transaction_in_a_transaction_is_a_defect(store: Store) -> None:
    with store.transaction() as tx:
        with pytest.raises(RuntimeError, match="already open"), store.transaction():
            pytest.fail("entered")
        tx.put_domain(domain(1))
    assert store.domains() == [domain(1)]


def test_what_is_not_committed_is_not_seen_by_another_connection(store: Store) -> None:
    other = open_store(store.root)
    with store.transaction() as tx:
        tx.put_domain(domain(1))
        assert other.domains() == []
    assert other.domains() == [domain(1)]
    other.close()


def test_a_write_that_waits_too_long_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.domains()
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_MS", 1)
    other = open_store(store.root)
    with (
        store.transaction(),
        pytest.raises(ResourceBusy, match="another process is writing"),
        other.transaction(),
    ):
        pytest.fail("entered")
    other.close()


def test_threads_wait_for_each_other(store: Store) -> None:
    def add(first: int) -> None:
        for number in range(first, first + 10):
            with store.transaction() as tx:
                tx.put_domain(domain(number))

    threads = [threading.Thread(target=add, args=(first,)) for first in (0, 10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.domains()) == 30


def test_it_can_be_closed_twice_and_used_again(store: Store) -> None:
    with store.transaction() as tx:
        tx.put_domain(domain(1))
    store.close()
    store.close()
    assert store.domains() == [domain(1)]


def test_garbage_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "virtsnap.db").write_bytes(b"not a database" * 100)
    with pytest.raises(Damaged, match="is damaged"):
        open_store(tmp_path).domains()


def test_values_that_are_not_ours_are_damaged(store: Store, uuid: str) -> None:
    with store.transaction() as tx:
        tx.put_snapshot(uuid, Snapshot("s"))
    sql = store._connection().execute
    sql("UPDATE snapshots SET state = 'dreaming'")
    with pytest.raises(Damaged, match=r"snapshot 's' .*dreaming"):
        store.tree(uuid)
    sql("UPDATE snapshots SET state = 'running', disks = '[{\"nom\":1}]'")
    with pytest.raises(Damaged, match=r"snapshot 's' .*nom"):
        store.tree(uuid)
    sql("UPDATE domains SET reason = 9999")
    with pytest.raises(Damaged, match=r"domain 'guest' .*9999"):
        store.domains()


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(SystemRefused, match=r"cannot open file .*File exists"):
        open_store(tmp_path / "root").domains()


def test_a_big_tree_is_read_in_a_few_statements(store: Store, uuid: str) -> None:
    disk = SnapshotDisk("vda", Location.EXTERNAL, path="/images/a.s1", format="qcow2")
    with store.transaction() as tx:
        for number in range(200):
            tx.put_snapshot(uuid, Snapshot(f"s{number}", number, SnapshotState.RUNNING, disks=(disk, disk)))
        tx.set_current(uuid, "s199")
    statements: list[str] = []
    store._connection().set_trace_callback(statements.append)
    tree = store.tree(uuid)
    store._connection().set_trace_callback(None)
    assert (len(tree), tree.current) == (200, "s199")
    assert len(statements) < 8, "reading does not ask once for each snapshot"
