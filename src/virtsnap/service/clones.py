"""The calls on domains that are made of snapshots: cloning, and throwing a clone away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from virtsnap.model.errors import OperationFailed, XmlError
from virtsnap.service.interface import DomainHandle, PlanReport, ProgressCallback
from virtsnap.service.snapshots import SnapshotCalls, report

if TYPE_CHECKING:
    from virtsnap.machine.identity import Identity

_MAC_PREFIX = "52:54:00"
"""QEMU's, as libvirt gives its guests."""


class CloneCalls(SnapshotCalls):
    """See `service.interface.Service`."""

    async def snapshot_clone(
        self,
        uuid: str,
        snapshot: str,
        names: Sequence[str],
        start: bool = False,
        paused: bool = False,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> tuple[DomainHandle, ...] | PlanReport:
        """Raises Refused before anything is touched, Failed after all were undone."""
        from virtsnap.plan import clone
        from virtsnap.qemu import facts as reader

        self.writable("cloning")
        for name in names:
            if not name or "/" in name or name != name.strip() or names.count(name) > 1:
                raise XmlError(f"invalid name '{name}' for a domain")
            taken = self.store.domain_by_name(name)
            if taken is not None:
                raise OperationFailed(f"domain '{name}' already exists with uuid {taken.uuid}")
        async with self.operation(uuid, progress) as world:
            facts = await self._facts(world, starts=len(names) if (start or paused) and not dry_run else 0)
            identities = tuple(self._identity(name) for name in names)
            request = clone.CloneRequest(snapshot, identities, start, paused)
            facts = await reader.with_files(facts, clone.paths_of(facts, request))
            facts = await reader.with_memory_image(facts, facts.tree[snapshot], self.root / "cache")
            plan = clone.plan_clone(facts, request)
            if dry_run:
                return report(plan)
            await self.run(world, plan, facts)
        records = (self._record(identity.uuid) for identity in identities)
        return tuple(
            DomainHandle(record.uuid, record.name, record.instance.id if record.instance else None)
            for record in records
        )

    def _identity(self, name: str) -> Identity:
        import secrets
        import uuid as uuids

        from virtsnap.machine.identity import Identity

        tails = (secrets.token_bytes(3) for _ in range(64))
        return Identity(
            name=name,
            uuid=str(uuids.uuid4()),
            macs=tuple(":".join((_MAC_PREFIX, *(f"{byte:02x}" for byte in tail))) for tail in tails),
            genid=str(uuids.uuid4()),
            nvram=str(self.root / "nvram" / f"{name}_VARS.fd"),
        )

    async def discard(self, uuid: str) -> None:
        """Raises OperationInvalid for a domain whose disks are the user's own images."""
        from virtsnap.engine import jobs
        from virtsnap.plan.discard import plan_discard
        from virtsnap.service.managed import ManagedSave

        self.writable("discarding a domain")
        async with self.operation(uuid) as world:
            managed = ManagedSave.of(self.root, uuid)
            facts = await self._facts(world)
            await self.run(world, plan_discard(facts, (managed.path, managed.note)), facts)
        jobs.forget(self.root, uuid)
