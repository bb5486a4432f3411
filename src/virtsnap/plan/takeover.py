"""Decide whether a domain of a real libvirt can be taken over with its whole tree, and whose its files are.

In three parts, with reading in between: `read` understands the documents, `wanted` says which files they are
about, and `judge` compares both. Whatever is wrong is collected, so that a refusal names every reason.

Ownership follows `plan.images`. Of the images that a snapshot froze, the lowest of each chain is the user's
ORIGIN; every image that libvirt put above one (named by a snapshot or the definition, and standing on frozen
content) is an OVERLAY, deleted when nothing needs it any more. What is below an origin, what no document
names, and what another domain uses is nobody's here: never merged, never deleted.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from virtsnap.formats.domain_xml import DomainDefinition, DomainDisk
from virtsnap.formats.libvirt_files import written_chains
from virtsnap.formats.snapshot_xml import parse_saved
from virtsnap.machine.support import check_supported
from virtsnap.model.domain import DomainRecord
from virtsnap.model.errors import VirtsnapError
from virtsnap.model.facts import ImageFacts, ImageRole
from virtsnap.model.libvirt import Document, Evidence, FoundFile, FoundSnapshot, LibvirtFiles, LibvirtReport
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk, SnapshotTree
from virtsnap.model.steps import StoreWrite
from virtsnap.plan.align import IsRegular
from virtsnap.plan.create import check_name
from virtsnap.plan.images import disks_of, frozen_images
from virtsnap.plan.nvram import nvram_paths
from virtsnap.plan.redefine import aligned

SAVE_SLACK_SECONDS = 5.0
"""QEMU may close its images a moment after libvirt has closed the managed save."""


@dataclass(frozen=True)
class Takeover:
    """The domain as its documents tell."""

    name: str
    uuid: str = ""
    config_xml: str = ""
    tree: SnapshotTree = field(default_factory=SnapshotTree)
    autostart: bool = False
    save: str | None = None
    """Path of the managed save."""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Every definition in it."""
        inside = [text for s in self.tree for text in (s.domain_xml, s.inactive_domain_xml)]
        return tuple(text for text in (self.config_xml, *inside) if text)


@dataclass(frozen=True)
class Wanted:
    """The files that the documents are about."""

    images: Mapping[str, str]
    """Path to format, of everything whose chain is to be read."""
    optional: frozenset[str]
    """Those that may be missing: overlays that a later revert has replaced, disks left to the user."""
    memory: tuple[str, ...]
    nvram: tuple[str, ...]
    copies: tuple[str, ...]
    """What copies of the UEFI variables would be called, which snapshots without memory have here."""
    media: tuple[str, ...]
    """Read-only disks, which are part of no snapshot."""


@dataclass(frozen=True)
class Variables:
    """UEFI variables of a snapshot: libvirt keeps them as an internal snapshot, we as a copy of the file."""

    path: str
    copy: str
    tag: str


@dataclass(frozen=True)
class Admission:
    """What takes the domain over: copies that are made first, then one write."""

    write: StoreWrite
    variables: tuple[Variables, ...]


def check_domain_name(name: str) -> str | None:
    """Why no domain of libvirt's can have that name; it becomes a file name."""
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        return f"'{name}' is no name of a domain: it cannot be a file's name"
    return None


def read(files: LibvirtFiles, is_regular: IsRegular) -> Takeover:
    """Understand the documents; what is wrong with them is in `problems`."""
    problems: list[str] = []
    config = _definition(files, problems)
    if config is None:
        return Takeover(files.name, problems=tuple(problems))
    uuid = config.uuid or ""
    found: list[Snapshot] = []
    actives: list[str] = []
    for document in files.snapshots:
        snapshot, active = _snapshot(document, uuid, is_regular, problems)
        if snapshot is not None:
            found.append(snapshot)
            actives += [snapshot.name] if active else []
    problems += _tree_problems(found)
    if len(actives) > 1:
        problems.append("more than one snapshot claims to be the current one: " + ", ".join(sorted(actives)))
    if files.active_pid is not None:
        problems.append(f"the domain is active in libvirt (process {files.active_pid}): shut it off there")
    notes = (
        [f"checkpoints (for incremental backup) stay behind: {files.checkpoints}"]
        if files.checkpoints
        else []
    )
    return Takeover(
        files.name,
        uuid,
        config.to_inactive_xml(),
        SnapshotTree.of(found, actives[0] if actives else None),
        files.autostart,
        files.places.save(files.name) if files.saved else None,
        tuple(problems),
        tuple(notes),
    )


