"""A domain as libvirt's documents on disk tell of it: understood, completed, with the files they are about.

Whatever is wrong with the documents is collected, so that a refusal names every reason. What the files
themselves say is `plan.takeover`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import field, replace

from virtsnap.formats.domain_xml import DomainDefinition, DomainDisk
from virtsnap.formats.libvirt_files import written_chains
from virtsnap.formats.snapshot_xml import parse_saved
from virtsnap.machine.support import check_supported
from virtsnap.model.errors import VirtsnapError
from virtsnap.model.facts import ImageFacts
from virtsnap.model.frozen import dataclass
from virtsnap.model.libvirt import Document, FoundSnapshot, LibvirtFiles
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk, SnapshotTree
from virtsnap.plan.align import IsRegular
from virtsnap.plan.create import check_name
from virtsnap.plan.images import disks_of, frozen_images
from virtsnap.plan.nvram import nvram_paths
from virtsnap.plan.redefine import aligned


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
        formats = {disk.source: disk.format for disk in disks_in(snapshot)}
        for path in frozen_images(snapshot, Location.EXTERNAL, Location.INTERNAL).values():
            images.setdefault(path, formats[path])
            needed.add(path)
        for path in frozen_images(snapshot, Location.MANUAL).values():
            images.setdefault(path, formats[path])
            optional.add(path)
        for entry, path in overlays_of(snapshot):
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


def disks_in(snapshot: Snapshot) -> tuple[DomainDisk, ...]:
    return disks_of(snapshot.domain_xml) if snapshot.domain_xml is not None else ()


def overlays_of(snapshot: Snapshot) -> Iterator[tuple[SnapshotDisk, str]]:
    """What creating it, or a revert to it, put on top: entry and path."""
    for entry in (*snapshot.disks, *snapshot.revert_disks):
        if entry.location is Location.EXTERNAL and entry.path is not None:
            yield entry, entry.path


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
