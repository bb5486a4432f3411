"""Decide how a domain goes back to a snapshot.

The present state is given up last: overlays, the new QEMU and its memory are made ready while the old one
still runs, so that a revert which fails leaves the guest running as it was. Only where the two cannot
exist at once (a fixed TCP port, a disk that is not part of the snapshot and would be opened twice) the old
one ends first, after everything that can be checked was checked; `--dry-run` says which.
Excluded, read-only and empty drives get no overlay: they stay as they are now.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from virtsnap.formats.domain_xml import DomainDefinition, DomainDisk
from virtsnap.model.domain import DomainRecord, Reason
from virtsnap.model.errors import (
    ConfigUnsupported,
    Damaged,
    InternalRefused,
    OperationInvalid,
    OperationUnsupported,
    RevertRisky,
    SystemRefused,
)
from virtsnap.model.event import Detail
from virtsnap.model.facts import DomainFacts, FileFacts, ImageRole
from virtsnap.model.flags import SnapshotRevert as Flag
from virtsnap.model.frozen import dataclass
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk, SnapshotState
from virtsnap.model.steps import (
    CopyImage,
    CreateOverlay,
    KillQemu,
    LoadMemory,
    Plan,
    RemoveFile,
    ResumeGuest,
    SettleGuest,
    StartQemu,
    Step,
    StoreWrite,
)
from virtsnap.plan.align import overlay_path
from virtsnap.plan.announce import agent_awaited, stopped, told
from virtsnap.plan.exclusive import held_alone
from virtsnap.plan.images import ImageGraph, check_frozen, frozen_images, overlay_on
from virtsnap.plan.internal import TaggedImage, check_tags, load_internal, stood_on, strip_copies
from virtsnap.plan.nvram import keep_tpm, reset_nvram, restore_nvram
from virtsnap.plan.requests import RevertRequest, exclusive, known_flags

_INACTIVE = (
    SnapshotState.SHUTDOWN,
    SnapshotState.SHUTOFF,
    SnapshotState.CRASHED,
    SnapshotState.DISK_SNAPSHOT,
)
_TRIES = 9
"""Names tried for an overlay, when several reverts fall into one second."""


def check_flags(flags: int) -> Flag:
    """The flag rules, in libvirt's order. Raises BareInvalidArg."""
    pre = "VIR_DOMAIN_SNAPSHOT_REVERT_"
    exclusive(flags, Flag.RUNNING, pre + "RUNNING", Flag.PAUSED, pre + "PAUSED")
    known_flags(flags, Flag, "qemuDomainRevertToSnapshot")
    return Flag(flags)


def paths_of(facts: DomainFacts, request: RevertRequest) -> tuple[str, ...]:
    """The paths that `plan_revert` needs the facts of."""
    snapshot = facts.tree.lookup(request.name)
    paths = [
        candidate
        for source in frozen_images(snapshot, Location.EXTERNAL, Location.INTERNAL).values()
        for candidate in _candidates(source, facts.now)
    ]
    if snapshot.memory_file is not None:
        paths.append(snapshot.memory_file)
    return tuple(paths)


def plan_revert(facts: DomainFacts, request: RevertRequest) -> Plan:
    """The steps that bring the snapshot's state back. Raises Refused and its kinds."""
    snapshot = facts.tree.lookup(request.name)
    _check(facts, request, snapshot)
    target = _Target.of(facts, request, snapshot)
    in_place = any(image.copy is None for image in target.internal)
    # A QEMU reads the UEFI variables when it starts, and a TPM its state.
    late = target.alone or in_place or (target.starts and target.nvram)
    return _stop_first(facts, target) if late else _prepare_first(facts, target)


def _candidates(source: str, now: int) -> list[str]:
    first = overlay_path(source, str(now))
    return [first, *(overlay_path(source, f"{now}-{n}") for n in range(2, _TRIES + 1))]


