"""Decide how a snapshot is taken, of running, paused and shut off domains; internal parts: `plan.internal`.

Two questions, both answered from values alone. `prepare_request` completes what the caller gave (name,
state, locations, file names) and `plan_create` turns it into steps. The order of the checks and their
words are libvirt's (qemuSnapshotCreate and below, 11.3), so that a refusal reads the same.
Not here: redefinition of metadata (`plan.redefine`).

Invariants that the order of the steps keeps:
- no file is on a disk's path before it is durable and attached (CreateOverlay, AttachOverlay first);
- memory and disks are of one instant (the guest stands still from PauseGuest, or from the end of a live
  SaveMemory, until after SwitchLayers);
- the store names a layer only after QEMU writes to it, and QEMU resumes before anything is synced.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator
from dataclasses import replace

from virtsnap.formats.domain_xml import DomainDefinition, DomainDisk
from virtsnap.model.domain import DomainRecord, DomainState, Reason
from virtsnap.model.errors import (
    BlockCopyActive,
    ConfigUnsupported,
    InternalRefused,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    SystemRefused,
    XmlDetail,
)
from virtsnap.model.facts import DomainFacts, FileFacts, ImageRole, MemoryWay
from virtsnap.model.flags import SnapshotCreate as Flag
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk, SnapshotState
from virtsnap.model.steps import (
    AttachOverlay,
    CaptureMemory,
    CompleteMemory,
    CreateOverlay,
    Declare,
    FreezeGuest,
    GuardLayer,
    KillQemu,
    PauseGuest,
    Plan,
    PrepareCapture,
    ResumeGuest,
    SaveMemory,
    SealMemory,
    SettleGuest,
    Step,
    StoreWrite,
    SwitchLayers,
    TagDisks,
    ThawGuest,
)
from virtsnap.plan.agent import usable_agent
from virtsnap.plan.align import IsRegular, align
from virtsnap.plan.announce import stopped
from virtsnap.plan.describe import mib
from virtsnap.plan.images import check_chain
from virtsnap.plan.internal import (
    check_internal,
    check_internal_disk,
    disks_of_kind,
    guards,
    internal_images,
    save_internal,
    tag_images,
    with_memory_place,
)
from virtsnap.plan.memory_way import check_migratable, choose_memory_way
from virtsnap.plan.nvram import copy_nvram, kept
from virtsnap.plan.requests import CreateRequest, exclusive, known_flags, required

MAX_CHAIN = 200
"""libvirt's limit of layers on one disk."""

_SLEEP_KEPT = (9, 0)
"""The QEMU from which on a guest that sleeps (ACPI S3) is still asleep in its memory image."""

_STATE = {
    DomainState.RUNNING: SnapshotState.RUNNING,
    DomainState.PAUSED: SnapshotState.PAUSED,
    DomainState.SHUTDOWN: SnapshotState.SHUTDOWN,
    DomainState.SHUTOFF: SnapshotState.SHUTOFF,
    DomainState.CRASHED: SnapshotState.CRASHED,
    DomainState.PMSUSPENDED: SnapshotState.PMSUSPENDED,
}


def check_flags(flags: int) -> Flag:
    """The flag rules, in libvirt's order. Raises BareInvalidArg."""
    pre = "VIR_DOMAIN_SNAPSHOT_CREATE_"
    required(flags, Flag.CURRENT, pre + "CURRENT", Flag.REDEFINE, pre + "REDEFINE")
    exclusive(flags, Flag.REDEFINE, pre + "REDEFINE", Flag.NO_METADATA, pre + "NO_METADATA")
    exclusive(flags, Flag.REDEFINE, pre + "REDEFINE", Flag.HALT, pre + "HALT")
    known_flags(flags, Flag, "qemuSnapshotCreateXML")
    required(flags, Flag.QUIESCE, pre + "QUIESCE", Flag.DISK_ONLY, pre + "DISK_ONLY")
    exclusive(flags, Flag.LIVE, pre + "LIVE", Flag.REDEFINE, pre + "REDEFINE")
    return Flag(flags)