def completed(found: Takeover, texts: Mapping[str, str], refused: Mapping[str, str]) -> Takeover:
    """The same, every definition completed for this host; `refused`: definition to why it cannot run."""

    def of(text: str | None) -> str | None:
        return None if text is None else texts.get(text, text)

    problems = list(found.problems)
    who = [("the definition", found.config_xml)]
    who += [(f"snapshot '{s.name}'", s.domain_xml or "") for s in found.tree]
    who += [(f"snapshot '{s.name}' (inactiveDomain)", s.inactive_domain_xml or "") for s in found.tree]
    for label, text in who:
        if text in refused:
            problems.append(f"{label}: {refused[text]}")
    snapshots = [
        replace(s, domain_xml=of(s.domain_xml), inactive_domain_xml=of(s.inactive_domain_xml))
        for s in found.tree
    ]
    return replace(
        found,
        config_xml=texts.get(found.config_xml, found.config_xml),
        tree=SnapshotTree.of(snapshots, found.tree.current),
        problems=tuple(problems),
    )


def check_runs(definition: DomainDefinition) -> None:
    """Raises ConfigUnsupported for a machine that could never be started here."""
    check_supported(definition)


def wanted(found: Takeover) -> Wanted:
    """What has to be read next."""
    images: dict[str, str] = {}
    needed: set[str] = set()
    optional: set[str] = set()
    media: set[str] = set()
    for disk in disks_of(found.config_xml) if found.config_xml else ():
        if disk.source is None:
            continue
        if disk.readonly or disk.device != "disk":
            media.add(disk.source)
        else:
            images.setdefault(disk.source, disk.format)
            needed.add(disk.source)
    for snapshot in found.tree:
        formats = {disk.source: disk.format for disk in _disks(snapshot)}
        for path in frozen_images(snapshot, Location.EXTERNAL, Location.INTERNAL).values():
            images.setdefault(path, formats[path])
            needed.add(path)
        for path in frozen_images(snapshot, Location.MANUAL).values():
            images.setdefault(path, formats[path])
            optional.add(path)
        for entry, path in _overlays(snapshot):
            images.setdefault(path, entry.format or "qcow2")
            optional.add(path)
    memory = [s.memory_file for s in found.tree if s.memory_file is not None]
    nvram = [DomainDefinition.parse(text).nvram_path for text in found.texts]
    return Wanted(
        images=images,
        optional=frozenset(optional - needed),
        memory=tuple(dict.fromkeys([*memory, *([found.save] if found.save else [])])),
        nvram=tuple(dict.fromkeys(path for path in nvram if path is not None)),
        copies=tuple(path for s in found.tree for path in nvram_paths(s.domain_xml or "", s.name)[1:]),
        media=tuple(sorted(media)),
    )


def judge(found: Takeover, evidence: Evidence, *, leave_save: bool) -> tuple[LibvirtReport, Admission | None]:
    """What was found, and what takes it over; None when there is a reason not to.

    `leave_save`: without the managed save.
    """
    return _Judgement(found, evidence, leave_save).result()


# --- documents --------------------------------------------------------------------------------------------


def _definition(files: LibvirtFiles, problems: list[str]) -> DomainDefinition | None:
    document = files.definition
    path = files.places.definition(files.name)
    if document is None:
        problems.append(f"there is no definition '{path}'")
        return None
    try:
        config = DomainDefinition.parse(_text(document))
    except (VirtsnapError, _Unreadable) as error:
        problems.append(f"definition '{path}': {error}")
        return None
    if config.name != files.name:
        problems.append(f"definition '{path}' is of a domain '{config.name}'")
    if config.uuid is None:
        problems.append(f"definition '{path}' has no uuid")
    return config


