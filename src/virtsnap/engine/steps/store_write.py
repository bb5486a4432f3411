"""The store's steps: one transaction that makes an operation's result real, or tells of it."""

from __future__ import annotations

from dataclasses import replace

from virtsnap.engine import launch, telling
from virtsnap.engine.steps.base import Irreversible
from virtsnap.engine.world import World
from virtsnap.model import steps as s
from virtsnap.model.domain import Reason
from virtsnap.model.event import AgentReason, AgentState, Detail
from virtsnap.qemu.told import agent_changed
from virtsnap.store.transaction import Transaction


def apply(world: World, tx: Transaction, step: s.StoreWrite) -> None:
    """Everything the step says, inside a transaction of the caller's."""
    uuid = world.uuid
    # What the QEMU has said until now is told of the domain as it was.
    telling.overhear_in(tx, world.store, uuid)
    if step.record is not None:
        record = step.record
        if step.started is not None:
            instance, live_xml = launch.started(step.started, record.live_xml or record.config_xml)
            record = replace(record, instance=instance, live_xml=live_xml)
        tx.put_domain(record)
        if step.started is not None:
            telling.begin_listening(tx, record)
    known = world.store.tree(uuid)
    for name in step.delete_snapshots:
        if name in known:
            tx.delete_snapshot(uuid, name)
    for snapshot in step.put_snapshots:
        tx.put_snapshot(uuid, snapshot)
    if step.set_current:
        tx.set_current(uuid, step.current)
    for path in step.delete_images:
        tx.delete_image(uuid, path)
    for path, role in step.put_images:
        tx.put_image(uuid, path, role.value)
    for job in step.put_block_jobs:
        tx.put_block_job(uuid, job)


def announce(world: World, tx: Transaction, step: s.Announce) -> None:
    """Tell what the step says, inside a transaction of the caller's."""
    if step.ended is not None and all(x.run_dir != step.ended for x in world.store.event_logs(world.uuid)):
        return  # told already
    record = world.record()
    telling.overhear_in(tx, world.store, world.uuid)
    if step.agent_awaited:
        telling.tell(tx, record, agent_changed(AgentState.DISCONNECTED, AgentReason.DOMAIN_STARTED))
    telling.tell(tx, record, *step.details)
    if step.ended is not None:
        tx.delete_event_log(step.ended)


class StoreWrite(Irreversible):
    """A StoreWrite among the finish steps; as a commit the runner applies it itself."""

    async def do(self, world: World, step: s.StoreWrite, /) -> None:
        """Write it all, or nothing."""
        with world.store.transaction() as tx:
            apply(world, tx, step)


class Announce(Irreversible):
    """Events told among the finish steps."""

    async def do(self, world: World, step: s.Announce, /) -> None:
        """Tell; the runner sees to it that it happens once."""
        with world.store.transaction() as tx:
            announce(world, tx, step)


def add(tx: Transaction, step: s.AddDomains) -> None:
    """The new domains, inside a transaction of the caller's."""
    for domain in step.domains:
        _add(tx, domain)


def _add(tx: Transaction, domain: s.NewDomain) -> None:
    record = domain.record
    if domain.started is not None:
        instance, live_xml = launch.started(domain.started, record.live_xml or record.config_xml)
        record = replace(record, instance=instance, live_xml=live_xml)
    tx.put_domain(record)
    telling.tell(tx, record, Detail.DEFINED_ADDED)
    if domain.started is not None:
        booted = record.reason in (Reason.RUNNING_BOOTED, Reason.PAUSED_USER)
        telling.begin_listening(tx, record)
        telling.tell(tx, record, Detail.STARTED_BOOTED if booted else Detail.STARTED_FROM_SNAPSHOT)
    for snapshot in domain.snapshots:
        tx.put_snapshot(record.uuid, snapshot)
    tx.set_current(record.uuid, domain.current)
    for path, role in domain.images:
        tx.put_image(record.uuid, path, role.value)


class AddDomains(Irreversible):
    """Only ever a commit, which the runner applies itself."""

    async def do(self, world: World, step: s.AddDomains, /) -> None:
        """Write it all, or nothing."""
        with world.store.transaction() as tx:
            add(tx, step)


class ForgetDomain(Irreversible):
    """The end of a domain, and with it of its journal."""

    async def do(self, world: World, step: s.ForgetDomain, /) -> None:
        """Delete its record and all that hangs on it; quiet when it is gone."""
        with world.store.transaction() as tx:
            record = world.store.domain(world.uuid)
            if record is not None:
                telling.tell(tx, record, Detail.UNDEFINED_REMOVED)
                tx.close_journal(world.uuid, "done")
                tx.delete_domain(world.uuid)


class Declare(Irreversible):
    """No effect: the journal's commit record is all there is."""

    async def do(self, world: World, step: s.Declare, /) -> None:
        """Nothing."""