def prepare_request(
    parsed: Snapshot,
    flags: Flag,
    record: DomainRecord,
    now: int,
    taken: frozenset[str],
    is_regular: IsRegular,
    ours: Collection[str] = (),
) -> CreateRequest:
    """Fill in what the caller left open, and refuse what cannot be. Nothing was touched.

    `taken`: names of the domain's snapshots. `is_regular` and `ours`: see `plan.align`.
    """
    if flags & Flag.HALT and not record.persistent:
        raise OperationInvalid("cannot halt after transient domain snapshot")
    name = _default_name(now, taken) if parsed.name in ("", str(now)) else parsed.name
    snapshot = replace(parsed, name=name, creation_time=now)
    if not flags & Flag.NO_METADATA:
        check_name(snapshot.name)
    if flags & Flag.LIVE and (not record.active or snapshot.memory is not Location.EXTERNAL):
        raise OperationUnsupported("live snapshot creation is supported only during full system snapshots")
    snapshot = _located(snapshot, flags, record)
    definition = DomainDefinition.parse(record.live_xml or record.config_xml)
    default = _default_location(snapshot, flags, record, parsed)
    if name in taken or flags & Flag.REUSE_EXT:
        ours = ()  # refused anyway; a file that is there already
    disks = align(snapshot, definition, default, is_regular, record=False, ours=ours)
    snapshot = replace(snapshot, disks=disks, domain_xml=definition.to_inactive_xml())
    placed = replace(with_memory_place(snapshot, definition), memory_mode=None)
    return CreateRequest(placed, flags, snapshot.memory_mode)


def _default_name(now: int, taken: frozenset[str]) -> str:
    """Seconds, as libvirt; a second one within the same second gets a number instead of an error."""
    name, n = str(now), 1
    while name in taken:
        n += 1
        name = f"{now}-{n}"
    return name


def check_name(name: str) -> None:
    """libvirt's rule for names that become file names. Raises XmlDetail."""
    if "/" in name:
        raise XmlDetail(f"invalid snapshot name '{name}': name can't contain '/'")
    if name.startswith("."):
        raise XmlDetail(f"invalid snapshot name '{name}': name can't start with '.'")


def _located(snapshot: Snapshot, flags: Flag, record: DomainRecord) -> Snapshot:
    """State and memory location, by the first rule that fits (reference: qemuSnapshotCreate)."""
    if record.state not in _STATE:
        raise InternalRefused(f"Invalid domain state {record.state.name.lower()}")
    state = _STATE[record.state]
    if flags & Flag.DISK_ONLY:
        return replace(
            snapshot,
            state=SnapshotState.DISK_SNAPSHOT if record.active else SnapshotState.SHUTOFF,
            memory=Location.NO,
        )
    if not record.active:
        return replace(snapshot, state=SnapshotState.SHUTOFF, memory=Location.NO)
    if snapshot.memory is Location.NO:
        raise OperationUnsupported("internal snapshot of a running VM must include the memory state")
    memory = Location.INTERNAL if snapshot.memory is Location.UNSET else snapshot.memory
    return replace(snapshot, state=state, memory=memory)


def _default_location(snapshot: Snapshot, flags: Flag, record: DomainRecord, parsed: Snapshot) -> Location:
    if flags & Flag.DISK_ONLY or snapshot.memory is Location.EXTERNAL:
        return Location.EXTERNAL
    if not record.active and any(disk.location is Location.EXTERNAL for disk in parsed.disks):
        return Location.EXTERNAL
    return Location.INTERNAL


def paths_of(request: CreateRequest, root: str = "") -> tuple[str, ...]:
    """The paths that `plan_create` needs the facts of: what would be made. `root`: of all that is ours."""
    paths = [disk.path for disk in request.snapshot.disks if disk.path is not None]
    if request.snapshot.memory_file is not None:
        paths.append(request.snapshot.memory_file)
    xml = request.snapshot.domain_xml
    if xml is not None:
        paths += [path for one in kept(xml, request.snapshot.name, root) for path in one.paths]
    return tuple(paths)


