"""Decide how a snapshot becomes a domain of its own, beside the one that it was taken of.

The clone's disks are overlays on the snapshot's frozen images, its memory is a private mapping of the memory
image, so clones of one snapshot share what none of them changes. The clone is an ordinary domain whose one
snapshot is the one that it came from: it can go back to its beginning. Frozen images belong to nobody in the
clone's books, so nothing is ever merged into them for its sake; and since it names them, the first domain
keeps them for as long. The memory image gets a second name (a hard link), so either may delete its own.

The plan is journaled with the domain that it is cloned from. The clone begins to exist with the commit, when
it already runs. Several clones are one plan: they are prepared side by side, and begin to exist at once.
What is inside an image (internal snapshots) is copied.
"""

from __future__ import annotations

import posixpath
from dataclasses import replace

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.identity import Identity, renewed
from virtsnap.machine.tpm import domain_folder, tpm_state
from virtsnap.model.domain import DomainRecord, Reason
from virtsnap.model.errors import (
    ConfigUnsupported,
    OperationInvalid,
    OperationUnsupported,
    RevertRisky,
    SystemRefused,
)
from virtsnap.model.facts import DomainFacts, FileFacts, ImageRole
from virtsnap.model.frozen import dataclass
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk
from virtsnap.model.steps import (
    AddDomains,
    CopyImage,
    CreateOverlay,
    LinkFile,
    LoadMemory,
    MakeTpm,
    NewDomain,
    Plan,
    ResumeGuest,
    Row,
    SettleGuest,
    Single,
    StartQemu,
    Together,
)
from virtsnap.plan.align import overlay_path
from virtsnap.plan.exclusive import VARIABLE_STORE, held_alone
from virtsnap.plan.images import check_frozen, frozen_images, overlay_on
from virtsnap.plan.internal import TaggedImage, check_tags, load_internal, strip_copies
from virtsnap.plan.nvram import keep_tpm, kept


@dataclass(frozen=True)
class CloneRequest:
    """Make domains of the snapshot of this name."""

    snapshot: str
    identities: tuple[Identity, ...]
    start: bool = False
    """Let it run; from the snapshot's memory, if that has any, else it boots."""
    paused: bool = False
    """Start it, and keep its virtual CPUs still."""

    @property
    def starts(self) -> bool:
        """Each gets a QEMU."""
        return self.start or self.paused


def paths_of(facts: DomainFacts, request: CloneRequest) -> tuple[str, ...]:
    """The paths that `plan_clone` needs the facts of."""
    snapshot = facts.tree.lookup(request.snapshot)
    frozen = frozen_images(snapshot).values()
    paths: list[str] = []
    if snapshot.memory_file is not None:
        paths.append(snapshot.memory_file)
    if snapshot.domain_xml is not None:
        paths += [path for one in kept(snapshot.domain_xml, snapshot.name, facts.root) for path in one.paths]
    for identity in request.identities:
        paths += [overlay_path(path, identity.name) for path in frozen]
        if snapshot.memory_file is not None:
            paths.append(_memory_link(snapshot.memory_file, identity.name))
        if snapshot.domain_xml is not None:
            paths.append(identity.nvram)
    return tuple(paths)


def plan_clone(facts: DomainFacts, request: CloneRequest) -> Plan:
    """The steps that make the new domains, all or none of them. Raises Refused and its kinds."""
    snapshot = facts.tree.lookup(request.snapshot)
    _check(facts, snapshot)
    planned = [
        _plan_one(facts, request, identity, snapshot, facts.next_id + number)
        for number, identity in enumerate(request.identities)
    ]
    rows = tuple(row for row, _ in planned)
    return Plan(
        operation="clone",
        subject=", ".join(row.subject for row in rows),
        prepare=rows[0].steps if len(rows) == 1 else (Together(rows),),
        commit=AddDomains(tuple(domain for _, domain in planned)),
        pause="none: the domain that is cloned goes on",
    )


def _plan_one(
    facts: DomainFacts, request: CloneRequest, identity: Identity, snapshot: Snapshot, id: int
) -> tuple[Row, NewDomain]:
    """What is prepared for one of them, and what is written down of it. `id`: of its QEMU."""
    made = _Clone.of(facts, identity, snapshot)
    prepare: list[Single] = [*made.files, *strip_copies(_without(facts, snapshot.name), made.tagged)]
    if not made.loads_internal:
        prepare += [image.apply(snapshot.name) for image in made.tagged]
    started = None
    if request.starts:
        started = f"{facts.root}/run/{id}"
        prepare += _start(facts, request, made, id, started)
    domain = NewDomain(
        record=DomainRecord(
            identity.uuid,
            identity.name,
            made.config_xml,
            live_xml=made.live_xml if request.starts else None,
            reason=_reason(made, request),
        ),
        snapshots=(made.snapshot,),
        current=snapshot.name,
        images=made.images,
        started=started,
    )
    return Row(identity.name, tuple(prepare)), domain


