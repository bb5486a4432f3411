"""What was told: in order, bounded, with the transaction or not at all; and the bell."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtsnap.model.event import Change, Detail, DomainEvent, EventKind
from virtsnap.store import bell, transaction
from virtsnap.store.database import Store
from virtsnap.store.reads import EventLog


def event(uuid: str, detail: Detail = Detail.STARTED_BOOTED, at: float = 1.5) -> DomainEvent:
    return DomainEvent(uuid, "guest", 3, Change.life(detail), at)


def test_told_and_read(store: Store, uuid: str) -> None:
    assert store.last_event() == 0
    stats = Change(EventKind.JOB_COMPLETED, {"stats": {"operation": 2, "errmsg": "no"}})
    with store.transaction() as tx:
        tx.tell(event(uuid))
        tx.tell(DomainEvent(uuid, "guest", None, stats, 2.5))
    first, second = store.events_after(0)
    assert (first.sequence, second.sequence, store.last_event()) == (1, 2, 2)
    assert (first.change, first.at, first.id) == (Change.life(Detail.STARTED_BOOTED), 1.5, 3)
    assert (second.change, second.id) == (stats, None)
    assert store.events_after(1) == [second]
    with store.transaction() as tx:
        tx.delete_domain(uuid)
    assert store.events_after(0) == [first, second]


def test_a_transaction_that_fails_tells_nothing(store: Store, uuid: str) -> None:
    def fail() -> None:
        with store.transaction() as tx:
            tx.tell(event(uuid))
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        fail()
    assert store.events_after(0) == []
    assert not (store.root / bell.FILE_NAME).exists()
    with store.transaction() as tx:
        tx.put_event_log(uuid, "/run/1", 0, "{}")
    assert not (store.root / bell.FILE_NAME).exists(), "nothing was told"
    with store.transaction() as tx:
        tx.tell(event(uuid))
    assert (store.root / bell.FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_the_newest_are_kept(store: Store, uuid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "EVENTS_KEPT", 3)
    for _ in range(5):
        with store.transaction() as tx:
            tx.tell(event(uuid))
    assert [one.sequence for one in store.events_after(0)] == [3, 4, 5]


def test_logs_go_with_their_domain(store: Store, uuid: str) -> None:
    with store.transaction() as tx:
        tx.put_event_log(uuid, "/run/10", 0, "{}")
        tx.put_event_log(uuid, "/run/9", 0, "{}")
        tx.put_event_log(uuid, "/run/9", 70, '{"x":1}')
    assert store.event_logs() == [EventLog("/run/9", uuid, 70, '{"x":1}'), EventLog("/run/10", uuid, 0, "{}")]
    with store.transaction() as tx:
        tx.delete_event_log("/run/9")
        tx.delete_event_log("/run/9")
    assert [log.run_dir for log in store.event_logs(uuid)] == ["/run/10"]
    with store.transaction() as tx:
        tx.delete_domain(uuid)
    assert store.event_logs() == []


def test_a_bell_that_cannot_ring_is_no_error(tmp_path: Path) -> None:
    bell.ring(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