def plan_create(facts: DomainFacts, request: CreateRequest) -> Plan:
    """The steps that take the snapshot, or a refusal.

    Raises Refused and its kinds, with libvirt's texts; see the tables in docs/behaviour.md.
    """
    snapshot, flags, record = request.snapshot, request.flags, facts.record
    definition = DomainDefinition.parse(record.live_xml or record.config_xml)
    chosen = list(_external(snapshot, definition))
    _check_disks(facts, request, definition)
    _check_memory_file(facts, snapshot)
    _check_collisions(facts, snapshot, chosen)
    if snapshot.name in facts.tree and not flags & Flag.NO_METADATA:
        raise OperationFailed(f"domain moment {snapshot.name} already exists")
    if record.active and snapshot.memory is not Location.NO:
        check_migratable(facts)

    disks = [_overlay(facts, disk, entry) for disk, entry in chosen]
    finished = replace(
        snapshot,
        parent=facts.tree.current,
        disks=tuple(_with_format(entry) for entry in snapshot.disks),
        domain_xml=definition.to_inactive_xml(),
        inactive_domain_xml=record.config_xml if record.active and record.persistent else None,
    )
    if record.active:
        return _plan_active(facts, request, finished, disks)
    return _plan_inactive(facts, request, finished, disks)


def _external(snapshot: Snapshot, definition: DomainDefinition) -> Iterator[tuple[DomainDisk, SnapshotDisk]]:
    """The disks that get an overlay, with their entries."""
    for disk, entry in zip(definition.disks, snapshot.disks, strict=True):
        if entry.location is Location.EXTERNAL:
            yield disk, _with_format(entry)


def _with_format(entry: SnapshotDisk) -> SnapshotDisk:
    if entry.location is Location.EXTERNAL and entry.format is None:
        return replace(entry, format="qcow2")
    return entry


def _check_disks(facts: DomainFacts, request: CreateRequest, definition: DomainDefinition) -> None:
    snapshot, active = request.snapshot, facts.record.active
    asleep = snapshot.state is SnapshotState.PMSUSPENDED
    if asleep and snapshot.memory is not Location.NO and facts.qemu_version < _SLEEP_KEPT:
        raise OperationUnsupported(
            "qemu doesn't support taking snapshots of PMSUSPENDED guests with their memory before 9.0"
        )
    if asleep and snapshot.memory is Location.EXTERNAL:
        raise OperationUnsupported(
            "qemu cannot go on with a PMSUSPENDED guest once its memory was written to a file; "
            "take an internal or a disk-only snapshot, or wake the guest"
        )
    for job in facts.jobs:
        target = job.split(":", 1)[0]
        if any(disk.name == target and disk.location is not Location.NO for disk in snapshot.disks):
            if job.endswith(("mirror", "copy")):
                raise BlockCopyActive(f"disk '{target}' already in active block job")
            raise OperationUnsupported(f"disk '{target}' already in active block job")
    for entry in snapshot.disks:
        if entry.location is Location.INTERNAL and request.flags & Flag.DISK_ONLY and active:
            raise ConfigUnsupported(
                f"active qemu domains require external disk snapshots; disk {entry.name} requested internal"
            )
    for disk, entry in zip(definition.disks, snapshot.disks, strict=True):
        if entry.location is Location.INTERNAL:
            check_internal_disk(facts, snapshot.name, disk, entry)
        elif entry.location is Location.EXTERNAL:
            _check_external(facts, request.flags, disk, _with_format(entry))
    check_internal(snapshot)
    if request.flags & Flag.LIVE and any(x.location is Location.INTERNAL for x in snapshot.disks):
        raise OperationUnsupported(
            "live snapshot creation cannot keep disks internally: QEMU gives up its images while it still "
            "writes the memory; leave --live out, or make the disks external"
        )
    locations = {entry.location for entry in snapshot.disks} - {Location.NO}
    if not locations - {Location.MANUAL} and snapshot.memory is not Location.EXTERNAL:
        raise ConfigUnsupported("nothing selected for snapshot")


