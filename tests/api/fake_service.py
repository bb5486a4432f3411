"""A Service in memory: domains without a QEMU, snapshots without files, libvirt's refusals.

It follows the protocol's contract as far as the API and the command line can see it. A long operation
can be held (`hold`), so that a test decides when it goes on or is cancelled.
"""

from __future__ import annotations

import asyncio
import uuid as uuids
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from xml.etree import ElementTree

from virtsnap.model.domain import BlockInfo, DomainInfo, DomainState, Reason
from virtsnap.model.errors import (
    BareInvalidArg,
    NoDomain,
    NoSnapshot,
    OperationDenied,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    RevertRisky,
    XmlDetail,
    XmlError,
)
from virtsnap.model.flags import (
    DomainList,
    DomainStart,
    DomainUndefine,
    DomainXml,
    SnapshotCreate,
    SnapshotDelete,
    SnapshotRevert,
)
from virtsnap.model.host import NodeInfo
from virtsnap.model.job import JobInfo, JobStats, JobType
from virtsnap.model.libvirt import FoundFile, FoundSnapshot, LibvirtReport
from virtsnap.model.snapshot import Location, Snapshot, SnapshotState, SnapshotTree
from virtsnap.service.interface import (
    BlockDevice,
    ChainLayer,
    DomainHandle,
    PlanReport,
    Progress,
    ProgressCallback,
)


@dataclass
class FakeDomain:
    uuid: str
    name: str
    xml: str
    id: int | None = None
    reason: Reason = Reason.SHUTOFF_UNKNOWN
    tree: SnapshotTree = field(default_factory=SnapshotTree)