def _check(facts: DomainFacts, request: RevertRequest, snapshot: Snapshot) -> None:
    if facts.jobs:
        raise OperationInvalid("domain has active block job")
    to_active = request.flags & (Flag.RUNNING | Flag.PAUSED)
    if not facts.record.persistent and not snapshot.state.active and not to_active:
        raise OperationInvalid(
            "transient domain needs to request run or pause to revert to inactive snapshot"
        )
    if snapshot.domain_xml is None:
        raise RevertRisky(f"snapshot '{snapshot.name}' lacks domain '{facts.record.name}' rollback info")
    if facts.managed_save and not request.flags & Flag.FORCE and not snapshot.state.active:
        raise RevertRisky(
            "snapshot without memory state, removal of existing managed saved state strongly "
            "recommended to avoid corruption"
        )
    if snapshot.state is SnapshotState.PMSUSPENDED and request.flags & Flag.RUNNING:
        raise OperationUnsupported(
            f"snapshot '{snapshot.name}' is of a guest that sleeps, which only its own wakeup lets run; "
            "revert without --running"
        )
    if not snapshot.state.active and snapshot.state not in _INACTIVE:
        raise InternalRefused(
            f"Invalid target domain state '{snapshot.state.value}'. Refusing snapshot reversion"
        )
    if snapshot.state.active and not snapshot.full_system:
        raise Damaged(f"snapshot '{snapshot.name}' says {snapshot.state.value} and holds no memory")
    _check_files(facts, snapshot)


def _check_files(facts: DomainFacts, snapshot: Snapshot) -> None:
    assert snapshot.domain_xml is not None
    disks = {disk.target: disk for disk in DomainDefinition.parse(snapshot.domain_xml).disks}
    external = frozen_images(snapshot, Location.EXTERNAL)
    for target, path in frozen_images(snapshot, Location.EXTERNAL, Location.INTERNAL).items():
        if disks[target].type != "file" and target in external:
            raise OperationUnsupported(
                f"source disk for '{target}' is not a regular file, reverting to snapshot is not supported"
            )
        check_frozen(facts, path)
    if snapshot.memory is Location.EXTERNAL and snapshot.state.active:
        assert snapshot.memory_file is not None
        file = facts.files.get(snapshot.memory_file, FileFacts(exists=False))
        if not file.exists:
            why = file.error or "No such file or directory"
            raise SystemRefused(f"Failed to open file '{snapshot.memory_file}': {why}")
    check_tags(facts, snapshot)


@dataclass(frozen=True)
class _NewLayer:
    """The overlay that a disk of the domain will write to."""

    disk: DomainDisk
    create: CreateOverlay

    @property
    def entry(self) -> SnapshotDisk:
        return SnapshotDisk(
            name=self.disk.target,
            location=Location.EXTERNAL,
            type="file",
            path=self.create.path,
            format=self.create.format,
        )


def _overlays(facts: DomainFacts, snapshot: Snapshot, used: set[str]) -> tuple[_NewLayer, ...]:
    """A new layer on every frozen image, for the disks in `used`."""
    assert snapshot.domain_xml is not None
    frozen = frozen_images(snapshot, Location.EXTERNAL)
    layers: list[_NewLayer] = []
    taken = set(facts.images) | facts.named_elsewhere
    for disk in DomainDefinition.parse(snapshot.domain_xml).disks:
        if disk.target in frozen and disk.target in used:
            source = frozen[disk.target]
            create = overlay_on(facts, source, _free_path(facts, disk.target, source, taken))
            taken.add(create.path)
            layers.append(_NewLayer(disk, create))
    return tuple(layers)


def _free_path(facts: DomainFacts, target: str, source: str, taken: set[str]) -> str:
    """A name for a new image beside `source`."""
    path = source
    for path in _candidates(source, facts.now):
        file = facts.files.get(path, FileFacts(exists=False))
        if file.error is not None:
            raise SystemRefused(f"unable to stat for disk {target}: {path}: {file.error}")
        if not file.exists and path not in taken:
            return path
    raise ConfigUnsupported(
        f"external snapshot file for disk {target} already exists and is not a block device: {path}"
    )


def _internal(
    facts: DomainFacts, snapshot: Snapshot, overlays: tuple[_NewLayer, ...]
) -> tuple[TaggedImage, ...]:
    """The images that go back to their internal snapshots, each with the copy that it needs, if any."""
    found: list[TaggedImage] = []
    taken = set(facts.images) | facts.named_elsewhere | {layer.create.path for layer in overlays}
    for target, path in frozen_images(snapshot, Location.INTERNAL).items():
        copy = None
        if stood_on(facts, snapshot, path):
            copy = _free_path(facts, target, path, taken)
            taken.add(copy)
        found.append(TaggedImage(target, path, facts.images[path].format, copy))
    return tuple(found)