def _check_external(facts: DomainFacts, flags: Flag, disk: DomainDisk, entry: SnapshotDisk) -> None:
    active, name = facts.record.active, entry.name
    if disk.empty:
        raise ConfigUnsupported(f"disk '{name}' has no medium, so there is nothing to take a snapshot of")
    if entry.format not in ("qcow2", "qed"):
        raise ConfigUnsupported(f"external snapshot format for disk {name} is unsupported: {entry.format}")
    if entry.format == "qed":
        raise ConfigUnsupported(f"external snapshot format for disk {name} is unsupported: qed")
    if not active and disk.type not in ("file", "block"):
        raise InternalRefused(f"external inactive snapshots are not supported on {disks_of_kind(disk)}")
    if entry.type not in ("file", "block"):
        when = "active" if active else "inactive"
        raise InternalRefused(f"external {when} snapshots are not supported on '{entry.type}' disks")
    if entry.source_xml is not None or entry.driver_xml is not None:
        raise ConfigUnsupported(
            f"snapshot disk '{name}' asks for more than a path and a format (security label, metadata "
            "cache and the like), which is not supported"
        )
    if active and disk.device == "lun":
        raise ConfigUnsupported("external active snapshots are not supported on scsi passthrough devices")
    if active and disk.transient:
        raise OperationUnsupported(f"block jobs are not supported on transient disk '{name}'")
    if disk.shareable and not disk.readonly:
        raise ConfigUnsupported(f"shared access for disk '{name}' requires use of supported storage format")
    assert entry.path is not None
    _check_target(facts.files.get(entry.path, FileFacts(exists=False)), flags, entry)
    if len(facts.chain(disk.source or "")) + 1 > MAX_CHAIN:
        raise OperationUnsupported(
            f"backing chains more than {MAX_CHAIN} layers deep are not supported for disk '{name}'"
        )
    top = facts.images.get(disk.source or "")
    if top is None:
        raise SystemRefused(f"Cannot access storage file '{disk.source}': No such file or directory")
    if not active or top.missing:
        check_chain(facts, top.path)


def _check_target(file: FileFacts, flags: Flag, entry: SnapshotDisk) -> None:
    name, path = entry.name, entry.path
    if file.error is not None:
        raise SystemRefused(f"unable to stat for disk {name}: {path}: {file.error}")
    if not file.exists:
        if flags & Flag.REUSE_EXT:
            raise SystemRefused(f"missing existing file for disk {name}: {path}: No such file or directory")
        if entry.type == "block":
            raise OperationUnsupported(f"block device snapshot target '{path}' doesn't exist")
        return
    if not (file.block_device if entry.type == "block" else file.regular):
        raise ConfigUnsupported(
            f"mismatch between configured type for snapshot disk '{name}' "
            f"and the type of existing file '{path}'"
        )
    if not file.block_device and file.size > 0 and not flags & Flag.REUSE_EXT:
        raise ConfigUnsupported(
            f"external snapshot file for disk {name} already exists and is not a block device: {path}"
        )


def _check_memory_file(facts: DomainFacts, snapshot: Snapshot) -> None:
    """libvirt truncates an existing memory file without a word; that loses another snapshot's memory."""
    path = snapshot.memory_file
    if path is None or snapshot.memory is not Location.EXTERNAL:
        return
    file = facts.files.get(path, FileFacts(exists=False))
    if file.error is not None:
        raise SystemRefused(f"Failed to create file '{path}': {file.error}")
    if file.exists:
        raise ConfigUnsupported(
            f"external memory snapshot file already exists: {path}; "
            "delete it or choose another name with --memspec"
        )
    free = facts.free.get(posixpath.dirname(path))
    if free is not None and facts.memory_in_use and free < facts.memory_in_use // 16:
        # A lower bound on purpose: pages may be zero. ENOSPC later is undone; this only saves the pause.
        raise SystemRefused(f"Failed to create file '{path}': No space left on device")