class _Unreadable(Exception):
    """A document's file cannot be read."""


def _text(document: Document) -> str:
    if document.problem is not None:
        raise _Unreadable(document.problem)
    return document.text


def _snapshot(
    document: Document, uuid: str, is_regular: IsRegular, problems: list[str]
) -> tuple[Snapshot | None, bool]:
    where = f"snapshot document '{document.path}'"
    try:
        snapshot, active = parse_saved(_text(document))
        check_name(snapshot.name)
        if snapshot.domain_xml is None:
            problems.append(f"{where}: the snapshot does not say what the machine was")
            return None, False
        own = DomainDefinition.parse(snapshot.domain_xml).uuid
        if own != uuid:
            problems.append(f"{where}: it is of the domain with uuid {own}, not {uuid}")
        snapshot = aligned(snapshot, is_regular)
    except (VirtsnapError, _Unreadable) as error:
        problems.append(f"{where}: {error}")
        return None, False
    return snapshot, active


def _tree_problems(found: list[Snapshot]) -> list[str]:
    counts = Counter(snapshot.name for snapshot in found)
    problems = [f"{n} documents describe a snapshot '{name}'" for name, n in sorted(counts.items()) if n > 1]
    parents = {snapshot.name: snapshot.parent for snapshot in found}
    for name, parent in parents.items():
        if parent is not None and parent not in parents:
            problems.append(f"snapshot '{name}': its parent '{parent}' is not there")
    said: set[str] = set()
    for name in parents:
        path: list[str] = []
        at: str | None = name
        while at is not None and at in parents and at not in path:
            path.append(at)
            at = parents[at]
        if at is not None and at in path and not said & set(path):
            circle = path[path.index(at) :]
            said |= set(circle)
            problems.append("snapshots are each other's parents: " + " -> ".join([*circle, at]))
    memory = Counter(s.memory_file for s in found if s.memory_file is not None)
    for file, n in memory.items():
        if n > 1:
            problems.append(f"{n} snapshots name the memory file '{file}'")
    return problems


def _disks(snapshot: Snapshot) -> tuple[DomainDisk, ...]:
    return disks_of(snapshot.domain_xml) if snapshot.domain_xml is not None else ()


def _overlays(snapshot: Snapshot) -> Iterator[tuple[SnapshotDisk, str]]:
    """What creating it, or a revert to it, put on top: entry and path."""
    for entry in (*snapshot.disks, *snapshot.revert_disks):
        if entry.location is Location.EXTERNAL and entry.path is not None:
            yield entry, entry.path


# --- files ------------------------------------------------------------------------------------------------