@dataclass(frozen=True)
class _Target:
    """Everything that both orders of steps share."""

    snapshot: Snapshot
    overlays: tuple[_NewLayer, ...]
    internal: tuple[TaggedImage, ...]
    starts: bool
    runs: bool
    reason: Reason
    config_xml: str
    live_xml: str
    memory: str | None
    alone: tuple[str, ...]
    """What the old and the new QEMU cannot both hold, in words."""
    nvram: tuple[Step, ...]
    """What becomes of the UEFI variables and the TPM's state before the new QEMU starts."""
    puts: tuple[Snapshot, ...]
    removes: tuple[str, ...]
    disowned: tuple[str, ...]

    @property
    def loads_internal(self) -> bool:
        """The memory comes out of an image."""
        return self.snapshot.memory is Location.INTERNAL and self.snapshot.state.active

    @property
    def from_memory(self) -> bool:
        """The guest goes on rather than boots."""
        return self.memory is not None or self.loads_internal

    @classmethod
    def of(
        cls,
        facts: DomainFacts,
        request: RevertRequest,
        snapshot: Snapshot,
    ) -> _Target:
        assert snapshot.domain_xml is not None
        active = snapshot.state.active
        starts = active or bool(request.flags & (Flag.RUNNING | Flag.PAUSED))
        if active:
            runs = not request.flags & Flag.PAUSED and (
                snapshot.state is not SnapshotState.PAUSED or bool(request.flags & Flag.RUNNING)
            )
        else:
            runs = bool(request.flags & Flag.RUNNING)
        config = snapshot.inactive_domain_xml or snapshot.domain_xml
        # Only memory needs the machine as it was; whatever boots, boots the definition (libvirt too).
        live = snapshot.domain_xml if active else config
        used = {disk.target for xml in (live, config) for disk in DomainDefinition.parse(xml).disks}
        overlays = _overlays(facts, snapshot, used)
        internal = _internal(facts, snapshot, overlays)
        manual = frozen_images(snapshot, Location.MANUAL)
        live_xml = _definition(facts, live, overlays, internal, manual)
        config_xml = live_xml if config == live else _definition(facts, config, overlays, internal, manual)
        _check_bases(facts, {image.writes_to for image in internal}, config_xml, live_xml)
        abandoned = _abandoned(facts, config_xml, live_xml)
        return cls(
            snapshot=snapshot,
            overlays=overlays,
            internal=internal,
            starts=starts,
            runs=runs,
            reason=_reason(facts, snapshot.state, starts, runs),
            config_xml=config_xml,
            live_xml=live_xml,
            memory=snapshot.memory_file if active else None,
            alone=_alone(facts, live_xml, overlays, internal, loads=active)
            if starts and facts.record.active
            else (),
            nvram=_remembered(facts, request, snapshot, live_xml if starts else None),
            puts=_puts(facts, snapshot, overlays),
            # Its memory belongs to the disks as they are now: nobody must resume it on others.
            removes=(*facts.managed_save, *abandoned[0]),
            disowned=abandoned[1],
        )


def _remembered(
    facts: DomainFacts, request: RevertRequest, snapshot: Snapshot, starting: str | None
) -> tuple[Step, ...]:
    """UEFI variables and the TPM's state as the snapshot kept them; the former may be asked to be new."""
    restored = restore_nvram(facts, snapshot)
    if starting is None or not request.flags & Flag.RESET_NVRAM:
        return restored
    fresh = reset_nvram(starting)
    reset = {step.path for step in fresh}
    return (*fresh, *(step for step in restored if step.path not in reset))


def _reason(facts: DomainFacts, state: SnapshotState, starts: bool, runs: bool) -> Reason:
    if not starts:
        # libvirt: the reason tells what stopped it, and a revert of what is off stops nothing.
        return Reason.SHUTOFF_FROM_SNAPSHOT if facts.record.active else facts.record.reason
    if state is SnapshotState.PMSUSPENDED and runs:
        return Reason.PMSUSPENDED_UNKNOWN
    if state.active:
        return Reason.RUNNING_FROM_SNAPSHOT if runs else Reason.PAUSED_FROM_SNAPSHOT
    return Reason.RUNNING_BOOTED if runs else Reason.PAUSED_USER