def _check_collisions(
    facts: DomainFacts, snapshot: Snapshot, chosen: list[tuple[DomainDisk, SnapshotDisk]]
) -> None:
    """libvirt would write over a file that is in use, if it has just been deleted or is a block device."""
    taken: dict[str, str] = dict.fromkeys(facts.named_elsewhere, "an image of another domain")
    taken |= dict.fromkeys(facts.images, "an image of this domain")
    for other in facts.tree:
        if other.memory_file is not None:
            taken[other.memory_file] = f"the memory of snapshot '{other.name}'"
    for _, entry in chosen:
        assert entry.path is not None
        if entry.path in taken:
            raise ConfigUnsupported(
                f"external snapshot file for disk {entry.name} is {taken[entry.path]}: {entry.path}"
            )
        taken[entry.path] = f"the overlay of disk '{entry.name}'"
    if snapshot.memory is Location.EXTERNAL and snapshot.memory_file in taken:
        raise ConfigUnsupported(
            f"external memory snapshot file is {taken[snapshot.memory_file]}: {snapshot.memory_file}"
        )


class _Overlay:
    """A disk of the plan: the steps and names that belong to it."""

    def __init__(self, disk: DomainDisk, entry: SnapshotDisk, create: CreateOverlay, exists: bool) -> None:
        self.disk, self.entry, self.create, self.exists = disk, entry, create, exists


def _overlay(facts: DomainFacts, disk: DomainDisk, entry: SnapshotDisk) -> _Overlay:
    assert entry.path is not None
    assert entry.format is not None
    assert disk.source is not None
    top = facts.images[disk.source]
    file = facts.files.get(entry.path, FileFacts(exists=False))
    create = CreateOverlay(
        path=entry.path,
        format=entry.format,
        size=top.virtual_size,
        backing=disk.source,
        backing_format=disk.format,
        cluster_size=top.cluster_size if disk.format == "qcow2" else None,
        extended_l2=top.extended_l2 and disk.format == "qcow2",
        existed=file.exists,
    )
    return _Overlay(disk, entry, create, file.exists)


def _write(
    facts: DomainFacts,
    request: CreateRequest,
    snapshot: Snapshot,
    disks: list[_Overlay],
    record: DomainRecord,
) -> StoreWrite:
    """The transaction that makes the snapshot real."""
    if request.flags & Flag.NO_METADATA:
        # The frozen images are the user's now, with all that they stand on: nothing would tell a later
        # delete of them, so it must not merge into what is below.
        given_up = {image.path for item in disks for image in facts.chain(item.create.backing)}
        return StoreWrite(record=record, delete_images=tuple(sorted(given_up & set(facts.owned))))
    images: list[tuple[str, ImageRole]] = []
    for item in disks:
        assert item.disk.source is not None
        if item.disk.source not in facts.owned:
            images.append((item.disk.source, ImageRole.ORIGIN))
        images.append((item.create.path, ImageRole.OVERLAY))
    if snapshot.memory is Location.EXTERNAL and snapshot.memory_file is not None:
        images.append((snapshot.memory_file, ImageRole.MEMORY))
    images += [(step.path, ImageRole.NVRAM) for step in copy_nvram(facts, snapshot)]
    snapshots = [snapshot]
    current = facts.tree.current
    if current is not None and facts.tree[current].revert_disks:
        # libvirt: only the current snapshot may name the branch that the domain runs on.
        snapshots.append(replace(facts.tree[current], revert_disks=()))
    return StoreWrite(
        record=record,
        put_snapshots=tuple(snapshots),
        set_current=True,
        current=snapshot.name,
        put_images=tuple(images),
    )


def _moved_live(xml: str, disks: list[_Overlay], first_node: int) -> str:
    """The live definition with the overlays on top of the disks' chains."""
    definition = DomainDefinition.parse(xml)
    for node, item in enumerate(disks, start=first_node):
        definition = definition.with_layer(
            item.disk.target, item.create.path, item.create.format, item.entry.type, node
        )
    return definition.to_xml()


def _moved(xml: str, disks: list[_Overlay], only_if_same: bool = False) -> str:
    """The definition with the overlays as the disks' sources."""
    definition = DomainDefinition.parse(xml)
    present = {disk.target: disk.source for disk in definition.disks}
    for item in disks:
        if only_if_same and present.get(item.disk.target) != item.disk.source:
            continue
        definition = definition.with_disk_source(
            item.disk.target, item.create.path, item.create.format, item.entry.type
        )
    return definition.to_xml()


