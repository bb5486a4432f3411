"""What is read only when somebody has written: never older than the last commit, of whomever."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from virtsnap.model.domain import DomainRecord, Reason
from virtsnap.store.database import open_store

A, B = (DomainRecord(uuid=f"uuid-{name}", name=name, config_xml="<domain/>") for name in "ab")


def test_another_connection_and_our_own(tmp_path: Path) -> None:
    ours, theirs = open_store(tmp_path), open_store(tmp_path)
    assert (ours.standings(), ours.standing("uuid-a")) == ((), None)
    with theirs.transaction() as tx:
        tx.put_domain(A)
        tx.put_domain(B)
    first = ours.standing("uuid-a")
    assert first is not None
    assert (first.record, first.busy) == (A, False)
    assert [one.record for one in ours.standings()] == [A, B]
    assert ours.standings() is ours.standings()
    assert ours.standings()[0] is first

    for number, writer in enumerate((theirs, ours)):
        changed = replace(B, reason=Reason.SHUTOFF_SAVED, autostart=bool(number))
        with writer.transaction() as tx:
            tx.put_domain(changed)
        second = ours.standing("uuid-b")
        assert second is not None
        assert second.record == changed
        assert ours.standings() == (first, second), "who has not changed is the same object"

    for number, writer in enumerate((theirs, ours)):
        with writer.transaction() as tx:
            tx.open_journal("uuid-a", "create", "{}", "{}", "a test")
        assert [one.busy for one in ours.standings()] == [True, False], number
        with writer.transaction() as tx:
            tx.close_journal("uuid-a", "done")
        assert [one.busy for one in ours.standings()] == [False, False], number

    with theirs.transaction() as tx:
        tx.delete_domain("uuid-a")
    assert ours.standing("uuid-a") is None
    assert [one.record.name for one in ours.standings()] == ["b"]
    with ours.transaction() as tx:
        tx.delete_domain("uuid-b")
    assert (ours.standing("uuid-b"), ours.standings()) == (None, ())
    ours.close()
    assert ours.standings() == ()
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
            inside = store.standings()
            assert [one.record.autostart for one in inside] == [True, False]
            assert store.standing("uuid-a") is not None
            assert store.standing("uuid-b") is not None
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    assert [one.record for one in store.standings()] == [A]
    assert store.standing("uuid-b") is None
    store.close()
