"""Writes down what happened to domains, for whoever watches: what operations announce, what QEMUs logged.

Everything that is told stands in the store, in one order that all watchers see. An operation tells in the
transaction that makes the change. What a QEMU logged is taken over by whoever comes by first, an operation or
a watcher: how far its log has been read is part of the same transaction, so nothing is told twice. That needs
no lock on the domain.

A log counts from the moment its QEMU became the domain's until its end was told.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from virtsnap.engine.world import World, events_path
from virtsnap.model.domain import DomainRecord, Reason
from virtsnap.model.event import Change, Detail, DomainEvent, EventKind
from virtsnap.qemu.events import read_events_from
from virtsnap.store.database import Store
from virtsnap.store.reads import EventLog, Reads
from virtsnap.store.transaction import Transaction

if TYPE_CHECKING:
    from virtsnap.qemu.told import Heard

_FROM_MEMORY = (Reason.RUNNING_RESTORED, Reason.RUNNING_FROM_SNAPSHOT)


def tell(tx: Transaction, record: DomainRecord, *what: Detail | Change, at: float | None = None) -> None:
    """Append events of a domain that looks as `record` says. `at`: seconds since the epoch; None: now."""
    id = record.instance.id if record.instance is not None else None
    moment = time.time() if at is None else at
    for one in what:
        change = Change.life(one) if isinstance(one, Detail) else one
        tx.tell(DomainEvent(record.uuid, record.name, id, change, moment))


def begin_listening(tx: Transaction, record: DomainRecord) -> None:
    """From here on the QEMU that the record names is the domain's."""
    from virtsnap.qemu.told import Heard

    assert record.instance is not None
    heard = Heard()
    if record.reason in _FROM_MEMORY:
        heard = Heard(first_resume=int(Detail.RESUMED_FROM_SNAPSHOT))
    tx.put_event_log(record.uuid, record.instance.run_dir, 0, heard.to_json())


def has_news(log: EventLog) -> bool:
    """The QEMU has logged something that nobody has taken over."""
    with contextlib.suppress(OSError):
        return os.stat(events_path(log.run_dir)).st_size > log.position
    return False


def overhear(store: Store, uuid: str) -> None:
    """Take over what the domain's QEMUs have logged."""
    if any(has_news(log) for log in store.event_logs(uuid)):
        # After a power cut nobody watches who has missed it.
        with store.transaction(durable=False) as tx:
            overhear_in(tx, store, uuid)


def overhear_in(tx: Transaction, reads: Reads, uuid: str) -> None:
    """The same, in a transaction of the caller's."""
    # XML is read only when there is something to read it for.
    from virtsnap.qemu.told import Heard, told

    record = reads.domain(uuid)
    if record is None:
        return
    for log in reads.event_logs(uuid):
        if not has_news(log):
            continue
        events, position = read_events_from(events_path(log.run_dir), max(log.position, 0))
        if log.position < 0:
            events = ()  # that was before anybody kept events
        changes, heard = told(events, Heard.from_json(log.heard), record.live_xml)
        for change, at in changes:
            tell(tx, record, change, at=at)
        tx.put_event_log(uuid, log.run_dir, position, heard.to_json())


def expect_reboot(store: Store, uuid: str, reboots: bool) -> None:
    """The guest is about to go down and up again at our wish, or that is over."""
    _expect(store, uuid, lambda heard: replace(heard, reboots=reboots))


def expect_move(store: Store, uuid: str, job: str, path: str) -> None:
    """A block job is about to begin, after which its disk writes to another image."""
    _expect(store, uuid, lambda heard: replace(heard, moves={**heard.moves, job: path}))


def _expect(store: Store, uuid: str, change: Callable[[Heard], Heard]) -> None:
    from virtsnap.qemu.told import Heard

    with store.transaction() as tx:
        overhear_in(tx, store, uuid)
        for log in store.event_logs(uuid):
            heard = change(Heard.from_json(log.heard))
            tx.put_event_log(uuid, log.run_dir, log.position, heard.to_json())


def tell_control_error(world: World) -> None:
    """A QEMU that was started for the domain has ended before it answered. Of a domain that is not noted yet
    nobody has heard."""
    record = world.store.domain(world.uuid)
    if record is not None:
        with world.store.transaction(durable=False) as tx:
            tell(tx, record, Change(EventKind.CONTROL_ERROR))


def tell_job_completed(world: World) -> None:
    """The operation has written the domain's memory."""
    with world.store.transaction() as tx:
        overhear_in(tx, world.store, world.uuid)
        tell(tx, world.record(), Change(EventKind.JOB_COMPLETED, {"stats": world.job().stats()}))
