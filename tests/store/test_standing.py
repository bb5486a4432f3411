"""What is read only when somebody has written: never older than the last commit, of whomever."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from virtsnap.model.domain import DomainRecord, Reason
from virtsnap.model.snapshot import Snapshot
from virtsnap.store.database import Store, open_store

A, B = (DomainRecord(uuid=f"uuid-{name}", name=name, config_xml="<domain/>") for name in "ab")


def listed(store: Store) -> list[tuple[str, bool, bool]]:
    """Name, autostart, busy."""
    heads, busy = store.heads()
    return [(head.name, head.autostart, head.uuid in busy) for head in heads]


def test_another_connection_and_our_own(tmp_path: Path) -> None:
    ours, theirs = open_store(tmp_path), open_store(tmp_path)
    assert (listed(ours), ours.standing("uuid-a")) == ([], None)
    with theirs.transaction() as tx:
        tx.put_domain(A)
        tx.put_domain(B)
    first = ours.standing("uuid-a")
    assert first is not None
    assert (first.record, first.busy) == (A, False)
    assert listed(ours) == [("a", False, False), ("b", False, False)]
    assert ours.heads() is ours.heads()
    assert ours.standing("uuid-a") is first
    known = ours.heads()[0][0]

    for number, writer in enumerate((theirs, ours)):
        changed = replace(B, reason=Reason.SHUTOFF_SAVED, autostart=bool(number))
        with writer.transaction() as tx:
            tx.put_domain(changed)
        second = ours.standing("uuid-b")
        assert second is not None
        assert second.record == changed
        assert ours.standing("uuid-a") is first, "who has not changed is the same object"
        assert ours.heads()[0][0] is known
        assert listed(ours) == [("a", False, False), ("b", bool(number), False)]

    for number, writer in enumerate((theirs, ours)):
        with writer.transaction() as tx:
            tx.open_journal("uuid-a", "create", "{}", "{}", "a test")
        assert [busy for _, _, busy in listed(ours)] == [True, False], number
        assert [one.busy for one in map(ours.standing, ("uuid-a", "uuid-b")) if one] == [True, False]
        with writer.transaction() as tx:
            tx.close_journal("uuid-a", "done")
        assert [busy for _, _, busy in listed(ours)] == [False, False], number
        assert [one.busy for one in map(ours.standing, ("uuid-a", "uuid-b")) if one] == [False, False]

    with theirs.transaction() as tx:
        tx.delete_domain("uuid-a")
    assert ours.standing("uuid-a") is None
    assert [name for name, _, _ in listed(ours)] == ["b"]
    with ours.transaction() as tx:
        tx.delete_domain("uuid-b")
    assert (ours.standing("uuid-b"), listed(ours)) == (None, [])
    ours.close()
    assert listed(ours) == []
    ours.close()
    theirs.close()


def test_what_was_rolled_back_is_not_remembered(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.transaction() as tx:
        tx.put_domain(A)

    def write_and_fail() -> None:
        with store.transaction() as tx:
            tx.put_domain(replace(A, autostart=True))
            tx.put_domain(B)
            assert listed(store) == [("a", True, False), ("b", False, False)]
            assert store.standing("uuid-a") is not None
            assert store.standing("uuid-b") is not None
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    assert listed(store) == [("a", False, False)]
    assert store.standing("uuid-b") is None
    store.close()


def _taken(name: str, parent: str | None = None, text: str = "<domain/>") -> Snapshot:
    return Snapshot(name, creation_time=len(name), parent=parent, domain_xml=text)


def _seen(store: Store) -> tuple[dict[str, str | None], str | None]:
    """Each snapshot's text, and the current one."""
    tree = store.tree("uuid-a")
    return {snapshot.name: snapshot.domain_xml for snapshot in tree}, tree.current


def test_of_a_tree_only_what_is_newer_is_read(tmp_path: Path) -> None:
    ours, theirs = open_store(tmp_path), open_store(tmp_path)
    with theirs.transaction() as tx:
        tx.put_domain(A)
        tx.put_domain(B)
        tx.put_snapshot("uuid-a", _taken("x"))
        tx.put_snapshot("uuid-b", _taken("x"))
    for writer in (theirs, ours):
        before = ours.tree("uuid-a")
        with writer.transaction() as tx:
            tx.put_domain(replace(A, autostart=not A.autostart))
            tx.put_snapshot("uuid-b", _taken("x", text="<other/>"))
        assert ours.tree("uuid-a") is before, "another's, and the domain's own record, are not the tree"
        with writer.transaction() as tx:
            tx.put_snapshot("uuid-a", _taken("xy", "x"))
            tx.set_current("uuid-a", "xy")
        assert _seen(ours) == ({"x": "<domain/>", "xy": "<domain/>"}, "xy")
        assert ours.tree("uuid-a")["x"] is before["x"], "who has not changed is the same object"
        with writer.transaction() as tx:
            tx.set_current("uuid-a", "x")
        assert _seen(ours) == ({"x": "<domain/>", "xy": "<domain/>"}, "x")
        with writer.transaction() as tx:
            tx.delete_snapshot("uuid-a", "xy")
            tx.put_snapshot("uuid-a", _taken("xyz", "x"))
        assert _seen(ours) == ({"x": "<domain/>", "xyz": "<domain/>"}, "x")
        with writer.transaction() as tx:
            tx.delete_snapshot("uuid-a", "x")
            tx.put_snapshot("uuid-a", _taken("x", text="<again/>"))
        assert _seen(ours) == ({"x": "<again/>", "xyz": "<domain/>"}, None)
        with writer.transaction() as tx:
            tx.delete_snapshot("uuid-a", "xyz")
            tx.put_snapshot("uuid-a", _taken("x"))
        assert _seen(ours) == ({"x": "<domain/>"}, None)
    with theirs.transaction() as tx:
        tx.delete_domain("uuid-a")
        tx.put_domain(A)
    assert _seen(ours) == ({}, None)
    ours.close()
    theirs.close()


def test_a_tree_within_a_transaction_is_not_remembered(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.transaction() as tx:
        tx.put_domain(A)
        tx.put_snapshot("uuid-a", _taken("x"))
    before = store.tree("uuid-a")

    def write_and_fail() -> None:
        with store.transaction() as tx:
            assert store.tree("uuid-a") is before
            tx.put_snapshot("uuid-a", _taken("x", text="<never/>"))
            tx.put_snapshot("uuid-a", _taken("xy", "x"))
            assert _seen(store) == ({"x": "<never/>", "xy": "<domain/>"}, None)
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    assert store.tree("uuid-a") is before
    # The numbers of the writes that never were are given again.
    with store.transaction() as tx:
        tx.put_snapshot("uuid-a", _taken("xyz", "x"))
    assert _seen(store) == ({"x": "<domain/>", "xyz": "<domain/>"}, None)
    store.close()
