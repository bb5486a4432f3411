"""The calls on what disks stand on: showing it, and making them independent of it."""

from __future__ import annotations

from collections.abc import Sequence

from virtsnap.service.interface import ChainLayer, PlanReport, ProgressCallback
from virtsnap.service.snapshots import SnapshotCalls, report


class ChainCalls(SnapshotCalls):
    """See `service.interface.Service`."""

    async def block_chains(self, uuid: str, inactive: bool = False) -> dict[str, tuple[ChainLayer, ...]]:
        """By target, the layers from the top; none for an empty drive or one of the network."""
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.plan.images import frozen_images
        from virtsnap.qemu import facts as reader

        record = await self.look(uuid)
        frozen: dict[str, list[str]] = {}
        for snapshot in self.store.tree(uuid):
            for path in frozen_images(snapshot).values():
                frozen.setdefault(path, []).append(snapshot.name)
        text = record.config_xml if inactive or record.live_xml is None else record.live_xml
        found = {}
        for disk in DomainDefinition.parse(text).disks:
            images = await reader.chain(disk.source, disk.format) if disk.source is not None else ()
            found[disk.target] = tuple(
                ChainLayer(
                    image.path,
                    image.format,
                    image.actual_size,
                    tuple(frozen.get(image.path, ())),
                    image.missing,
                )
                for image in images
            )
        return found

    async def flatten(
        self,
        uuid: str,
        targets: Sequence[str] = (),
        *,
        copy: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> PlanReport | None:
        """Shorten chains. Raises Refused before anything is touched, Failed after it was undone."""
        from virtsnap.plan.flatten import FlattenRequest, plan_flatten

        self.writable("flattening")
        async with self.operation(uuid, progress) as world:
            facts = await self._facts(world)
            plan = plan_flatten(facts, FlattenRequest(tuple(targets), copy))
            if dry_run:
                return report(plan)
            await self.run(world, plan, facts)
            return None