def _plan_inactive(
    facts: DomainFacts, request: CreateRequest, snapshot: Snapshot, disks: list[_Overlay]
) -> Plan:
    reuse = bool(request.flags & Flag.REUSE_EXT)
    record = replace(facts.record, config_xml=_moved(facts.record.config_xml, disks))
    overlays: list[Step] = [] if reuse else [item.create for item in disks]
    return Plan(
        operation="create",
        subject=snapshot.name,
        prepare=(*overlays, *_nvram(facts, request, snapshot), *tag_images(snapshot)),
        commit=_write(facts, request, snapshot, disks, record),
    )


def _nvram(facts: DomainFacts, request: CreateRequest, snapshot: Snapshot) -> tuple[Step, ...]:
    """Without metadata nobody would ever find the copy."""
    return () if request.flags & Flag.NO_METADATA else copy_nvram(facts, snapshot)


def _plan_active(
    facts: DomainFacts, request: CreateRequest, snapshot: Snapshot, disks: list[_Overlay]
) -> Plan:
    flags, record = request.flags, facts.record
    assert record.live_xml is not None
    # A guest that sleeps does not run, but QEMU has to be told to go on all the same.
    running = record.state in (DomainState.RUNNING, DomainState.PMSUSPENDED)
    memory = snapshot.memory is Location.EXTERNAL
    internal = [image.target for image in internal_images(snapshot)]
    manual = any(entry.location is Location.MANUAL for entry in snapshot.disks)
    live = bool(flags & Flag.LIVE)
    halt = bool(flags & Flag.HALT)
    agent = usable_agent(facts) if flags & Flag.QUIESCE else None
    prepare: list[Step] = list(guards(snapshot))

    attached: list[tuple[str, str, int]] = []
    if not flags & Flag.REUSE_EXT:
        prepare += [item.create for item in disks]
    prepare += _nvram(facts, request, snapshot)
    for node, item in enumerate(disks, start=facts.next_node):
        prepare.append(
            AttachOverlay(item.disk.target, item.create.path, item.create.format, item.entry.type, node)
        )
        attached.append((item.disk.target, item.create.path, node))
    way, mode, reason, gives_up = facts.memory_way.plain, "", "", False
    if memory:
        choice = choose_memory_way(facts, flags, snapshot, request.memory_mode)
        way, live, mode, reason = choice.way, choice.runs, choice.mode.value, choice.reason
        gives_up = choice.gives_up
    background = way.background
    # A guest that goes on waits for no disk at the end: the layers switch before the snapshot is decided.
    ahead = background or (memory and live and not (halt or manual or flags & Flag.REUSE_EXT))
    stands_still = background or ((memory or manual) and not live)
    if snapshot.memory is Location.INTERNAL:
        # QEMU itself lets the guest go on when the job is done; it must not, if disks switch afterwards.
        stands_still = bool(attached) or halt
    if ahead:
        prepare += _guards(disks)
    if background:
        prepare.append(_capture(way, snapshot))
    if agent is not None:
        prepare.append(FreezeGuest(agent))
    if running and stands_still:
        prepare.append(PauseGuest())
    if snapshot.memory is Location.INTERNAL:
        prepare.append(save_internal(snapshot))
    elif internal:
        # Before the memory: QEMU gives up its images when that is written.
        prepare.append(TagDisks(snapshot.name, tuple(internal)))
    if memory and background:
        assert snapshot.memory_file is not None
        prepare.append(CaptureMemory(snapshot.memory_file))
    elif memory:
        assert snapshot.memory_file is not None
        assert snapshot.domain_xml is not None
        prepare.append(
            SaveMemory(
                path=snapshot.memory_file,
                way=way,
                live=live,
                was_running=running,
                domain_xml=snapshot.domain_xml,
                cookie_xml=snapshot.cookie_xml,
                gives_up=gives_up,
                completed_later=ahead,
            )
        )

    after = replace(
        record,
        live_xml=_moved_live(record.live_xml, disks, facts.next_node),
        config_xml=_moved(record.config_xml, disks, only_if_same=True),
    )
    if background:
        pause = "milliseconds, while device state is captured and disks switch"
    else:
        pause = _pause(facts, snapshot, running, live, agent is not None) + (f"; {reason}" if reason else "")
    finish: list[Step] = []
    commit: Step = SwitchLayers(tuple(attached)) if attached else Declare()
    if ahead:
        if attached:
            prepare.append(commit)
        prepare.append(ResumeGuest())
        if agent is not None:
            prepare.append(ThawGuest(agent))
        assert snapshot.memory_file is not None
        prepare += [CompleteMemory(snapshot.memory_file), SealMemory(snapshot.memory_file)]
        return Plan(
            operation="create",
            subject=snapshot.name,
            prepare=tuple(prepare),
            commit=_write(facts, request, snapshot, disks, replace(after, reason=Reason.RUNNING_UNPAUSED)),
            pause=pause,
            memory_mode=mode,
            memory_reason=reason,
        )
    if halt:
        assert record.instance is not None
        after = replace(after, live_xml=None, instance=None, reason=Reason.SHUTOFF_FROM_SNAPSHOT)
        finish.append(KillQemu(record.instance.run_dir))
    elif manual and running:
        # libvirt: the guest stays paused, so that the user can take his own snapshot of the storage.
        after = replace(after, reason=Reason.PAUSED_SNAPSHOT)
        if memory:
            finish.append(SettleGuest())
    elif running and (memory or stands_still):
        if record.state is DomainState.RUNNING:
            after = replace(after, reason=Reason.RUNNING_UNPAUSED)
        finish.append(ResumeGuest())
    elif memory:
        finish.append(SettleGuest())
    elif record.state is DomainState.RUNNING and snapshot.memory is Location.INTERNAL:
        # QEMU has stopped it and let it go on.
        after = replace(after, reason=Reason.RUNNING_UNPAUSED)
    if agent is not None and after.state is DomainState.RUNNING:
        # Not of a guest that was ended; one that stays paused is thawed by `resume`.
        finish.append(ThawGuest(agent))
    if memory and snapshot.memory_file is not None:
        finish.append(SealMemory(snapshot.memory_file))
    finish.append(_write(facts, request, snapshot, disks, after))
    if halt and record.instance is not None:
        finish.append(stopped(record.instance.run_dir, Reason.SHUTOFF_FROM_SNAPSHOT))
    return Plan(
        operation="create",
        subject=snapshot.name,
        prepare=tuple(prepare),
        commit=commit,
        finish=tuple(finish),
        forward_if_gone=running and snapshot.memory is Location.NO,
        pause=pause,
        memory_mode=mode,
        memory_reason=reason,
    )