def _definition(
    facts: DomainFacts,
    xml: str,
    overlays: tuple[_NewLayer, ...],
    internal: tuple[TaggedImage, ...],
    manual_disks: Iterable[str],
) -> str:
    """The snapshot's definition under the domain's present name, on the images that it will write to."""
    definition = DomainDefinition.parse(xml).with_name(facts.record.name)
    present = {disk.target: disk for disk in DomainDefinition.parse(facts.record.config_xml).disks}
    layers = {layer.disk.target: layer for layer in overlays}
    tagged = {image.target: image for image in internal}
    # The user brings a manual disk's storage back himself, under the name that it had.
    manual = set(manual_disks)
    for disk in definition.disks:
        if disk.target in tagged:
            image = tagged[disk.target]
            definition = definition.with_disk_source(
                disk.target, image.writes_to, image.format, "file" if image.copy else disk.type
            )
            continue
        if disk.target in layers:
            create = layers[disk.target].create
            definition = definition.with_disk_source(disk.target, create.path, create.format, "file")
            continue
        now = present.get(disk.target)
        if disk.target in manual:
            continue
        if disk.source is not None and not disk.readonly and now is not None and now.source is not None:
            # An excluded disk is not part of the past: what was its image then may be someone's base now.
            definition = definition.with_disk_source(disk.target, now.source, now.format, now.type)
    return definition.to_inactive_xml()


def _check_bases(facts: DomainFacts, judged: set[str], *xml_texts: str) -> None:
    """A disk that the snapshot left out may have been snapshotted since, and be gone from the domain.

    `judged`: images that were looked at already.
    """
    bases = {image.backing for image in facts.images.values()}
    bases |= {path for snapshot in facts.tree for path in frozen_images(snapshot, Location.EXTERNAL).values()}
    for xml in xml_texts:
        for disk in DomainDefinition.parse(xml).disks:
            if disk.source in bases - judged and not disk.readonly:
                raise OperationUnsupported(
                    f"disk '{disk.target}' is not part of the snapshot, and its image '{disk.source}' "
                    "is the base of other snapshots by now"
                )


def _alone(
    facts: DomainFacts,
    live_xml: str,
    overlays: tuple[_NewLayer, ...],
    internal: tuple[TaggedImage, ...],
    *,
    loads: bool,
) -> tuple[str, ...]:
    """`loads`: the new QEMU gets a memory, and with it a TPM of its own."""
    layers = {layer.disk.target for layer in overlays}
    layers |= {image.target for image in internal if image.copy is not None}
    twice = tuple(
        f"disk {disk.target}"
        for disk in DomainDefinition.parse(live_xml).disks
        if disk.source is not None and not disk.readonly and not disk.shareable and disk.target not in layers
    )
    tpm = () if loads or DomainDefinition.parse(live_xml).tpm is None else ("the TPM's state",)
    return twice + held_alone(live_xml) + tpm


def _puts(facts: DomainFacts, snapshot: Snapshot, overlays: tuple[_NewLayer, ...]) -> tuple[Snapshot, ...]:
    """libvirt: an inner snapshot notes the new branch in revertDisks, a leaf in its own disks."""
    changed: list[Snapshot] = []
    current = facts.tree.current
    if current is not None and current != snapshot.name and facts.tree[current].revert_disks:
        changed.append(replace(facts.tree[current], revert_disks=()))
    entries = {layer.disk.target: layer.entry for layer in overlays}
    if facts.tree.children(snapshot.name):
        changed.append(replace(snapshot, revert_disks=tuple(entries.values())))
    else:
        disks = tuple(entries.get(disk.name, disk) for disk in snapshot.disks)
        changed.append(replace(snapshot, disks=disks, revert_disks=()))
    return tuple(changed)


