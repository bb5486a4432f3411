"""What is kept inside qcow2 images: what it needs, and the steps that make it, bring it back and delete it.

libvirt 11.3 knows internal snapshots of all disks or none. Here each disk is on its own: memory inside one
image, some disks inside theirs and the others on overlays are one snapshot of one instant. What stays
impossible is said: an image format without internal snapshots, and memory without an image to put it in.

Going back to an internal snapshot overwrites the image. Where something stands on that image (libvirt would
ruin it), a copy goes back instead and becomes the disk of the new branch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from virtsnap.formats.domain_xml import DomainDefinition, DomainDisk
from virtsnap.model.errors import ConfigUnsupported, InternalRefused, OperationFailed, SystemRefused
from virtsnap.model.facts import DomainFacts
from virtsnap.model.frozen import dataclass
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk
from virtsnap.model.steps import ApplyTag, DeleteTag, GuardTag, LoadInternal, SaveInternal, Step, TagImage
from virtsnap.plan.align import overlay_path
from virtsnap.plan.images import ImageGraph, check_chain, definition_images, frozen_images

SAVE_JOB = "virtsnap-internal-save"
"""QEMU allows few characters in a job's name, so it does not carry the snapshot's."""
LOAD_JOB = "virtsnap-internal-load"
DELETE_JOB = "virtsnap-internal-delete"


@dataclass(frozen=True)
class InternalImage:
    """An image that takes an internal snapshot."""

    target: str
    path: str
    format: str


def with_memory_place(snapshot: Snapshot, definition: DomainDefinition) -> Snapshot:
    """Memory that no image can take goes into a file beside the first overlay's base.

    So a running domain on raw disks, which libvirt refuses by default, gets an external snapshot.
    """
    if snapshot.memory is not Location.INTERNAL:
        return snapshot
    locations = [entry.location for entry in snapshot.disks]
    if Location.INTERNAL in locations or Location.EXTERNAL not in locations:
        return snapshot
    first = next(
        disk
        for disk, entry in zip(definition.disks, snapshot.disks, strict=True)
        if entry.location is Location.EXTERNAL
    )
    if first.source is None:
        return snapshot
    path = overlay_path(first.source, f"{snapshot.name}.mem")
    return replace(snapshot, memory=Location.EXTERNAL, memory_file=path)


def check_internal(snapshot: Snapshot) -> None:
    """Refuse what has no image to be kept in. Raises ConfigUnsupported."""
    internal = any(internal_images(snapshot))
    manual = any(entry.location is Location.MANUAL for entry in snapshot.disks)
    if (snapshot.memory is Location.INTERNAL and not internal) or (internal and manual):
        raise ConfigUnsupported(
            "internal and full system snapshots require all disks to be selected for snapshot"
        )


def check_internal_disk(facts: DomainFacts, name: str, disk: DomainDisk, entry: SnapshotDisk) -> None:
    """Refuse an image that cannot take an internal snapshot. Raises ConfigUnsupported and its kin."""
    if disk.type not in ("file", "block"):
        raise InternalRefused(f"internal inactive snapshots are not supported on {disks_of_kind(disk)}")
    if disk.empty and facts.record.active:
        return  # libvirt: nothing to keep of a drive without a medium
    if disk.format != "qcow2":
        raise ConfigUnsupported(
            f"internal snapshot for disk {entry.name} unsupported for storage type {disk.format}"
        )
    if disk.source is None:
        raise ConfigUnsupported(f"disk '{entry.name}' is empty and cannot hold an internal snapshot")
    image = facts.images.get(disk.source)
    if image is None:
        raise SystemRefused(f"Cannot access storage file '{disk.source}': No such file or directory")
    if not facts.record.active or image.missing:
        check_chain(facts, image.path)
    if image.tag(name) is not None:
        if name in facts.tree:
            raise OperationFailed(f"domain moment {name} already exists")
        raise OperationFailed(f"image '{disk.source}' has an internal snapshot '{name}' already")
    if any(tag.id == name for tag in image.tags):
        raise OperationFailed(
            f"image '{disk.source}' has an internal snapshot with the number {name}, which QEMU would "
            "take for this name; choose another name"
        )


def disks_of_kind(disk: DomainDisk) -> str:
    """What a disk that is neither a file nor a block device is called in libvirt's refusals."""
    protocol = f" using '{disk.protocol}' protocol" if disk.type == "network" else ""
    return f"'{disk.type}' disks{protocol}"


def internal_images(snapshot: Snapshot) -> Iterator[InternalImage]:
    """The images that take an internal snapshot; `snapshot` has its domain definition already."""
    assert snapshot.domain_xml is not None
    disks = {disk.target: disk for disk in DomainDefinition.parse(snapshot.domain_xml).disks}
    for entry in snapshot.disks:
        source = disks[entry.name].source
        if entry.location is Location.INTERNAL and source is not None:
            yield InternalImage(entry.name, source, disks[entry.name].format)