def _check(facts: DomainFacts, snapshot: Snapshot) -> None:
    if snapshot.domain_xml is None:
        raise RevertRisky(f"snapshot '{snapshot.name}' lacks domain '{facts.record.name}' rollback info")
    definition = DomainDefinition.parse(snapshot.domain_xml)
    frozen = frozen_images(snapshot, Location.EXTERNAL, Location.INTERNAL)
    for disk in definition.disks:
        if disk.source is None or disk.readonly or disk.shareable or disk.target in frozen:
            continue
        raise OperationUnsupported(
            f"disk '{disk.target}' is not part of snapshot '{snapshot.name}': two domains cannot write to it"
        )
    for target, path in frozen.items():
        check_frozen(facts, path)
        if target in frozen_images(snapshot, Location.INTERNAL) and facts.record.active:
            raise OperationInvalid(
                f"snapshot '{snapshot.name}' lies inside '{path}', which cannot be copied while domain "
                f"'{facts.record.name}' writes to it; shut it off"
            )
    file = snapshot.memory_file
    if file is not None and not facts.files.get(file, FileFacts(exists=False)).exists:
        raise SystemRefused(f"Failed to open file '{file}': No such file or directory")
    check_tags(facts, snapshot)


@dataclass(frozen=True)
class _Clone:
    """The new domain's files and documents."""

    snapshot: Snapshot
    """Its own record of where it came from."""
    config_xml: str
    live_xml: str
    files: tuple[Single, ...]
    tagged: tuple[TaggedImage, ...]
    images: tuple[tuple[str, ImageRole], ...]

    @property
    def active(self) -> bool:
        """It starts from memory."""
        return self.snapshot.state.active

    @property
    def loads_internal(self) -> bool:
        """That memory comes out of an image."""
        return self.active and self.snapshot.memory is Location.INTERNAL

    @classmethod
    def of(cls, facts: DomainFacts, identity: Identity, snapshot: Snapshot) -> _Clone:
        assert snapshot.domain_xml is not None
        files: list[Single] = []
        images: list[tuple[str, ImageRole]] = []
        overlays = {
            target: overlay_on(facts, path, _free(facts, overlay_path(path, identity.name)))
            for target, path in frozen_images(snapshot, Location.EXTERNAL).items()
        }
        tagged = tuple(
            TaggedImage(
                target, path, facts.images[path].format, _free(facts, overlay_path(path, identity.name))
            )
            for target, path in frozen_images(snapshot, Location.INTERNAL).items()
        )
        files += list(overlays.values())
        files += [CopyImage(image.writes_to, image.path) for image in tagged]
        images += [(step.path, ImageRole.OVERLAY) for step in overlays.values()]
        images += [(image.writes_to, ImageRole.OVERLAY) for image in tagged]
        memory = None
        if snapshot.memory_file is not None:
            memory = _free(facts, _memory_link(snapshot.memory_file, identity.name))
            files.append(LinkFile(memory, snapshot.memory_file))
            images.append((memory, ImageRole.MEMORY))
        renamed = renewed(DomainDefinition.parse(snapshot.domain_xml), identity)
        remembered, kept_copies = _remembered(facts, snapshot, renamed, identity)
        files += remembered
        images += [(path, ImageRole.NVRAM) for path in kept_copies]
        copies = {image.target: (image.writes_to, image.format) for image in tagged}
        tops = {target: (overlay.path, overlay.format) for target, overlay in overlays.items()}
        frozen = _onto(renamed, copies)
        inactive = frozen
        if snapshot.inactive_domain_xml is not None:
            inactive = _onto(renewed(DomainDefinition.parse(snapshot.inactive_domain_xml), identity), copies)
        config = _onto(inactive, tops)
        live = _onto(frozen, tops) if snapshot.state.active else config
        _check_alone(live)
        kept = replace(
            snapshot,
            parent=None,
            domain_xml=frozen.to_xml(),
            inactive_domain_xml=None if snapshot.inactive_domain_xml is None else inactive.to_xml(),
            memory_file=memory,
            disks=tuple(_entry(entry, overlays) for entry in snapshot.disks),
            revert_disks=(),
        )
        return cls(kept, config.to_xml(), live.to_xml(), tuple(files), tagged, tuple(images))