def _abandoned(facts: DomainFacts, config_xml: str, live_xml: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Files of the branch that is left behind without a snapshot, and the paths to disown."""
    named: dict[str, str] = {}
    for xml in (config_xml, live_xml):
        for disk in DomainDefinition.parse(xml).disks:
            if disk.source is not None:
                named[disk.source] = disk.target
    for snapshot in facts.tree:
        named |= {path: target for target, path in frozen_images(snapshot).items()}
    collapse = ImageGraph(facts, named).collapse("virtsnap-revert", named, merge=False)
    kept = set(facts.images) - set(collapse.removes) - set(collapse.given_up)
    gone = tuple(path for path in collapse.disowned if path not in kept)
    return tuple(collapse.removes), gone


def _write(target: _Target, record: DomainRecord, started: str | None) -> StoreWrite:
    # A frozen image that is not ours any more was given up (--metadata) and may carry files that we do not
    # know: it is not taken back here.
    return StoreWrite(
        record=record,
        put_snapshots=target.puts,
        set_current=True,
        current=target.snapshot.name,
        put_images=tuple(
            (path, ImageRole.OVERLAY)
            for path in [
                *(layer.create.path for layer in target.overlays),
                *(image.copy for image in target.internal if image.copy is not None),
            ]
        ),
        delete_images=target.disowned,
        started=started,
    )


def _start(facts: DomainFacts, target: _Target) -> tuple[str, list[Step]]:
    run_dir = f"{facts.root}/run/{facts.next_id}"
    mapped = facts.mappable if target.memory is not None else None
    steps: list[Step] = [
        StartQemu(
            facts.next_id,
            run_dir,
            target.live_xml,
            incoming=target.memory is not None,
            memory=mapped,
            own_tpm=target.from_memory,
        )
    ]
    if target.memory is not None:
        steps.append(LoadMemory(run_dir, target.memory, mapped=mapped is not None))
    if target.loads_internal:
        steps.append(load_internal(facts, target.snapshot, target.internal, run_dir))
    return run_dir, steps


def _stopped(facts: DomainFacts, target: _Target) -> DomainRecord:
    return replace(
        facts.record,
        config_xml=target.config_xml,
        live_xml=None,
        instance=None,
        reason=Reason.SHUTOFF_FROM_SNAPSHOT if target.starts else target.reason,
    )


def _new_images(target: _Target) -> list[Step]:
    """Files that are made before anything else happens."""
    overlays: list[Step] = [layer.create for layer in target.overlays]
    return overlays + [
        CopyImage(image.copy, image.path) for image in target.internal if image.copy is not None
    ]


def _old(facts: DomainFacts) -> list[Step]:
    instance = facts.record.instance
    if instance is None:
        return []
    return [KillQemu(instance.run_dir), stopped(instance.run_dir, Reason.SHUTOFF_FROM_SNAPSHOT)]


def _go_on(facts: DomainFacts, target: _Target) -> list[Step]:
    """The new QEMU as it is to be, and libvirt's words on it."""
    if not target.starts:
        return []
    steps = agent_awaited(target.live_xml)
    if target.from_memory:
        steps += keep_tpm(facts.root, target.live_xml, f"{facts.root}/run/{facts.next_id}")
    if target.runs and target.from_memory:
        return [*steps, told(Detail.STARTED_FROM_SNAPSHOT), ResumeGuest()]
    if target.runs:
        return [*steps, ResumeGuest(), told(Detail.STARTED_FROM_SNAPSHOT)]
    if target.memory is not None:
        steps.append(SettleGuest())
    return [*steps, told(Detail.STARTED_FROM_SNAPSHOT, Detail.SUSPENDED_FROM_SNAPSHOT)]


def _redefined(facts: DomainFacts) -> list[Step]:
    return [told(Detail.DEFINED_FROM_SNAPSHOT)] if facts.record.persistent else []


def _prepare_first(facts: DomainFacts, target: _Target) -> Plan:
    prepare: list[Step] = _new_images(target)
    if not target.loads_internal:
        prepare += [image.apply(target.snapshot.name) for image in target.internal]
    record, run_dir = _stopped(facts, target), None
    if target.starts:
        run_dir, steps = _start(facts, target)
        prepare += steps
        record = replace(record, live_xml=target.live_xml, reason=target.reason)
    finish: list[Step] = [*_old(facts), *target.nvram]
    finish += _go_on(facts, target)
    finish += _redefined(facts)
    finish += strip_copies(facts, target.internal)
    finish += [RemoveFile(path) for path in target.removes]
    return Plan(
        operation="revert",
        subject=target.snapshot.name,
        prepare=tuple(prepare),
        commit=_write(target, record, run_dir),
        finish=tuple(finish),
        pause="until the new QEMU runs; the old one goes on while it is made ready",
        result_reason=target.reason,
    )


def _stop_first(facts: DomainFacts, target: _Target) -> Plan:
    run_dir, steps = _start(facts, target)
    record = _stopped(facts, target)
    started = replace(record, live_xml=target.live_xml, reason=target.reason)
    applies = [image.apply(target.snapshot.name) for image in target.internal]
    finish: list[Step] = [*_old(facts), *target.nvram]
    if not target.loads_internal:
        finish += applies
    if target.starts:
        finish += [*steps, StoreWrite(record=started, started=run_dir)]
    finish += _go_on(facts, target)
    finish += _redefined(facts)
    finish += strip_copies(facts, target.internal)
    removes = [RemoveFile(path) for path in target.removes]
    return Plan(
        operation="revert",
        subject=target.snapshot.name,
        prepare=tuple(_new_images(target)),
        commit=_write(target, record, None),
        finish=(*finish, *removes),
        pause="while the memory is loaded: the old QEMU ends first, since both would need "
        + ", ".join(target.alone)
        if target.alone
        else "none (the domain is not running)",
        result_reason=target.reason,
        give_up=(*_old(facts), KillQemu(run_dir), *applies, *removes) if target.starts else (),
    )