def tag_images(snapshot: Snapshot) -> tuple[Step, ...]:
    """At rest: one step for each image."""
    return tuple(TagImage(image.path, image.format, snapshot.name) for image in internal_images(snapshot))


def guards(snapshot: Snapshot) -> tuple[Step, ...]:
    """Running: the way back from each image's tag, whoever of QEMU and us dies."""
    return tuple(
        GuardTag(image.path, image.format, snapshot.name, f"{DELETE_JOB}-{number}")
        for number, image in enumerate(internal_images(snapshot))
    )


def save_internal(snapshot: Snapshot) -> Step:
    """Running: memory into the first image, and all of them tagged."""
    targets = tuple(image.target for image in internal_images(snapshot))
    return SaveInternal(snapshot.name, SAVE_JOB, targets, targets[0])


@dataclass(frozen=True)
class TaggedImage:
    """An image that goes back to an internal snapshot, or whose copy does."""

    target: str
    path: str
    format: str
    copy: str | None

    @property
    def writes_to(self) -> str:
        """The image that the disk has afterwards."""
        return self.copy or self.path

    def apply(self, name: str) -> ApplyTag:
        """The step that takes it back."""
        return ApplyTag(self.writes_to, self.format, name)


def check_tags(facts: DomainFacts, snapshot: Snapshot) -> None:
    """Refuse to go back to what is not there. Raises OperationFailed."""
    name, memories = snapshot.name, []
    for target, path in frozen_images(snapshot, Location.INTERNAL).items():
        image = facts.images[path]
        tag = image.tag(name)
        if tag is None:
            raise OperationFailed(f"image of disk '{target}' does not have internal snapshot '{name}'")
        if tag.vm_state_size:
            memories.append(target)
        if snapshot.memory is Location.INTERNAL and any(x.id == name and x != tag for x in image.tags):
            raise OperationFailed(
                f"image '{path}' has another internal snapshot with the number {name}, which QEMU would load"
            )
    if snapshot.memory is Location.INTERNAL and not memories:
        raise OperationFailed(f"missing vmstate section when reverting active internal snapshot '{name}'")
    if snapshot.memory is Location.INTERNAL and len(memories) > 1:
        raise OperationFailed(f"two disks images contain vm state section for internal snapshot '{name}'")


def stood_on(facts: DomainFacts, snapshot: Snapshot, path: str) -> bool:
    """Whether something other than the state that is given up needs the image as it is now."""
    named: dict[str, str] = {}
    for other in facts.tree:
        frozen = frozen_images(other)
        named |= {image: target for target, image in frozen.items()}
        if other.name != snapshot.name and path in frozen_images(other, Location.EXTERNAL).values():
            return True
    given_up = definition_images(facts.record.config_xml, facts.record.live_xml)
    if path in facts.named_elsewhere or (path not in given_up and path not in facts.owned):
        # Below the active image and not ours: it was left to the user (--metadata), with what stands on it.
        return True
    graph = ImageGraph(facts, named)
    kept = [
        image
        for image in graph.children(path)
        if image in named
        or graph.children(image)
        or image not in given_up
        or image not in graph.owned
        # What holds internal snapshots that nobody here knows stays, for the user.
        or graph.images[image].tags
    ]
    return bool(kept)


def load_internal(
    facts: DomainFacts, snapshot: Snapshot, images: tuple[TaggedImage, ...], run_dir: str
) -> LoadInternal:
    """Memory and disks into a QEMU that stands still."""
    memory = next(
        image.writes_to
        for image in images
        if (tag := facts.images[image.path].tag(snapshot.name)) is not None and tag.vm_state_size
    )
    return LoadInternal(snapshot.name, LOAD_JOB, run_dir, tuple(image.writes_to for image in images), memory)


def delete_tags(facts: DomainFacts, snapshots: Iterable[Snapshot]) -> tuple[Step, ...]:
    """The steps that delete these snapshots from their images; those that are gone already are skipped."""
    steps: list[Step] = []
    for snapshot in snapshots:
        for path in frozen_images(snapshot, Location.INTERNAL).values():
            image = facts.images.get(path)
            if image is not None and image.tag(snapshot.name) is not None:
                steps.append(DeleteTag(path, image.format, snapshot.name, f"{DELETE_JOB}-{len(steps)}"))
    return tuple(steps)


def strip_copies(facts: DomainFacts, images: tuple[TaggedImage, ...]) -> tuple[DeleteTag, ...]:
    """The copies came with all internal snapshots of their originals, which nothing names there."""
    pairs = [(image, tag) for image in images if image.copy for tag in facts.images[image.path].tags]
    return tuple(
        DeleteTag(image.writes_to, image.format, tag.name, f"{DELETE_JOB}-{number}")
        for number, (image, tag) in enumerate(pairs)
    )