class FakeService:
    """See the module's text. `now` is the creation time of the next snapshot."""

    def __init__(self, uri: str = "qemu:///embed?root=/fake", *, readonly: bool = False) -> None:
        self.uri = uri
        self.readonly = readonly
        self.job = JobInfo()
        self.completed = JobInfo()
        self.domains: dict[str, FakeDomain] = {}
        self.clones: set[str] = set()
        self.console = "/dev/null"
        self.now = 1_700_000_000
        self.closed = False
        self.hold: asyncio.Event | None = None
        self.reached: asyncio.Event | None = None
        self.undone = 0
        self.risky: set[str] = set()
        self.calls: list[tuple[str, object]] = []
        self._next_id = 1

    # for tests

    def add(self, name: str, *, running: bool = False, disks: tuple[str, ...] = ("vda",)) -> FakeDomain:
        uuid = str(uuids.uuid5(uuids.NAMESPACE_DNS, name))
        devices = "".join(
            f"<disk type='file' device='disk'><source file='/images/{name}-{disk}.qcow2'/>"
            f"<target dev='{disk}'/></disk>"
            for disk in disks
        )
        xml = (
            f"<domain type='qemu'>\n  <name>{name}</name>\n  <uuid>{uuid}</uuid>\n"
            f"  <title>The {name}</title>\n  <devices>{devices}</devices>\n</domain>\n"
        )
        domain = FakeDomain(uuid, name, xml)
        self.domains[uuid] = domain
        if running:
            self._start(domain, Reason.RUNNING_BOOTED)
        return domain

    # service

    async def close(self) -> None:
        self.closed = True

    async def list_domains(self, flags: int = 0) -> list[DomainHandle]:
        groups = (
            (DomainList.ACTIVE, DomainList.INACTIVE),
            (DomainList.PERSISTENT, DomainList.TRANSIENT),
            (DomainList.RUNNING, DomainList.PAUSED, DomainList.SHUTOFF, DomainList.OTHER),
            (DomainList.MANAGEDSAVE, DomainList.NO_MANAGEDSAVE),
            (DomainList.AUTOSTART, DomainList.NO_AUTOSTART),
            (DomainList.HAS_SNAPSHOT, DomainList.NO_SNAPSHOT),
            (DomainList.HAS_CHECKPOINT, DomainList.NO_CHECKPOINT),
        )
        states = {
            DomainState.RUNNING: DomainList.RUNNING,
            DomainState.PAUSED: DomainList.PAUSED,
            DomainState.SHUTOFF: DomainList.SHUTOFF,
        }

        def facts(domain: FakeDomain) -> int:
            word = DomainList.PERSISTENT | DomainList.NO_MANAGEDSAVE | DomainList.NO_AUTOSTART
            word |= DomainList.NO_CHECKPOINT
            word |= DomainList.ACTIVE if domain.id is not None else DomainList.INACTIVE
            word |= DomainList.HAS_SNAPSHOT if len(domain.tree) else DomainList.NO_SNAPSHOT
            return word | states.get(domain.reason.state, DomainList.OTHER)

        def passes(domain: FakeDomain) -> bool:
            return all(not flags & sum(group) or facts(domain) & flags & sum(group) for group in groups)

        return [self._handle(domain) for domain in self.domains.values() if passes(domain)]

    async def lookup_by_name(self, name: str) -> DomainHandle:
        for domain in self.domains.values():
            if domain.name == name:
                return self._handle(domain)
        raise NoDomain(f"no domain with matching name '{name}'")

    async def lookup_by_uuid(self, uuid: str) -> DomainHandle:
        return self._handle(self._domain(uuid))

    async def lookup_by_id(self, id: int) -> DomainHandle:
        for domain in self.domains.values():
            if domain.id == id:
                return self._handle(domain)
        raise NoDomain(f"no domain with matching id {id}")

    async def define_xml(self, xml: str, flags: int = 0) -> DomainHandle:
        self._writable("virDomainDefineXMLFlags")
        self.calls.append(("define", flags))
        root = _parse(xml, "domain")
        name = root.findtext("name")
        if not name:
            raise XmlError("missing domain name")
        uuid = root.findtext("uuid") or str(uuids.uuid5(uuids.NAMESPACE_DNS, name))
        for other in self.domains.values():
            if other.name == name and other.uuid != uuid:
                raise OperationFailed(f"domain '{name}' already exists with uuid {other.uuid}")
        domain = self.domains.get(uuid)
        if domain is None:
            domain = self.domains[uuid] = FakeDomain(uuid, name, xml)
        domain.name, domain.xml = name, xml
        return self._handle(domain)

    async def create_xml(self, xml: str, flags: int = 0) -> DomainHandle:
        self._writable("virDomainCreateXML")
        handle = await self.define_xml(xml)
        self.calls.append(("create_xml", flags))
        return handle

    async def node_info(self) -> NodeInfo:
        return NodeInfo("x86_64", 4 * 1024 * 1024, 4, 2000, 1, 1, 2, 2)

    async def capabilities_xml(self) -> str:
        return "<capabilities/>"

    async def domain_capabilities_xml(
        self,
        emulator: str | None = None,
        arch: str | None = None,
        machine: str | None = None,
        virttype: str | None = None,
    ) -> str:
        return f"<domainCapabilities><machine>{machine}</machine></domainCapabilities>"

    async def set_autostart(self, uuid: str, autostart: bool) -> None:
        self._writable("virDomainSetAutostart")
        self.calls.append(("set_autostart", autostart))
        self._domain(uuid)

    async def send_key(self, uuid: str, codeset: int, holdtime: int, keycodes: Sequence[int]) -> None:
        self._writable("virDomainSendKey")
        self._running(uuid)
        self.calls.append(("send_key", tuple(keycodes)))

    async def metadata(self, uuid: str, type: int, uri: str | None = None, flags: int = 0) -> str:
        return f"{self._domain(uuid).name} {type} {uri}"

    async def set_metadata(
        self,
        uuid: str,
        type: int,
        text: str | None,
        key: str | None = None,
        uri: str | None = None,
        flags: int = 0,
    ) -> None:
        self._writable("virDomainSetMetadata")
        self._domain(uuid)
        self.calls.append(("set_metadata", (type, text, key, uri, flags)))

    async def hypervisor_version(self) -> int:
        return 10_000_002

    async def undefine(self, uuid: str, flags: int = 0) -> None:
        self._writable("virDomainUndefineFlags")
        domain = self._domain(uuid)
        if len(domain.tree) and not flags & DomainUndefine.SNAPSHOTS_METADATA:
            raise OperationInvalid(f"cannot delete inactive domain with {len(domain.tree)} snapshots")
        del self.domains[uuid]

    async def create(self, uuid: str, flags: int = 0) -> DomainHandle:
        self._writable("virDomainCreateWithFlags" if flags else "virDomainCreate")
        domain = self._domain(uuid)
        if domain.id is not None:
            raise OperationInvalid("domain is already running")
        self._start(
            domain, Reason.PAUSED_STARTING_UP if flags & DomainStart.PAUSED else Reason.RUNNING_BOOTED
        )
        return self._handle(domain)

    async def shutdown(self, uuid: str, flags: int = 0) -> None:
        self._writable("virDomainShutdownFlags")
        self._running(uuid)
        self.calls.append(("shutdown", flags))

    async def reboot(self, uuid: str, flags: int = 0) -> None:
        self._writable("virDomainReboot")
        self._running(uuid)
        self.calls.append(("reboot", flags))

    async def reset(self, uuid: str) -> None:
        self._writable("virDomainReset")
        self._running(uuid)

    async def destroy(self, uuid: str, flags: int = 0) -> None:
        self._writable("virDomainDestroy")
        domain = self._running(uuid)
        domain.id, domain.reason = None, Reason.SHUTOFF_DESTROYED

    async def suspend(self, uuid: str) -> None:
        self._writable("virDomainSuspend")
        self._running(uuid).reason = Reason.PAUSED_USER

    async def resume(self, uuid: str) -> None:
        self._writable("virDomainResume")
        self._running(uuid).reason = Reason.RUNNING_UNPAUSED

    async def domain_info(self, uuid: str) -> DomainInfo:
        domain = self._domain(uuid)
        time = 12_340_000_000 if domain.id is not None else None
        state = domain.reason.state
        return DomainInfo(domain.id, domain.name, uuid, "hvm", state, 2, time, 262144, 131072, True, False)

    async def domain_state(self, uuid: str) -> tuple[DomainState, Reason]:
        reason = self._domain(uuid).reason
        return reason.state, reason

    async def domain_xml(self, uuid: str, flags: int = 0) -> str:
        domain = self._domain(uuid)
        if domain.id is None or flags & DomainXml.INACTIVE:
            return domain.xml
        return domain.xml.replace("<domain ", f"<domain id='{domain.id}' ", 1)

    async def block_devices(self, uuid: str, inactive: bool = False) -> list[BlockDevice]:
        root = ElementTree.fromstring(self._domain(uuid).xml)
        found = []
        for disk in root.iter("disk"):
            target, source = disk.find("target"), disk.find("source")
            assert target is not None
            path = None if source is None else source.get("file")
            found.append(BlockDevice("file", disk.get("device", "disk"), target.get("dev", ""), path))
        return found

    async def block_info(self, uuid: str, path: str) -> BlockInfo:
        for disk in await self.block_devices(uuid):
            if path in (disk.target, disk.source):
                return BlockInfo(8 << 30, 200704, 196640)
        raise BareInvalidArg(f"invalid argument: invalid path {path} not assigned to domain")

    async def block_chains(self, uuid: str, inactive: bool = False) -> dict[str, tuple[ChainLayer, ...]]:
        names = [snapshot.name for snapshot in self._domain(uuid).tree]
        found: dict[str, tuple[ChainLayer, ...]] = {}
        for disk in await self.block_devices(uuid, inactive):
            paths = [f"{disk.source}.{name}" for name in reversed(names)] + [str(disk.source)]
            holders = [(), *((name,) for name in reversed(names))]
            found[disk.target] = tuple(
                ChainLayer(path, "qcow2", 200704, holder)
                for path, holder in zip(paths, holders, strict=True)
                if disk.source is not None
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
        self._writable("flattening")
        self.calls.append(("flatten", int(copy)))
        if len(self._domain(uuid).tree) and not copy:
            raise OperationUnsupported("disk 'vda' stands on what snapshots need")
        if dry_run:
            return PlanReport("flatten", "vda", (), (), ("vda: merge a into b",), "none", ("merge",))
        await self._work(progress, "Flatten")
        return None

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
        self._writable("cloning")
        if snapshot not in self._domain(uuid).tree:
            raise NoSnapshot(f"no domain snapshot with matching name '{snapshot}'")
        if dry_run:
            return PlanReport("clone", ", ".join(names), ("/images/a",), (), (), "none", ("make",))
        self.calls.append(("clone", int(start)))
        await self._work(progress, "Clone")
        made = [self.add(name, running=start or paused) for name in names]
        self.clones.update(one.uuid for one in made)
        return tuple(self._handle(one) for one in made)

    async def discard(self, uuid: str) -> None:
        self._writable("discarding a domain")
        if uuid not in self.clones:
            raise OperationInvalid(f"domain '{self._domain(uuid).name}' is no clone")
        self.calls.append(("discard", 0))
        del self.domains[uuid]

    async def import_libvirt(
        self,
        name: str,
        *,
        dir: str | None = None,
        definitions: str | None = None,
        run_dir: str | None = None,
        leave_save: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> LibvirtReport:
        self._writable("import-libvirt")
        self.calls.append(("import-libvirt", int(dry_run)))
        report = _libvirt_report(name, f"{dir}/{name}.xml", leave_save)
        if report.problems and not dry_run:
            raise OperationInvalid("; ".join(report.problems))
        if not dry_run:
            await self._work(progress, "Checking")
            self.add(name)
        return report

    async def export_libvirt(
        self,
        uuid: str,
        *,
        dir: str | None = None,
        definitions: str | None = None,
        run_dir: str | None = None,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> LibvirtReport:
        self._writable("export-libvirt")
        self.calls.append(("export-libvirt", int(dry_run)))
        domain = self._domain(uuid)
        report = _libvirt_report(domain.name, f"{dir}/{domain.name}.xml")
        if domain.id is not None:
            report = replace(report, problems=("domain is running: shut it off first",))
        if report.problems and not dry_run:
            raise OperationInvalid("; ".join(report.problems))
        return report

    async def screenshot(self, uuid: str, screen: int = 0) -> tuple[str, bytes]:
        self._running(uuid)
        return "image/png", b"\x89PNG"

    async def console_path(self, uuid: str, device: str | None = None) -> str:
        self._running(uuid)
        return self.console

    async def job_info(self, uuid: str, flags: int = 0) -> JobInfo:
        self.calls.append(("job-info", flags))
        if not flags & JobStats.COMPLETED:
            self._running(uuid)
            return self.job
        told = self.completed
        if not flags & JobStats.KEEP_COMPLETED:
            self.completed = JobInfo()
        return told

    async def abort_job(self, uuid: str, flags: int = 0) -> None:
        self._writable("virDomainAbortJob")
        self.calls.append(("abort-job", flags))
        self._running(uuid)
        if self.job.type is JobType.NONE:
            raise OperationInvalid("no job is active on the domain")
        self.job = JobInfo()

    async def snapshot_tree(self, uuid: str) -> SnapshotTree:
        return self._domain(uuid).tree

    async def snapshot_create_xml(
        self,
        uuid: str,
        xml: str,
        flags: int = 0,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> str | PlanReport:
        self._writable("virDomainSnapshotCreateXML")
        self.calls.append(("snapshot-create", flags))
        if flags & SnapshotCreate.CURRENT and not flags & SnapshotCreate.REDEFINE:
            raise BareInvalidArg(
                "Flag 'VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE' is required by flag "
                "'VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT'"
            )
        domain = self._domain(uuid)
        root = _parse(xml, "domainsnapshot")
        name = root.findtext("name") or str(self.now)
        if name.startswith(".") or "/" in name:
            raise XmlDetail(f"invalid snapshot name '{name}': name can't start with '.' or contain '/'")
        if flags & SnapshotCreate.REDEFINE:
            return self._redefine(domain, root, name, flags)
        if name in domain.tree:
            raise OperationFailed(f"domain moment {name} already exists")
        if dry_run:
            return PlanReport(
                "create",
                name,
                (f"/images/{domain.name}-vda.{name}",),
                (),
                (),
                "none",
                ("create overlay", "switch layers", "put snapshot"),
            )
        await self._work(progress, "Snapshot")
        if not flags & SnapshotCreate.NO_METADATA:
            self._put(domain, self._new_snapshot(domain, root, name, flags))
        self.now += 1
        return name

    async def snapshot_xml(self, uuid: str, name: str, flags: int = 0) -> str:
        domain = self._domain(uuid)
        snapshot = _lookup(domain, name)
        parent = (
            ""
            if snapshot.parent is None
            else f"  <parent>\n    <name>{snapshot.parent}</name>\n  </parent>\n"
        )
        described = (
            "" if snapshot.description is None else f"  <description>{snapshot.description}</description>\n"
        )
        return (
            f"<domainsnapshot>\n  <name>{name}</name>\n{described}"
            f"  <state>{snapshot.state.value}</state>\n{parent}"
            f"  <creationTime>{snapshot.creation_time}</creationTime>\n</domainsnapshot>\n"
        )

    async def snapshot_revert(
        self,
        uuid: str,
        name: str,
        flags: int = 0,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> PlanReport | None:
        self._writable("virDomainRevertToSnapshot")
        self.calls.append(("revert", flags))
        domain = self._domain(uuid)
        snapshot = _lookup(domain, name)
        if flags & SnapshotRevert.RUNNING and flags & SnapshotRevert.PAUSED:
            raise BareInvalidArg(
                "Flags 'VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING' and 'VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED' "
                "are mutually exclusive"
            )
        if name in self.risky and not flags & SnapshotRevert.FORCE:
            raise RevertRisky(f"snapshot '{name}' lacks domain '{domain.name}' rollback info")
        if dry_run:
            return PlanReport("revert", name, (), ("/images/old",), (), "the whole revert", ("stop guest",))
        await self._work(progress, "Revert")
        domain.tree = replace(domain.tree, current=name)
        if snapshot.state is SnapshotState.SHUTOFF and not flags & SnapshotRevert.RUNNING:
            domain.id, domain.reason = None, Reason.SHUTOFF_FROM_SNAPSHOT
        else:
            paused = flags & SnapshotRevert.PAUSED or snapshot.state is SnapshotState.PAUSED
            self._start(domain, Reason.PAUSED_FROM_SNAPSHOT if paused else Reason.RUNNING_FROM_SNAPSHOT)
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
        self._writable("virDomainSnapshotDelete")
        self.calls.append(("delete", flags))
        domain = self._domain(uuid)
        snapshot = _lookup(domain, name)
        both = SnapshotDelete.CHILDREN | SnapshotDelete.CHILDREN_ONLY
        if flags & both == both:
            raise BareInvalidArg(
                "Flags 'VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN' and "
                "'VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN_ONLY' are mutually exclusive"
            )
        if dry_run:
            return PlanReport("delete", name, (), (), ("vda: a into b (1 MiB)",), "none", ("merge vda",))
        await self._work(progress, "Delete")
        gone = {one.name for one in domain.tree.descendants(name)} if flags & both else set()
        if not flags & SnapshotDelete.CHILDREN_ONLY:
            gone.add(name)
        heir = name if flags & SnapshotDelete.CHILDREN_ONLY else snapshot.parent
        left = [
            replace(one, parent=heir) if one.parent in gone else one
            for one in domain.tree
            if one.name not in gone
        ]
        current = heir if domain.tree.current in gone else domain.tree.current
        domain.tree = SnapshotTree.of(left, current)
        return None

    # inside

    def _writable(self, function: str) -> None:
        if self.readonly:
            raise OperationDenied(f"read only access prevents {function}")

    def _handle(self, domain: FakeDomain) -> DomainHandle:
        return DomainHandle(domain.uuid, domain.name, domain.id)

    def _domain(self, uuid: str) -> FakeDomain:
        if uuid not in self.domains:
            raise NoDomain(f"no domain with matching uuid '{uuid}'")
        return self.domains[uuid]

    def _running(self, uuid: str) -> FakeDomain:
        domain = self._domain(uuid)
        if domain.id is None:
            raise OperationInvalid("domain is not running")
        return domain

    def _start(self, domain: FakeDomain, reason: Reason) -> None:
        domain.id, domain.reason = self._next_id, reason
        self._next_id += 1

    async def _work(self, progress: ProgressCallback | None, label: str) -> None:
        """The long part of an operation; undone when cancelled."""
        if progress is not None:
            progress(Progress(label, 421, 1000))
        try:
            if self.reached is not None:
                self.reached.set()
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.undone += 1
            raise
        if progress is not None:
            progress(Progress(label, 1000, 1000))

    def _new_snapshot(self, domain: FakeDomain, root: ElementTree.Element, name: str, flags: int) -> Snapshot:
        state = SnapshotState.SHUTOFF
        memory = Location.NO
        element = root.find("memory")
        if domain.id is not None:
            state = SnapshotState(domain.reason.state.name.lower())
            memory = Location.INTERNAL if element is None else Location.EXTERNAL
            if flags & SnapshotCreate.DISK_ONLY:
                state, memory = SnapshotState.DISK_SNAPSHOT, Location.NO
        return Snapshot(
            name,
            self.now,
            state,
            root.findtext("description"),
            domain.tree.current,
            memory,
            None if element is None else element.get("file"),
        )

    def _redefine(self, domain: FakeDomain, root: ElementTree.Element, name: str, flags: int) -> str:
        snapshot = Snapshot(
            name,
            int(root.findtext("creationTime") or 0),
            SnapshotState(root.findtext("state")),
            root.findtext("description"),
            root.findtext("parent/name"),
        )
        current = name if flags & SnapshotCreate.CURRENT else domain.tree.current
        others = [one for one in domain.tree if one.name != name]
        domain.tree = SnapshotTree.of([*others, snapshot], current)
        return name

    def _put(self, domain: FakeDomain, snapshot: Snapshot) -> None:
        domain.tree = SnapshotTree.of([*domain.tree, snapshot], snapshot.name)


def _lookup(domain: FakeDomain, name: str) -> Snapshot:
    if name not in domain.tree:
        raise NoSnapshot(f"no domain snapshot with matching name '{name}'")
    return domain.tree[name]


def _parse(xml: str, tag: str) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise XmlDetail(f"at line {error.position[0]}: {error}") from error
    if root.tag != tag:
        raise XmlError(f"expecting root element of '{tag}', not '{root.tag}'")
    return root


def _libvirt_report(name: str, definition: str, leave_save: bool = False) -> LibvirtReport:
    """A tree of two; a domain called 'broken' has two problems."""
    return LibvirtReport(
        name=name,
        uuid=str(uuids.uuid5(uuids.NAMESPACE_DNS, name)),
        definition=definition,
        snapshots=(
            FoundSnapshot("s1", None, "running", "external, with memory"),
            FoundSnapshot("s2", "s1", "shutoff", "internal", current=True),
        ),
        files=(
            FoundFile("/i/a.qcow2", "image", "qcow2", "origin", 200704),
            FoundFile("/i/a.s1", "image", "qcow2", "overlay", 0),
            FoundFile("/i/s1.mem", "memory", "raw", "memory", 1 << 20),
        ),
        notes=("managed save is left behind",) if leave_save else (),
        problems=("image '/i/b' is gone", "no parent") if name == "broken" else (),
    )
