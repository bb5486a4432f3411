"""The calls on snapshots: read the request, take the facts, plan, run."""

from __future__ import annotations

import logging
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from virtsnap.formats.kept import Kept
from virtsnap.model.errors import BareInvalidArg, ConfigUnsupported, NotCaptured, NotConverged
from virtsnap.model.flags import SnapshotCreate
from virtsnap.model.snapshot import Location, Snapshot, SnapshotTree
from virtsnap.service import schemas
from virtsnap.service.context import Context
from virtsnap.service.interface import MadeSnapshot, PlanReport, ProgressCallback

if TYPE_CHECKING:
    from virtsnap.engine.world import World
    from virtsnap.model.facts import DomainFacts
    from virtsnap.model.steps import Plan
    from virtsnap.plan.requests import CreateRequest


class SnapshotCalls(Context):
    """See `service.interface.Service`."""

    async def snapshot_tree(self, uuid: str) -> SnapshotTree:
        """All snapshots; the same object while nothing is written. Raises NoDomain."""
        await self.look(uuid)
        return self.store.tree(uuid)

    async def snapshot_xml(self, uuid: str, name: str, flags: int = 0) -> str:
        """The document as libvirt writes it. Raises NoSnapshot."""
        if flags & ~1:
            raise BareInvalidArg(
                f"unsupported flags (0x{flags & ~1:x}) in function qemuDomainSnapshotGetXMLDesc"
            )
        if flags & 1:
            self.may_see_secrets("virDomainSnapshotGetXMLDesc")
        snapshot = (await self.snapshot_tree(uuid)).lookup(name)
        return _document(snapshot, bool(flags & 1), uuid)

    async def snapshot_create_xml(
        self,
        uuid: str,
        xml: str,
        flags: int = 0,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> str | PlanReport:
        """Take a snapshot. Raises Refused before anything is touched, Failed after it was undone."""
        from virtsnap.formats.snapshot_xml import parse_snapshot
        from virtsnap.plan import create
        from virtsnap.qemu import facts as reader

        self.writable("virDomainSnapshotCreateXML")
        flag = create.check_flags(flags)
        if flag & SnapshotCreate.VALIDATE:
            schemas.validate(xml, "domainsnapshot")
        if flag & SnapshotCreate.REDEFINE:
            return await self._redefine(uuid, xml, flag, dry_run)
        async with self.operation(uuid, progress) as world:
            record = world.record()
            now = int(time.time())
            offline = bool(flag & SnapshotCreate.DISK_ONLY) or not record.active
            parsed = parse_snapshot(xml, redefine=False, offline=offline, now=now)
            taken = frozenset(self.store.tree(uuid).snapshots)
            ours = self.store.images(uuid)
            request = create.prepare_request(parsed, flag, record, now, taken, reader.is_regular, ours)
            why_not = {"no_background": "", "no_in_place": ""}
            while True:
                try:
                    return await self._take(world, request, dry_run=dry_run, **why_not)
                except NotCaptured as error:
                    if request.memory_mode is not None or why_not["no_background"]:
                        raise
                    why_not = {"no_background": error.detail, "no_in_place": ""}
                except NotConverged as error:
                    # Only where the way in the background is there, too.
                    why_not = {"no_background": "", "no_in_place": error.detail}

    async def _take(
        self,
        world: World,
        request: CreateRequest,
        *,
        dry_run: bool = False,
        no_background: str = "",
        no_in_place: str = "",
    ) -> str | PlanReport:
        """`no_background`, `no_in_place`: why the memory must not be written in that way."""
        from virtsnap.plan import create
        from virtsnap.plan.memory_way import MILD_MIB, rate_decides
        from virtsnap.qemu import dirty_rate
        from virtsnap.qemu import facts as reader
        from virtsnap.qemu.background import chosen

        facts = await self._facts(world)
        facts = await reader.with_files(facts, create.paths_of(request, facts.root))
        monitor = await world.monitor()
        if request.flags & SnapshotCreate.QUIESCE:
            facts = await reader.with_agent(facts, monitor)
        async with AsyncExitStack() as stack:
            if request.snapshot.memory is Location.EXTERNAL and monitor is not None and not no_background:
                way, no_background = await stack.enter_async_context(chosen(monitor))
                facts = replace(facts, memory_way=way, no_in_place=no_in_place)
                if rate_decides(facts, request.flags, request.snapshot, request.memory_mode):
                    facts = replace(facts, dirty_rate=await dirty_rate.sample(monitor, MILD_MIB))
            plan = create.plan_create(replace(facts, no_background=no_background), request)
            if dry_run:
                return report(plan)
            if plan.memory_mode:
                reason = f" ({plan.memory_reason})" if plan.memory_reason else ""
                logging.getLogger("virtsnap").info(
                    "snapshot '%s': memory mode '%s'%s", plan.subject, plan.memory_mode, reason
                )
            await self.run(world, plan, facts)
        return MadeSnapshot.of(request.snapshot.name, plan.memory_mode, plan.memory_reason)

    async def _redefine(self, uuid: str, xml: str, flag: SnapshotCreate, dry_run: bool) -> str | PlanReport:
        from virtsnap.formats.snapshot_xml import parse_snapshot
        from virtsnap.plan import redefine
        from virtsnap.qemu import facts as reader

        async with self.operation(uuid) as world:
            given = parse_snapshot(xml, redefine=True, offline=False, now=int(time.time()))
            given = replace(
                given,
                domain_xml=await self._completed_text(given.domain_xml),
                inactive_domain_xml=await self._completed_text(given.inactive_domain_xml),
            )
            facts = await self._facts(world)
            facts = await reader.with_files(facts, redefine.paths_of(given, facts.root))
            plan = redefine.plan_redefine(facts, given, flag, reader.is_regular)
            if dry_run:
                return report(plan)
            await self.run(world, plan, facts)
            return given.name

    async def _completed_text(self, xml: str | None) -> str | None:
        """With what libvirt fills in. A machine that we do not know is kept as given; nobody can start it."""
        from virtsnap.formats.domain_xml import DomainDefinition

        if xml is None:
            return None
        try:
            return (await self.completed(DomainDefinition.parse(xml))).to_inactive_xml()
        except ConfigUnsupported:
            return xml

    async def snapshot_revert(
        self,
        uuid: str,
        name: str,
        flags: int = 0,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> PlanReport | None:
        """Go back to a snapshot. Raises Refused before anything is touched, Failed after it was undone."""
        from virtsnap.plan import revert
        from virtsnap.plan.requests import RevertRequest
        from virtsnap.qemu import facts as reader

        self.writable("virDomainRevertToSnapshot")
        request = RevertRequest(name, revert.check_flags(flags))
        async with self.operation(uuid, progress) as world:
            facts = await self._facts(world, starts=int(not dry_run))
            facts = await reader.with_files(facts, revert.paths_of(facts, request))
            facts = await reader.with_memory_image(facts, facts.tree[name], self.root / "cache")
            plan = revert.plan_revert(facts, request)
            if dry_run:
                return report(plan)
            await self.run(world, plan, facts)
            return None

    async def snapshot_delete(
        self,
        uuid: str,
        name: str,
        flags: int = 0,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> PlanReport | None:
        """Forget a snapshot. Raises Refused before anything is touched."""
        from virtsnap.plan import delete
        from virtsnap.plan.requests import DeleteRequest

        self.writable("virDomainSnapshotDelete")
        request = DeleteRequest(name, delete.check_flags(flags))
        async with self.operation(uuid, progress) as world:
            facts = await self._facts(world)
            plan = delete.plan_delete(facts, request)
            if dry_run:
                return report(plan)
            await self.run(world, plan, facts)
            return None

    async def _facts(self, world: World, *, starts: int = 0) -> DomainFacts:
        from virtsnap.service.gathering import gather

        return await gather(world, starts=starts)


_DOCUMENTS: Kept[tuple[Snapshot, bool, str], str] = Kept(1 << 19, len)


def _document(snapshot: Snapshot, secure: bool, uuid: str) -> str:
    """Kept: clients that list snapshots ask for the document of each, again and again."""
    from virtsnap.formats.snapshot_xml import format_snapshot

    return _DOCUMENTS.get(
        (snapshot, secure, uuid), lambda: format_snapshot(snapshot, secure=secure, uuid=uuid)
    )


def report(plan: Plan) -> PlanReport:
    from virtsnap.plan.describe import describe

    words = describe(plan)
    return PlanReport(
        operation=plan.operation,
        subject=plan.subject,
        makes=words.makes,
        removes=words.removes,
        merges=words.merges,
        pause=plan.pause,
        steps=words.steps,
    )
