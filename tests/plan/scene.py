"""A domain on the simulated host, with a history made by plans: for tests of single ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from tests.plan.simulation import UUID, Book, Host, Image, World, disk_xml, domain_xml
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.domain import DomainRecord, Reason
from virtsnap.model.facts import DomainFacts
from virtsnap.model.flags import SnapshotCreate, SnapshotDelete, SnapshotRevert
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk
from virtsnap.model.steps import Announce, Plan, StoreWrite
from virtsnap.plan import create, delete, lifecycle, revert
from virtsnap.plan.describe import sentence
from virtsnap.plan.requests import DeleteRequest, RevertRequest

Change = Callable[[DomainFacts], DomainFacts]
"""What else the facts of a plan should say."""


def same(facts: DomainFacts) -> DomainFacts:
    return facts


class Scene:
    """Disks are /i/NAME.img; snapshots put /i/NAME.SNAPSHOT on top, reverts /i/NAME.NOW."""

    def __init__(
        self,
        disks: Iterable[str] = ("vda",),
        *,
        running: bool = False,
        more_disks: str = "",
        devices: str = "",
    ) -> None:
        host = Host({"/i/cd.iso": Image({8: "iso"}, format="raw")})
        xml = ""
        for target in disks:
            host.images[f"/i/{target}.img"] = Image(dict.fromkeys(range(1, 4), "o"))
            xml += disk_xml(target, f"/i/{target}.img")
        xml = domain_xml(xml + more_disks, more=devices)
        self.world = World(host, Book(DomainRecord(UUID, "d", xml)), now=100, next_id=1)
        if running:
            self.start()

    @property
    def book(self) -> Book:
        return self.world.book

    @property
    def host(self) -> Host:
        return self.world.host

    def start(self, paused: bool = False) -> None:
        self.world.run(
            lifecycle.plan_start(self.book.record, id=self.world.next_id, root="/root", paused=paused)
        )
        self.world.next_id += 1

    def stop(self) -> None:
        self.world.run(lifecycle.plan_stop(self.book.record, Reason.SHUTOFF_DESTROYED))

    def pause(self) -> None:
        guest = self.world.guest
        assert guest is not None
        guest.running = False
        self.book.record = replace(self.book.record, reason=Reason.PAUSED_USER)

    def fill(self, path: str, clusters: int) -> None:
        """Make an image of a size of 64 KiB for each cluster."""
        self.host.images[path].clusters = dict.fromkeys(range(10, 10 + clusters), path)

    def create(
        self,
        name: str,
        *disks: SnapshotDisk,
        memory: bool = False,
        flags: SnapshotCreate | None = None,
    ) -> None:
        if flags is None:
            flags = SnapshotCreate(0) if memory else SnapshotCreate.DISK_ONLY
        parsed = Snapshot(
            name,
            memory=Location.EXTERNAL if memory else Location.UNSET,
            memory_file=f"/m/{name}" if memory else None,
            disks=disks,
        )
        self.world.now += 1
        request = create.prepare_request(
            parsed,
            flags,
            self.book.record,
            self.world.now,
            frozenset(self.book.snapshots),
            self.host.images.__contains__,
            self.book.owned,
        )
        self.world.run(create.plan_create(self.world.facts(create.paths_of(request)), request))

    def plan_revert(self, name: str, flags: int = 0, change: Change = same) -> Plan:
        request = RevertRequest(name, SnapshotRevert(flags))
        facts = change(self.world.facts())
        paths = revert.paths_of(facts, request)
        files = dict(self.world.facts(paths).files) | dict(facts.files)
        return revert.plan_revert(replace(facts, files=files), request)

    def revert(self, name: str, flags: int = 0) -> None:
        self.world.now += 1
        self.world.run(self.plan_revert(name, flags))
        self.world.next_id += 1

    def plan_delete(self, name: str, flags: int = 0, change: Change = same) -> Plan:
        return delete.plan_delete(change(self.world.facts()), DeleteRequest(name, SnapshotDelete(flags)))

    def delete(self, name: str, flags: int = 0) -> None:
        self.world.run(self.plan_delete(name, flags))


def lines(plan: Plan) -> list[str]:
    """Every step as a reader of a dry run sees it."""
    phases = [("prepare", step) for step in plan.prepare]
    phases += [("commit", plan.commit)]
    phases += [("finish", step) for step in plan.finish]
    return [f"{phase}: {sentence(step)}" for phase, step in phases if not isinstance(step, Announce)]


def write_of(plan: Plan) -> StoreWrite:
    """The first write to the store."""
    return next(step for step in plan.steps if isinstance(step, StoreWrite))


def sources(xml: str | None) -> dict[str, str | None]:
    """By target, the images of a definition."""
    return {disk.target: disk.source for disk in DomainDefinition.parse(xml or "").disks}
