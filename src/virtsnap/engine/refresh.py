"""What became of a domain since the store last heard of it.

QEMU processes belong to nobody: a guest may have powered off, crashed or been paused by its watchdog while no
virtsnap ran. Each QEMU keeps a log of its own events, so the truth is in three places that need no
conversation: the store's record, the process table, and that log.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

from virtsnap.engine.world import events_path
from virtsnap.model.domain import DomainRecord, DomainState, Reason
from virtsnap.qemu import events, process
from virtsnap.store.database import Store


def observed(record: DomainRecord) -> DomainRecord:
    """The record as the world has it now. Writes nothing."""
    instance = record.instance
    if instance is None:
        return record
    log = events.read_events(events_path(instance.run_dir))
    if not process.alive(instance):
        return replace(record, live_xml=None, instance=None, reason=events.exit_reason(log))
    return replace(record, reason=_living(record.reason, log))


def _living(recorded: Reason, log: tuple[events.Event, ...]) -> Reason:
    """Why it is in its state, by the last event that changed it; the record knows whose wish it was."""
    last = next((e.name for e in reversed(log) if e.name in _STATE_OF), None)
    state = DomainState.PAUSED if last is None else _STATE_OF[last]
    if state is recorded.state:
        return recorded
    if state is DomainState.PAUSED:
        return events.last_pause_reason(log)
    return _DEFAULT[state]


_STATE_OF = {
    "RESUME": DomainState.RUNNING,
    "STOP": DomainState.PAUSED,
    "SUSPEND": DomainState.PMSUSPENDED,
    "WAKEUP": DomainState.RUNNING,
}
_DEFAULT = {
    DomainState.RUNNING: Reason.RUNNING_UNPAUSED,
    DomainState.PMSUSPENDED: Reason.PMSUSPENDED_UNKNOWN,
}


def settle(store: Store, record: DomainRecord) -> DomainRecord:
    """Write down what `observed` sees, for a caller that holds the domain's lock.

    A transient domain that ended is forgotten; its record comes back all the same, for the last word on it.
    """
    now = observed(record)
    if now == record:
        return now
    with store.transaction() as tx:
        if now.active or now.persistent:
            tx.put_domain(now)
        else:
            tx.delete_domain(now.uuid)
    if record.instance is not None and now.instance is None:
        shutil.rmtree(record.instance.run_dir, ignore_errors=True)
    return now