def _guards(disks: list[_Overlay]) -> list[Step]:
    """The layers switch before the memory is there: until then, what goes wrong brings the old ones back."""
    return [
        GuardLayer(
            target=item.disk.target,
            path=item.create.path,
            format=item.create.format,
            backing=item.create.backing,
            backing_format=item.create.backing_format,
            job=f"virtsnap-create-{item.disk.target}",
        )
        for item in disks
    ]


def _capture(way: MemoryWay, snapshot: Snapshot) -> PrepareCapture:
    assert snapshot.memory_file is not None
    assert snapshot.domain_xml is not None
    return PrepareCapture(
        path=snapshot.memory_file,
        way=way,
        was_running=True,
        domain_xml=snapshot.domain_xml,
        cookie_xml=snapshot.cookie_xml,
    )


def _pause(facts: DomainFacts, snapshot: Snapshot, running: bool, live: bool, quiesced: bool) -> str:
    if not running:
        return "none (the guest is not running)"
    if any(entry.location is Location.MANUAL for entry in snapshot.disks):
        return "until you resume the guest: a disk is for you to snapshot"
    if snapshot.memory is Location.NO:
        return "none; its file systems stand still while the disks switch" if quiesced else "none"
    if live:
        return "short, at the end of writing the memory"
    return f"while the memory is written (up to {mib(facts.memory_in_use)})"
