"""The store's step: one transaction that makes an operation's result real."""

from __future__ import annotations

from dataclasses import replace

from virtsnap.engine import launch
from virtsnap.engine.steps.base import Irreversible
from virtsnap.engine.world import World
from virtsnap.model import steps as s
from virtsnap.store.transaction import Transaction


def apply(world: World, tx: Transaction, step: s.StoreWrite) -> None:
    """Everything the step says, inside a transaction of the caller's."""
    uuid = world.uuid
    if step.record is not None:
        record = step.record
        if step.started is not None:
            instance, live_xml = launch.started(step.started, record.live_xml or record.config_xml)
            record = replace(record, instance=instance, live_xml=live_xml)
        tx.put_domain(record)
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


class StoreWrite(Irreversible):
    """A StoreWrite among the finish steps; as a commit the runner applies it itself."""

    async def do(self, world: World, step: s.StoreWrite, /) -> None:
        """Write it all, or nothing."""
        with world.store.transaction() as tx:
            apply(world, tx, step)


class Declare(Irreversible):
    """No effect: the journal's commit record is all there is."""

    async def do(self, world: World, step: s.Declare, /) -> None:
        """Nothing."""
