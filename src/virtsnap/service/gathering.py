"""The picture of a domain that plans decide on, taken for whoever holds its lock."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from virtsnap.qemu import facts as reader
from virtsnap.qemu.memory import choose_way
from virtsnap.service.managed import ManagedSave

if TYPE_CHECKING:
    from virtsnap.engine.world import World
    from virtsnap.model.domain import DomainRecord
    from virtsnap.model.facts import DomainFacts


async def gather(world: World, *, starts: int = 0, record: DomainRecord | None = None) -> DomainFacts:
    """Everything known of the domain. `starts`: with ids for so many QEMUs that the plan will start.

    `record`: take this for the domain's record.
    """
    store, next_id = world.store, 0
    record = record or world.record()
    if starts:
        # The journal that names it is durable, and this with it.
        with store.transaction(durable=False) as tx:
            next_id = tx.next_domain_ids(starts)
    monitor = await world.monitor()
    # The QEMU that runs, not the one that is installed by now.
    version = monitor.version if monitor is not None else ()
    managed = ManagedSave.of(world.root, world.uuid)
    facts = await reader.gather(
        root=str(world.root),
        record=record,
        tree=store.tree(world.uuid),
        owned=dict(store.images(world.uuid)),
        others=[(other, store.tree(other.uuid)) for other in store.domains() if other.uuid != world.uuid],
        monitor=monitor,
        memory_way=choose_way(version),
        qemu_version=version,
        next_id=next_id,
        block_jobs=store.block_jobs(world.uuid, active=True),
    )
    return replace(facts, managed_save=(managed.path, managed.note) if managed.exists else ())
