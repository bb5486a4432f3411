"""Decide whether a domain can be given back to libvirt, and what is written into its folders.

libvirt reads the documents as they are and asks no question: what it would list and then ruin, or could not
read, is refused here by name. What it can live with and does not know is said. Nothing is written over that
belongs to another domain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.formats.libvirt_files import (
    definition_file,
    named_images,
    snapshot_file,
    without_chains,
    written_chains,
)
from virtsnap.formats.save_image import SaveFormat
from virtsnap.model.errors import VirtsnapError
from virtsnap.model.facts import DomainFacts, ImageRole
from virtsnap.model.frozen import dataclass
from virtsnap.model.libvirt import Document, FoundFile, LibvirtFiles, LibvirtReport, MemoryImage
from virtsnap.model.snapshot import Location, Snapshot, SnapshotState
from virtsnap.plan.create import check_name
from virtsnap.plan.images import definition_images, disks_of, frozen_by, frozen_images
from virtsnap.plan.libvirt_tree import check_domain_name, found_snapshots, stale_chains
from virtsnap.plan.nvram import nvram_paths

_NAME_BYTES = 255
"""Longest file name."""
_DEEPEST = 200
"""Images in a chain, at most (VIR_STORAGE_MAX_CHAIN)."""
_JOB_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
"""What QEMU allows in a job's name, into which libvirt puts the snapshot's."""


@dataclass(frozen=True)
class Handback:
    """What is to be written. `documents`: file name to text."""

    definition: str
    documents: tuple[tuple[str, str], ...]
    save: bool
    """Whether the managed save goes along."""
    autostart: bool


def plan_handback(
    facts: DomainFacts,
    there: LibvirtFiles,
    *,
    memory: Mapping[str, MemoryImage],
    nvram_tags: Mapping[str, frozenset[str]],
    saved_there: MemoryImage | None,
    misfit: str | None,
) -> tuple[LibvirtReport, Handback | None]:
    """What is written, or None with every reason in the report.

    `there`: what libvirt's folders hold under the domain's name now. `memory`: the heads of the snapshots'
    memory files. `nvram_tags`: internal snapshots in UEFI variable stores that are qcow2. `saved_there`: the
    managed save among it. `misfit`: why our managed save may not be resumed.
    """
    record, tree = facts.record, facts.tree
    problems = list(_names(facts))
    if record.active:
        problems.append("domain is running: shut it off first")
    if DomainDefinition.parse(record.config_xml).tpm is not None:
        problems.append("giving the state of a TPM back is not supported")
    problems += _occupied(facts, there, saved_there)
    if misfit is not None:
        problems.append(misfit)
    notes: list[str] = []
    for snapshot in tree:
        problems += _inexpressible(snapshot)
        notes += _said(facts, snapshot)
        notes += _variables(facts, snapshot, nvram_tags)
        notes += _unloadable(snapshot, memory)
    notes += _shared(facts)
    notes += _deep(facts)
    notes += [
        f"image '{path}' is not there, or cannot be read"
        for path, image in sorted(facts.images.items())
        if image.missing
    ]
    if saved_there is not None and not facts.managed_save:
        notes.append(
            f"libvirt's managed save '{there.places.save(record.name)}' is removed: the domain has none now"
        )
    report = LibvirtReport(
        name=record.name,
        uuid=record.uuid,
        definition=there.places.definition(record.name),
        snapshots=found_snapshots(tree),
        files=tuple(_files(facts, there, memory)),
        notes=tuple(notes),
        problems=tuple(problems),
    )
    if problems:
        return report, None
    return report, Handback(
        definition=definition_file(record.name, record.uuid, _true_chains(facts, record.config_xml)),
        documents=tuple(
            (
                f"{snapshot.name}.xml",
                snapshot_file(_written(facts, snapshot), record.uuid, current=snapshot.name == tree.current),
            )
            for snapshot in tree
        ),
        save=bool(facts.managed_save),
        autostart=record.autostart,
    )


def _written(facts: DomainFacts, snapshot: Snapshot) -> Snapshot:
    """As libvirt may read it."""

    def of(xml: str | None) -> str | None:
        if xml is None:
            return None
        definition = DomainDefinition.parse(xml)
        if definition.name != facts.record.name:
            # libvirt would make it the domain's name when it goes back, and lose the domain.
            xml = definition.with_name(facts.record.name).to_xml()
        return _true_chains(facts, xml)

    return replace(
        snapshot, domain_xml=of(snapshot.domain_xml), inactive_domain_xml=of(snapshot.inactive_domain_xml)
    )


def _true_chains(facts: DomainFacts, xml: str) -> str:
    """Without what was written of images below others, unless it holds still: libvirt would believe it."""
    images = {path: image for path, image in facts.images.items() if not image.missing}
    stale = stale_chains(xml, images)
    sources = {disk.target: disk.source for disk in disks_of(xml)}
    stale |= {target for target in written_chains(xml) if sources.get(target) not in images}
    return without_chains(xml, stale) if stale else xml


def _names(facts: DomainFacts) -> Iterator[str]:
    bad = check_domain_name(facts.record.name)
    if bad is not None:
        yield bad
    elif len(f"{facts.record.name}.save".encode()) > _NAME_BYTES:
        yield f"the domain's name is too long for a file: {facts.record.name}"
    for snapshot in facts.tree:
        try:
            check_name(snapshot.name)
        except VirtsnapError as error:
            yield str(error)
        if len(f"{snapshot.name}.xml".encode("utf-8", "surrogateescape")) > _NAME_BYTES:
            yield f"the name of snapshot '{snapshot.name}' is too long for a file"
        if snapshot.parent is not None and snapshot.parent not in facts.tree:
            yield f"snapshot '{snapshot.name}': its parent '{snapshot.parent}' is not there"


def _occupied(facts: DomainFacts, there: LibvirtFiles, saved: MemoryImage | None) -> Iterator[str]:
    """Files of another domain in the way."""
    record = facts.record
    if there.active_pid is not None:
        yield f"libvirt runs a domain '{record.name}' now (process {there.active_pid})"
    inside = [there.definition] if there.definition is not None else []
    for document in (*inside, *there.snapshots):
        owner = _owner(document)
        if owner is None:
            yield f"'{document.path}' is in the way: it cannot be told whose it is"
        elif owner != record.uuid:
            yield f"'{document.path}' is in the way: it is of the domain with uuid {owner}"
    if saved is not None and saved.uuid != record.uuid:
        what = saved.problem or f"it is of the domain with uuid {saved.uuid}"
        yield f"'{there.places.save(record.name)}' is in the way: {what}"
    for document in there.others:
        if "<domainsnapshot" not in document.text and _owner(document) == record.uuid:
            yield f"'{document.path}' defines a domain with the same uuid"


def _owner(document: Document) -> str | None:
    """The uuid of the domain that a document is of."""
    if document.problem is not None:
        return None
    try:
        return named_images(document.text)[0]
    except VirtsnapError:
        return None


def _inexpressible(snapshot: Snapshot) -> Iterator[str]:
    """What libvirt would read and bring back wrong."""
    places = {disk.location for disk in snapshot.disks} | {snapshot.memory}
    if {Location.INTERNAL, Location.EXTERNAL} <= places:
        yield (
            f"snapshot '{snapshot.name}' is internal and external at once, which libvirt would go back to "
            "wrongly: delete it first (snapshot-delete)"
        )
    if snapshot.domain_xml is None:
        yield f"snapshot '{snapshot.name}' does not say what the machine was"


def _said(facts: DomainFacts, snapshot: Snapshot) -> Iterator[str]:
    """What libvirt does otherwise, snapshot by snapshot."""
    name = snapshot.name
    if snapshot.state is SnapshotState.PMSUSPENDED:
        yield f"snapshot '{name}' is of a guest that slept: libvirt lists it, and refuses to go back to it"
    internal = frozen_images(snapshot, Location.INTERNAL)
    if internal and any(
        entry.location is Location.NO and DomainDefinition.parse(snapshot.domain_xml or "").disk(entry.name)
        for entry in snapshot.disks
        if _writable(snapshot, entry.name)
    ):
        yield f"snapshot '{name}' is internal and leaves disks out: libvirt may refuse to go back to it"
    if internal and snapshot.full_system and set(name) - _JOB_NAME:
        yield f"snapshot '{name}': QEMU does not take its name as a job's, so libvirt cannot delete it"
    for path in internal.values():
        above = sorted(
            other.name
            for other in facts.tree
            if other.name != name and path in frozen_images(other, Location.EXTERNAL).values()
        )
        if above:
            yield (
                f"snapshot '{name}': going back to it, libvirt overwrites '{path}', which is the content of "
                f"{', '.join(repr(one) for one in above)}"
            )


def _variables(facts: DomainFacts, snapshot: Snapshot, tags: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """libvirt keeps UEFI variables of internal snapshots only, inside of a store that is qcow2."""
    paths = nvram_paths(snapshot.domain_xml or facts.record.config_xml, snapshot.name)
    if not paths or (snapshot.external and snapshot.full_system):
        return
    path, copy = paths
    if snapshot.name in tags.get(path, ()) and not snapshot.external:
        return
    if not snapshot.external and path in tags:
        yield (
            f"snapshot '{snapshot.name}': '{path}' has no internal snapshot of that name, without which "
            "libvirt does not go back to it"
        )
    elif facts.owned.get(copy) is ImageRole.NVRAM:
        yield f"UEFI variables of snapshot '{snapshot.name}' ('{copy}'): libvirt does not bring them back"


def _writable(snapshot: Snapshot, target: str) -> bool:
    disk = DomainDefinition.parse(snapshot.domain_xml or "").disk(target)
    return disk is not None and disk.source is not None and not disk.readonly


def _unloadable(snapshot: Snapshot, memory: Mapping[str, MemoryImage]) -> Iterator[str]:
    """Memory that libvirt's revert does not read, though its restore may."""
    image = memory.get(snapshot.memory_file or "")
    if image is None:
        return
    if image.problem is not None:
        yield f"snapshot '{snapshot.name}': memory file '{snapshot.memory_file}': {image.problem}"
    elif image.format == SaveFormat.SPARSE.name.lower():
        yield (
            f"snapshot '{snapshot.name}': its memory was written here, in the format 'sparse', which libvirt "
            "restores and does not revert to"
        )