class _Judgement:
    """Documents beside files. Each check adds to `problems` (refuse) or to `notes` (say)."""

    def __init__(self, found: Takeover, evidence: Evidence, leave_save: bool) -> None:
        self.found = found
        self.evidence = evidence
        self.leave_save = leave_save
        self.problems = list(found.problems)
        self.notes = list(found.notes)
        self.wanted = wanted(found)
        self.roles: dict[str, ImageRole] = {}
        self.variables: list[Variables] = []

    def result(self) -> tuple[LibvirtReport, Admission | None]:
        if self.found.config_xml:
            self._look()
        report = LibvirtReport(
            name=self.found.name,
            uuid=self.found.uuid,
            definition="",
            snapshots=found_snapshots(self.found.tree),
            files=tuple(self._files()),
            notes=tuple(self.notes),
            problems=tuple(dict.fromkeys(self.problems)),
        )
        return report, None if report.problems else Admission(self._write(), tuple(self.variables))

    def _look(self) -> None:
        if self.evidence.taken is not None:
            self.problems.append(self.evidence.taken)
        self._paths()
        self._images()
        for snapshot in self.found.tree:
            self._external(snapshot)
            self._internal(snapshot)
            self._memory(snapshot)
            self._variables(snapshot)
        self.roles = self._owners()
        self._definition()
        self._chains()
        self._managed_save()

    # each image by itself
    def _paths(self) -> None:
        formats: dict[str, set[str]] = {}
        for text in self.found.texts:
            for disk in disks_of(text):
                if disk.source is not None and disk.source in self.wanted.images:
                    formats.setdefault(disk.source, set()).add(disk.format)
        for path, names in sorted(formats.items()):
            if len(names) > 1:
                self.problems.append(f"image '{path}' has two formats: {' and '.join(sorted(names))}")
        for path in sorted(self.wanted.images):
            if not path.startswith("/"):
                self.problems.append(f"image '{path}' has no absolute path")
            elif posixpath.normpath(path) != path:
                self.problems.append(
                    f"image '{path}' is named by a roundabout path: {posixpath.normpath(path)}"
                )
        files: dict[str, str] = {}
        for path in sorted(self.evidence.images):
            other = files.setdefault(self.evidence.identity.get(path, path), path)
            if other != path:
                self.problems.append(f"images '{other}' and '{path}' are the same file")

    def _images(self) -> None:
        for path, why in sorted(self.evidence.unreadable.items()):
            if path in self.evidence.absent and path in self.wanted.optional:
                continue
            users = self._users(path)
            self.problems.append(f"image '{path}' ({users}): {why}" if users else f"image '{path}': {why}")
        for path, image in sorted(self.evidence.images.items()):
            if image.backing is not None and image.backing_format is None:
                self.problems.append(
                    f"image '{path}' does not name the format of the image below it, '{image.backing}'"
                )
            if any(below.path == path for below in self._below(path)):
                self.problems.append(f"image '{path}' stands on itself")
        for path in sorted(self.evidence.busy):
            self.problems.append(f"image '{path}' is in use: another process holds QEMU's lock on it")

    def _users(self, path: str) -> str:
        """Who leads to an image, in words."""
        found = [f"disk {d.target}" for d in disks_of(self.found.config_xml) if d.source == path]
        names = [s.name for s in self.found.tree if path in frozen_images(s).values()]
        found += [f"snapshot '{name}'" for name in sorted(names)]
        found += [
            f"below '{above}'"
            for above, image in sorted(self.evidence.images.items())
            if image.backing == path
        ]
        return ", ".join(found)

    def _below(self, path: str) -> list[ImageFacts]:
        return chain_below(path, self.evidence.images)

    def _stands_on(self, path: str, base: str) -> bool:
        return any(image.path == base for image in self._below(path))

    # snapshots
    def _external(self, snapshot: Snapshot) -> None:
        frozen = frozen_images(snapshot, Location.EXTERNAL)
        types = {disk.target: disk.type for disk in _disks(snapshot)}
        for entry, path in _overlays(snapshot):
            base = frozen.get(entry.name)
            if base is None:
                self.problems.append(
                    f"snapshot '{snapshot.name}': disk '{entry.name}' has an overlay and no image below it"
                    f" (its storage is of type '{types.get(entry.name, '?')}')"
                )
            elif path in self.evidence.images and not self._stands_on(path, base):
                text = f"overlay '{path}' of snapshot '{snapshot.name}' does not stand on '{base}'"
                if self._needed(path):
                    self.problems.append(f"{text}, the content that the snapshot is of")
                else:
                    self.notes.append(f"{text} and is used by nothing: it is left alone")

    def _needed(self, path: str) -> bool:
        """The definition or a snapshot's content leads to the image."""
        tops = {disk.source for disk in disks_of(self.found.config_xml) if disk.source is not None}
        tops |= {image for s in self.found.tree for image in frozen_images(s).values()}
        return path in tops or any(self._stands_on(top, path) for top in tops)

    def _internal(self, snapshot: Snapshot) -> None:
        name, memories, whole = snapshot.name, 0, True
        for target, path in frozen_images(snapshot, Location.INTERNAL).items():
            image = self.evidence.images.get(path)
            if image is None:
                whole = False
                continue
            tag = image.tag(name)
            if tag is None:
                whole = False
                self.problems.append(f"image '{path}' of disk {target} has no internal snapshot '{name}'")
            else:
                memories += 1 if tag.vm_state_size else 0
        if snapshot.memory is Location.INTERNAL and whole and memories != 1:
            self.problems.append(
                f"snapshot '{name}': {'no image' if not memories else 'more than one image'} holds its memory"
            )

    def _memory(self, snapshot: Snapshot) -> None:
        file = snapshot.memory_file
        if file is None:
            return
        image = self.evidence.memory[file]
        where = f"memory file '{file}' of snapshot '{snapshot.name}'"
        if image.problem is not None:
            self.problems.append(f"{where}: {image.problem}")
        elif image.uuid != self.found.uuid:
            self.problems.append(f"{where} is of the domain with uuid {image.uuid}")

    def _variables(self, snapshot: Snapshot) -> None:
        paths = nvram_paths(snapshot.domain_xml or self.found.config_xml, snapshot.name)
        if not paths or snapshot.full_system:
            return
        path, copy = paths
        if snapshot.name not in self.evidence.nvram_tags.get(path, ()):
            return
        if copy in self.evidence.present:
            self.problems.append(
                f"snapshot '{snapshot.name}': copy of the UEFI variables already exists: {copy}"
            )
        self.variables.append(Variables(path, copy, snapshot.name))

    # the domain
    def _definition(self) -> None:
        current = self.found.tree[self.found.tree.current] if self.found.tree.current else None
        frozen = frozen_images(current, Location.EXTERNAL) if current is not None else {}
        for disk in disks_of(self.found.config_xml):
            path = disk.source
            if path is None or path not in self.evidence.images:
                continue
            for snapshot in self.found.tree:
                # Where libvirt goes back to an internal snapshot below external ones, it does that.
                if path in frozen_images(snapshot, Location.EXTERNAL).values() and not disk.readonly:
                    self.notes.append(
                        f"disk {disk.target} writes into '{path}', which is the content of snapshot "
                        f"'{snapshot.name}': that is ruined, or will be when the domain runs"
                    )
            base = frozen.get(disk.target)
            if current is not None and base is not None and not self._stands_on(path, base):
                self.notes.append(
                    f"disk {disk.target} ('{path}') does not stand on the content of the current snapshot "
                    f"'{current.name}': its image was changed by hand"
                )
        for path in sorted(self.evidence.missing_files):
            self.notes.append(f"file '{path}' of the definition is not there")
        known = set(self.found.tree.snapshots)
        for path, image in sorted(self.evidence.images.items()):
            foreign = sorted({tag.name for tag in image.tags} - known)
            if foreign and path in self.roles:
                self.notes.append(
                    f"image '{path}' has internal snapshots that belong to no snapshot of the domain: "
                    + ", ".join(foreign)
                )
        for path, user in sorted(self.evidence.elsewhere.items()):
            if path in self.evidence.images:
                self.notes.append(f"image '{path}' is used by {user} too: it is never merged into or deleted")

    def _managed_save(self) -> None:
        if self.found.save is None:
            return
        way_out = "--without-managed-save takes the domain over without it"
        if self.leave_save:
            self.notes.append(f"managed save '{self.found.save}' is left behind")
            return
        image = self.evidence.memory[self.found.save]
        if image.problem is not None:
            self.problems.append(f"managed save '{self.found.save}': {image.problem}; {way_out}")
            return
        if image.uuid != self.found.uuid:
            self.problems.append(
                f"managed save '{self.found.save}' is of the domain with uuid {image.uuid}; {way_out}"
            )
        for disk in disks_of(self.found.config_xml):
            changed = self.evidence.changed.get(disk.source or "", 0.0)
            if not disk.readonly and changed > image.changed + SAVE_SLACK_SECONDS:
                self.problems.append(
                    f"image '{disk.source}' was written to after the managed save was made: "
                    f"to resume it would ruin the guest's files; {way_out}"
                )

    def _chains(self) -> None:
        """libvirt believes what is written of a chain, we believe the images."""
        for who, text, said in [
            ("the definition", self.found.config_xml, self.problems),
            *((f"snapshot '{s.name}'", s.domain_xml or "", self.notes) for s in self.found.tree),
        ]:
            for target in stale_chains(text, self.evidence.images):
                said.append(f"{who}: what is written of the images below disk {target} is not what they say")

    # whose files
    def _owners(self) -> dict[str, ImageRole]:
        tree = self.found.tree
        frozen = {path for s in tree for path in frozen_images(s, Location.EXTERNAL).values()}
        tagged = {path for s in tree for path in frozen_images(s, Location.INTERNAL).values()}
        tops = {disk.source for disk in disks_of(self.found.config_xml) if disk.source is not None}
        made = {(path, entry.name, s.name) for s in tree for entry, path in _overlays(s)}
        overlays = {
            path
            for path, target, name in made
            if self._on_frozen(path, frozen_images(tree[name]).get(target))
        }
        roles: dict[str, ImageRole] = {}
        for path in self.evidence.images:
            if path in self.evidence.elsewhere:
                continue
            above = any(below.path in frozen for below in self._below(path))
            if path in overlays or (above and path in frozen | tagged | tops):
                roles[path] = ImageRole.OVERLAY
            elif path in frozen:
                roles[path] = ImageRole.ORIGIN
        for snapshot in tree:
            if snapshot.memory_file is not None:
                roles[snapshot.memory_file] = ImageRole.MEMORY
        return roles | {kept.copy: ImageRole.NVRAM for kept in self.variables}

    def _on_frozen(self, path: str, base: str | None) -> bool:
        return base is not None and self._stands_on(path, base)

    # results
    def _files(self) -> Iterator[FoundFile]:
        for path, image in sorted(self.evidence.images.items()):
            role = self.roles.get(path)
            yield FoundFile(path, "image", image.format, role.value if role else "base", image.actual_size)
        for path, memory in sorted(self.evidence.memory.items()):
            kind = "managed save" if path == self.found.save else "memory"
            role_word = "copied" if kind == "managed save" else ImageRole.MEMORY.value
            yield FoundFile(path, kind, memory.format, role_word, memory.size)
        for path in self.wanted.nvram:
            kind = "qcow2" if path in self.evidence.nvram_tags else "raw"
            yield FoundFile(path, "UEFI variables", kind, "base", 0)
        for kept in self.variables:
            yield FoundFile(kept.copy, "UEFI variables", "qcow2", ImageRole.NVRAM.value, 0)

    def _write(self) -> StoreWrite:
        found = self.found
        return StoreWrite(
            record=DomainRecord(found.uuid, found.name, found.config_xml, autostart=found.autostart),
            put_snapshots=tuple(found.tree),
            set_current=found.tree.current is not None,
            current=found.tree.current,
            put_images=tuple(sorted(self.roles.items())),
        )


