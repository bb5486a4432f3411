from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virtsnap.model.domain import DomainRecord, Instance, Reason
from virtsnap.model.errors import NoDomain, NoSnapshot, OperationFailed, OperationInvalid
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk, SnapshotState, SnapshotTree
from virtsnap.store.database import Store, open_store
from virtsnap.store.journal import JournalStep

# Lone surrogates are not text: neither XML nor SQLite's UTF-8 can hold them.
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
COUNT = st.integers(min_value=0, max_value=2**63 - 1)

DISKS = st.lists(
    st.builds(
        SnapshotDisk,
        name=TEXT,
        location=st.sampled_from(Location),
        type=TEXT,
        path=st.none() | TEXT,
        format=st.none() | TEXT,
        source_xml=st.none() | TEXT,
        driver_xml=st.none() | TEXT,
        delete_in_progress=st.booleans(),
    ),
    max_size=4,
).map(tuple)

SNAPSHOTS = st.builds(
    Snapshot,
    name=TEXT,
    creation_time=COUNT,
    state=st.sampled_from(SnapshotState),
    description=st.none() | TEXT,
    parent=st.none() | TEXT,
    memory=st.sampled_from(Location),
    memory_file=st.none() | TEXT,
    disks=DISKS,
    revert_disks=DISKS,
    domain_xml=st.none() | TEXT,
    inactive_domain_xml=st.none() | TEXT,
    cookie_xml=st.none() | TEXT,
)

RECORDS = st.builds(
    DomainRecord,
    uuid=TEXT,
    name=TEXT,
    config_xml=TEXT,
    persistent=st.booleans(),
    autostart=st.booleans(),
    reason=st.sampled_from(Reason),
    live_xml=st.none() | TEXT,
    instance=st.none()
    | st.builds(Instance, id=COUNT, pid=COUNT, start_ticks=COUNT, boot_id=TEXT, run_dir=TEXT),
)