def _named(facts: DomainFacts) -> set[str]:
    """Images that the definition or a snapshot names."""
    return set(definition_images(facts.record.config_xml)) | frozen_by(facts.tree)


def _shared(facts: DomainFacts) -> Iterator[str]:
    """Bases that stay because several stand on them, and nothing names."""
    named = _named(facts)
    for path, role in sorted(facts.owned.items()):
        if role not in (ImageRole.OVERLAY, ImageRole.ORIGIN) or path in named or path not in facts.images:
            continue
        if facts.images[path].missing:
            continue
        above = sorted(top for top, image in facts.images.items() if image.backing == path)
        yield (
            f"image '{path}' is the base of {len(above)} others and of no snapshot: libvirt keeps it for "
            "ever, here it would be merged when one of them goes"
        )


def _deep(facts: DomainFacts) -> Iterator[str]:
    """Chains that libvirt does not follow."""
    deepest = max((len(facts.chain(path)) for path in _named(facts)), default=0)
    if deepest > _DEEPEST:
        yield (
            f"a chain of {deepest} images: libvirt starts none of more than {_DEEPEST}; "
            "flatten, or delete snapshots"
        )


def _files(facts: DomainFacts, there: LibvirtFiles, memory: Mapping[str, MemoryImage]) -> Iterator[FoundFile]:
    """What is written, then what it leads to."""
    name, places = facts.record.name, there.places
    yield FoundFile(places.definition(name), "definition", "xml", "written", 0)
    for snapshot in facts.tree:
        yield FoundFile(f"{places.snapshots(name)}/{snapshot.name}.xml", "snapshot", "xml", "written", 0)
    if facts.managed_save:
        yield FoundFile(places.save(name), "managed save", "", "written", 0)
    for path, image in sorted(facts.images.items()):
        if not image.missing:
            role = facts.owned.get(path)
            yield FoundFile(path, "image", image.format, role.value if role else "base", image.actual_size)
    for snapshot in facts.tree:
        if snapshot.memory_file is not None:
            head = memory.get(snapshot.memory_file, MemoryImage())
            yield FoundFile(snapshot.memory_file, "memory", head.format, ImageRole.MEMORY.value, head.size)