def _onto(definition: DomainDefinition, images: dict[str, tuple[str, str]]) -> DomainDefinition:
    """The definition with these images (path, format), by target, for those of the disks that it has."""
    for target, (path, format) in images.items():
        if definition.disk(target) is not None:
            definition = definition.with_disk_source(target, path, format)
    return definition


def _entry(entry: SnapshotDisk, overlays: dict[str, CreateOverlay]) -> SnapshotDisk:
    overlay = overlays.get(entry.name)
    if overlay is None:
        return entry
    return replace(entry, type="file", path=overlay.path, format=overlay.format)


def _free(facts: DomainFacts, path: str) -> str:
    file = facts.files.get(path, FileFacts(exists=False))
    if file.error is not None:
        raise SystemRefused(f"unable to stat '{path}': {file.error}")
    if file.exists or path in facts.images or path in facts.named_elsewhere:
        raise ConfigUnsupported(f"file '{path}' of the clone exists already; choose another name")
    return path


def _memory_link(path: str, name: str) -> str:
    stem, extension = posixpath.splitext(path)
    return f"{stem}.{name}{extension}"


def _remembered(
    facts: DomainFacts, snapshot: Snapshot, frozen: DomainDefinition, identity: Identity
) -> tuple[list[Single], list[str]]:
    """The clone's UEFI variables and TPM: of the snapshot, if it kept them, else as they are, for the memory
    to overwrite. Then, for the clone's own record of the snapshot, its copies, which are named."""
    assert snapshot.domain_xml is not None
    steps: list[Single] = []
    copies: list[str] = []
    theirs = kept(snapshot.domain_xml, snapshot.name, facts.root)
    ours = kept(frozen.to_xml(), snapshot.name, facts.root)
    for old, new in zip(theirs, ours, strict=True):
        if new.path == tpm_state(facts.root, frozen.to_xml()):
            steps.append(MakeTpm(domain_folder(facts.root, identity.uuid), posixpath.dirname(new.path)))
        own = _free(facts, new.path)
        if facts.owned.get(old.copy) is ImageRole.NVRAM:
            steps += [CopyImage(own, old.copy), CopyImage(new.copy, old.copy)]
            copies.append(new.copy)
        elif facts.files.get(old.path, FileFacts(exists=False)).exists:
            steps.append(CopyImage(own, old.path))
    return steps, copies


def _check_alone(live: DomainDefinition) -> None:
    held = [what for what in held_alone(live.to_xml()) if what != VARIABLE_STORE]
    if held:
        raise OperationUnsupported(f"a clone cannot have what only one domain can hold: {', '.join(held)}")


def _start(facts: DomainFacts, request: CloneRequest, made: _Clone, id: int, run_dir: str) -> list[Single]:
    memory = made.snapshot.memory_file if made.active else None
    mapped = None
    if memory is not None and facts.mappable is not None:
        mapped = replace(facts.mappable, path=memory)
    steps: list[Single] = [
        StartQemu(
            id,
            run_dir,
            made.live_xml,
            incoming=memory is not None,
            memory=mapped,
            own_tpm=made.active,
        )
    ]
    if memory is not None:
        steps.append(LoadMemory(run_dir, memory, label="Clone", mapped=mapped is not None))
    if made.loads_internal:
        steps.append(load_internal(facts, made.snapshot, made.tagged, run_dir))
    if made.active:
        steps += keep_tpm(facts.root, made.live_xml, run_dir)
    if not request.paused:
        steps.append(ResumeGuest(run_dir))
    elif memory is not None:
        steps.append(SettleGuest(run_dir))
    return steps


def _reason(made: _Clone, request: CloneRequest) -> Reason:
    if not request.starts:
        return Reason.SHUTOFF_UNKNOWN
    if made.active:
        return Reason.PAUSED_FROM_SNAPSHOT if request.paused else Reason.RUNNING_FROM_SNAPSHOT
    return Reason.PAUSED_USER if request.paused else Reason.RUNNING_BOOTED


def _without(facts: DomainFacts, name: str) -> DomainFacts:
    """The facts as if no image had an internal snapshot of this name: the copies keep that one."""
    images = {
        path: replace(image, tags=tuple(tag for tag in image.tags if tag.name != name))
        for path, image in facts.images.items()
    }
    return replace(facts, images=images)