@pytest.fixture(scope="module")
def shared_store() -> Iterator[Store]:
    """One for all examples of a property; each cleans up after itself."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder))
        yield store
        store.close()


@settings(deadline=None)  # every example waits for the disk
@given(record=RECORDS)
def test_any_domain_comes_back(shared_store: Store, record: DomainRecord) -> None:
    store = shared_store
    with store.transaction() as tx:
        tx.put_domain(record)
    assert store.domain(record.uuid) == record
    assert store.domain_by_name(record.name) == record
    assert store.domains() == [record]
    if record.instance is not None:
        assert store.domain_by_id(record.instance.id) == record
    with store.transaction() as tx:
        tx.delete_domain(record.uuid)
    assert store.domain(record.uuid) is None


@settings(deadline=None)  # every example waits for the disk
@given(snapshots=st.lists(SNAPSHOTS, max_size=4, unique_by=lambda snapshot: snapshot.name), data=st.data())
def test_any_tree_comes_back(shared_store: Store, snapshots: list[Snapshot], data: st.DataObject) -> None:
    store = shared_store
    current = data.draw(st.sampled_from([None, *(snapshot.name for snapshot in snapshots)]))
    with store.transaction() as tx:
        tx.put_domain(DomainRecord("u", "guest", "<domain/>"))
        for snapshot in snapshots:
            tx.put_snapshot("u", snapshot)
        tx.set_current("u", current)
    tree = store.tree("u")
    assert tree == SnapshotTree.of(snapshots, current)
    assert list(tree.snapshots) == list(SnapshotTree.of(snapshots).snapshots)
    with store.transaction() as tx:
        tx.delete_domain("u")
    assert store.tree("u") == SnapshotTree()


# domains


def test_domains_are_sorted_and_found(store: Store) -> None:
    active = DomainRecord("u1", "b", "<b/>", instance=Instance(3, 100, 5, "boot", "/run/b"))
    other = DomainRecord("u2", "a", "<a/>")
    with store.transaction() as tx:
        tx.put_domain(active)
        tx.put_domain(other)
    assert store.domains() == [other, active]
    assert store.domain_by_id(3) == active
    assert (store.domain("u3"), store.domain_by_name("c"), store.domain_by_id(4)) == (None, None, None)


def test_replacing_a_domain_keeps_what_belongs_to_it(store: Store, uuid: str) -> None:
    with store.transaction() as tx:
        tx.put_snapshot(uuid, Snapshot("s"))
        tx.put_image(uuid, "/a", "overlay")
        tx.open_journal(uuid, "create", "{}", "{}", "me")
    with store.transaction() as tx:
        tx.put_domain(DomainRecord(uuid, "renamed", "<new/>"))
    assert store.domain(uuid) == DomainRecord(uuid, "renamed", "<new/>")
    assert list(store.tree(uuid).snapshots) == ["s"]
    assert store.images(uuid) == {"/a": "overlay"}
    assert store.journal(uuid) is not None


def test_a_taken_name_is_refused(store: Store, uuid: str) -> None:
    with (
        pytest.raises(
            OperationFailed, match=f"^operation failed: domain 'guest' already exists with uuid {uuid}$"
        ),
        store.transaction() as tx,
    ):
        tx.put_domain(DomainRecord("other", "guest", "<domain/>"))
    assert len(store.domains()) == 1


def test_deleting_a_domain(store: Store, uuid: str) -> None:
    with store.transaction() as tx:
        tx.put_snapshot(uuid, Snapshot("s"))
        tx.put_image(uuid, "/a", "overlay")
        tx.open_journal(uuid, "create", "{}", "{}", "me")
    with pytest.raises(OperationInvalid, match="unfinished operation"), store.transaction() as tx:
        tx.delete_domain(uuid)
    assert len(store.tree(uuid)) == 1
    with store.transaction() as tx:
        tx.close_journal(uuid, "undone")
        tx.delete_domain(uuid)
    assert (store.domain(uuid), len(store.tree(uuid)), store.images(uuid)) == (None, 0, {})
    assert store.history(uuid) == []
    with pytest.raises(NoDomain, match="no domain with matching uuid"), store.transaction() as tx:
        tx.delete_domain(uuid)


def test_ids_grow_across_closes_and_deletes(store: Store) -> None:
    seen = []
    for _ in range(3):
        with store.transaction() as tx:
            seen.append(tx.next_domain_id())
        store.close()
    assert seen == [1, 2, 3]


# snapshots


def test_replacing_a_snapshot_keeps_it_current(store: Store, uuid: str) -> None:
    with store.transaction() as tx:
        tx.put_snapshot(uuid, Snapshot("s"))
        tx.set_current(uuid, "s")
        tx.put_snapshot(uuid, Snapshot("s", description="later"))
    tree = store.tree(uuid)
    assert (tree.current, tree["s"].description) == ("s", "later")


def test_current_moves_and_goes(store: Store, uuid: str) -> None:
    with store.transaction() as tx:
        for name in ("a", "b"):
            tx.put_snapshot(uuid, Snapshot(name))
        tx.set_current(uuid, "a")
        tx.set_current(uuid, "b")
    assert store.tree(uuid).current == "b"
    with store.transaction() as tx:
        tx.delete_snapshot(uuid, "b")
    assert store.tree(uuid).current is None
    with store.transaction() as tx:
        tx.set_current(uuid, "a")
        tx.set_current(uuid, None)
    assert store.tree(uuid).current is None


def test_unknown_names_are_refused(store: Store, uuid: str) -> None:
    with (
        pytest.raises(NoSnapshot, match="no domain snapshot with matching name 'x'"),
        store.transaction() as tx,
    ):
        tx.delete_snapshot(uuid, "x")
    with pytest.raises(NoSnapshot), store.transaction() as tx:
        tx.set_current(uuid, "x")
    with pytest.raises(NoDomain), store.transaction() as tx:
        tx.put_snapshot("nobody", Snapshot("s"))
    with pytest.raises(NoDomain), store.transaction() as tx:
        tx.put_image("nobody", "/a", "overlay")


def test_the_same_name_in_two_domains(store: Store, uuid: str) -> None:
    with store.transaction() as tx:
        tx.put_domain(DomainRecord("u2", "second", "<domain/>"))
        tx.put_snapshot(uuid, Snapshot("s", description="first"))
        tx.put_snapshot("u2", Snapshot("s", description="second"))
        tx.set_current("u2", "s")
        tx.delete_snapshot(uuid, "s")
    assert (len(store.tree(uuid)), store.tree("u2")["s"].description) == (0, "second")


# images


def test_images(store: Store, uuid: str) -> None:
    with store.transaction() as tx:
        tx.put_domain(DomainRecord("a-second", "second", "<domain/>"))
        tx.put_image(uuid, "/b", "overlay")
        tx.put_image(uuid, "/a", "overlay")
        tx.put_image(uuid, "/a", "origin")
        tx.put_image("a-second", "/a", "memory")
    assert store.images(uuid) == {"/a": "origin", "/b": "overlay"}
    assert store.image_owners("/a") == ["a-second", uuid]
    with store.transaction() as tx:
        tx.delete_image(uuid, "/a")
        tx.delete_image(uuid, "/a")
    assert store.images(uuid) == {"/b": "overlay"}
    assert (store.image_owners("/a"), store.image_owners("/c")) == (["a-second"], [])


# journal


def test_journal_from_open_to_history(store: Store, uuid: str) -> None:
    assert store.journal(uuid) is None
    with store.transaction() as tx:
        tx.open_journal(uuid, "create", '{"plan":1}', '{"facts":1}', "pid 7", at=1.0)
    for index, phase, at in ((0, "begin", 2.0), (0, "done", 3.0), (1, "begin", 4.0)):
        with store.transaction() as tx:
            tx.record(uuid, index, phase, at=at)
    entry = store.journal(uuid)
    assert entry is not None
    assert (entry.operation, entry.plan_json, entry.facts_json) == ("create", '{"plan":1}', '{"facts":1}')
    assert (entry.holder, entry.opened_at, entry.committed) == ("pid 7", 1.0, False)
    assert entry.steps == (
        JournalStep(0, "begin", 2.0),
        JournalStep(0, "done", 3.0),
        JournalStep(1, "begin", 4.0),
    )
    assert entry.to_undo() == [1, 0]
    with store.transaction() as tx:
        tx.record(uuid, 1, "undone", at=5.0)
        tx.mark_committed(uuid)
    later = store.journal(uuid)
    assert later is not None
    assert (later.committed, later.to_undo()) == (True, [0])
    with store.transaction() as tx:
        tx.close_journal(uuid, "done", at=6.0)
    assert store.journal(uuid) is None
    (past,) = store.history(uuid)
    assert (past.outcome, past.closed_at, past.entry) == ("done", 6.0, later)


def test_one_operation_at_a_time(store: Store, uuid: str) -> None:
    with store.transaction() as tx:
        tx.open_journal(uuid, "create", "{}", "{}", "me")
    with pytest.raises(OperationInvalid, match="unfinished operation: create"), store.transaction() as tx:
        tx.open_journal(uuid, "revert", "{}", "{}", "me")
    entry = store.journal(uuid)
    assert entry is not None
    assert entry.operation == "create"
    with pytest.raises(NoDomain), store.transaction() as tx:
        tx.open_journal("nobody", "create", "{}", "{}", "me")


def test_without_an_open_journal(store: Store, uuid: str) -> None:
    with pytest.raises(OperationInvalid, match="no open operation"), store.transaction() as tx:
        tx.record(uuid, 0, "begin")
    with pytest.raises(OperationInvalid, match="no open operation"), store.transaction() as tx:
        tx.mark_committed(uuid)
    with pytest.raises(OperationInvalid, match="no open operation"), store.transaction() as tx:
        tx.close_journal(uuid, "done")


def test_history_keeps_the_last_fifty_of_each_domain(store: Store, uuid: str) -> None:
    with store.transaction() as tx:
        tx.put_domain(DomainRecord("u2", "second", "<domain/>"))
        tx.open_journal("u2", "other", "{}", "{}", "me")
        tx.close_journal("u2", "done")
        for number in range(53):
            tx.open_journal(uuid, f"operation {number}", "{}", "{}", "me")
            tx.record(uuid, 0, "begin")
            tx.close_journal(uuid, "done")
    history = store.history(uuid)
    assert [past.entry.operation for past in history] == [
        f"operation {number}" for number in range(52, 2, -1)
    ]
    assert all(len(past.entry.steps) == 1 for past in history)
    assert len(store.history("u2")) == 1


def test_times_default_to_now(store: Store, uuid: str) -> None:
    with store.transaction() as tx:
        tx.open_journal(uuid, "create", "{}", "{}", "me")
        tx.record(uuid, 0, "begin")
        tx.close_journal(uuid, "done")
    (past,) = store.history(uuid)
    assert 1.7e9 < past.entry.opened_at <= past.entry.steps[0].at <= past.closed_at
