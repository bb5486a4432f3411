"""What became of a domain since the store last heard of it.

QEMU processes belong to nobody: a guest may have powered off, crashed or been paused by its watchdog while no
virtsnap ran. Each QEMU keeps a log of its own events, so the truth is in three places that need no
conversation: the store's record, the process table, and that log.
"""

from __future__ import annotations

from dataclasses import replace

from virtsnap.engine import telling
from virtsnap.engine.world import events_path
from virtsnap.model.domain import DomainRecord, DomainState, Instance, Reason
from virtsnap.model.event import Detail, ended
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


def _end(instance: Instance, reason: Reason) -> tuple[Detail, ...]:
    """What is told of a QEMU that has ended by itself, or was ended by somebody unknown."""
    if reason is Reason.SHUTOFF_CRASHED and events.panicked(
        events.read_events(events_path(instance.run_dir))
    ):
        return (Detail.STOPPED_CRASHED,)
    if reason is Reason.SHUTOFF_DESTROYED:
        # libvirt's words for a QEMU that is told to end behind its back.
        return (Detail.SHUTDOWN_HOST, Detail.STOPPED_SHUTDOWN)
    return ended(reason, by_us=False)


def _living(recorded: Reason, log: tuple[events.Event, ...]) -> Reason:
    """Why it is in its state, by the last event that changed it; the record knows whose wish it was."""
    stands_still = _last(log, "STOP", "RESUME") in ("STOP", None)
    slept = _last(log, "SUSPEND", "WAKEUP", "RESET")
    # A QEMU that was started with a sleeping guest's memory tells of no falling asleep.
    sleeps = recorded.state is DomainState.PMSUSPENDED if slept is None else slept == "SUSPEND"
    awake = DomainState.PMSUSPENDED if sleeps else DomainState.RUNNING
    state = DomainState.PAUSED if stands_still else awake
    if state is recorded.state:
        return recorded
    if state is DomainState.PAUSED:
        return events.last_pause_reason(log)
    return _DEFAULT[state]


def _last(log: tuple[events.Event, ...], *names: str) -> str | None:
    """The last event of these names, if there was one."""
    return next((event.name for event in reversed(log) if event.name in names), None)


_DEFAULT = {
    DomainState.RUNNING: Reason.RUNNING_UNPAUSED,
    DomainState.PMSUSPENDED: Reason.PMSUSPENDED_UNKNOWN,
}


def settle(store: Store, record: DomainRecord) -> DomainRecord:
    """Write down what `observed` sees, for a caller that holds the domain's lock.

    A transient domain that ended is forgotten; its record comes back all the same, for the last word on it.
    """
    now = observed(record)
    forgotten = not now.active and not now.persistent
    if now == record and not forgotten:
        telling.overhear(store, record.uuid)
        return now
    with store.transaction() as tx:
        telling.overhear_in(tx, store, record.uuid)
        if record.instance is not None and now.instance is None:
            telling.tell(tx, record, *_end(record.instance, now.reason))
            tx.delete_event_log(record.instance.run_dir)
        if now.active or now.persistent:
            tx.put_domain(now)
        else:
            tx.delete_domain(now.uuid)
    if record.instance is not None and now.instance is None:
        from virtsnap.engine import swtpm

        swtpm.end(record.instance.run_dir)
        if forgotten:
            swtpm.forget(str(store.root), record.config_xml)
        jobs = store.block_jobs(record.uuid, active=True)
        # Its log says what became of a block job; `service.concluding` asks it, and removes it.
        if all(job.run_dir != record.instance.run_dir for job in jobs):
            import shutil

            shutil.rmtree(record.instance.run_dir, ignore_errors=True)
    return now