def chain_below(path: str, images: Mapping[str, ImageFacts]) -> list[ImageFacts]:
    """The images that one stands on, top first. One that stands on itself is among them, once."""
    found: dict[str, ImageFacts] = {}
    at = images[path].backing if path in images else None
    while at is not None and at in images and at not in found:
        found[at] = images[at]
        at = images[at].backing
    return list(found.values())


def stale_chains(definition_xml: str, images: Mapping[str, ImageFacts]) -> set[str]:
    """Targets of disks below whose images libvirt would look for others than those that are there."""
    stale: set[str] = set()
    sources = {disk.target: disk.source for disk in disks_of(definition_xml)}
    for target, (written, ended) in written_chains(definition_xml).items():
        source = sources.get(target)
        if source is None or source not in images:
            continue
        real = [image.path for image in chain_below(source, images)]
        if list(written) != real[: len(written)] or (ended and len(written) != len(real)):
            stale.add(target)
    return stale


def found_snapshots(tree: SnapshotTree) -> tuple[FoundSnapshot, ...]:
    """The tree's lines, parents before children."""
    lines: list[FoundSnapshot] = []
    for root in tree.roots():
        for snapshot in (root, *tree.descendants(root.name)):
            lines.append(
                FoundSnapshot(
                    snapshot.name,
                    snapshot.parent,
                    snapshot.state.value,
                    _kind(snapshot),
                    snapshot.name == tree.current,
                )
            )
    return tuple(lines)


def _kind(snapshot: Snapshot) -> str:
    places = {disk.location for disk in snapshot.disks} | {snapshot.memory}
    places &= {Location.INTERNAL, Location.EXTERNAL}
    word = "mixed" if len(places) > 1 else next((place.value for place in places), "manual")
    return f"{word}, with memory" if snapshot.full_system else word
