"""Decide how disks are made independent of what they stand on: the active image takes in the layers below it.

Only the active image's file is written, and its content stays the same, so everything but the final note in
the store is preparation and can be given up. Not so where a layer goes that only the active image leads to:
nothing would name it once that image stands elsewhere, so the decision is declared first, and the rest is
finished even after a crash. Layers that snapshots name are content of theirs: the merge ends above the first
of them, and a disk that stands directly on one is refused, unless a copy is asked for: then the active image
takes in all there is, and the snapshots keep their layers as they are. What nothing names afterwards follows
the rule of `plan.images`; the user's own images stay, out of use.
"""

from __future__ import annotations

from dataclasses import replace

from virtsnap.formats.domain_xml import DomainDefinition, DomainDisk
from virtsnap.model.errors import (
    ConfigUnsupported,
    InvalidArg,
    OperationInvalid,
    OperationUnsupported,
)
from virtsnap.model.facts import DomainFacts, ImageFacts
from virtsnap.model.frozen import dataclass
from virtsnap.model.steps import Declare, MergeImages, Plan, RemoveFile, StoreWrite
from virtsnap.plan.delete import check_held, check_space
from virtsnap.plan.images import Collapse, ImageGraph, check_chain, definition_images, frozen_images


@dataclass(frozen=True)
class FlattenRequest:
    """Flatten these disks; all that can be if none is named. `copy`: also what snapshots need."""

    targets: tuple[str, ...] = ()
    copy: bool = False


def plan_flatten(facts: DomainFacts, request: FlattenRequest) -> Plan:
    """The steps that shorten the chains. Raises Refused and its kinds."""
    if facts.jobs:
        raise OperationUnsupported("cannot flatten disks while there is another active block job")
    needed = _needed(facts)
    merges: list[MergeImages] = []
    for disk in _chosen(facts, request):
        merge = _merge(facts, disk, needed, request.copy, len(merges))
        if merge is not None:
            merges.append(merge)
    if not merges:
        raise OperationInvalid("no disk stands on other images")
    for merge in merges:
        check_held(facts, merge)
    collapse = _collapse(facts, merges)
    check_space(facts, collapse)
    subject = ", ".join(merge.target for merge in merges)
    write = StoreWrite(
        record=replace(facts.record, live_xml=_live_without(facts, merges)),
        delete_images=tuple(dict.fromkeys(collapse.disowned)),
    )
    if not collapse.removes:
        return Plan("flatten", subject, prepare=tuple(merges), commit=write)
    removes = (RemoveFile(path) for path in collapse.removes)
    return Plan("flatten", subject, commit=Declare(), finish=(*merges, write, *removes))


def _needed(facts: DomainFacts) -> dict[str, list[str]]:
    """By image, the snapshots whose content it holds."""
    found: dict[str, list[str]] = {}
    for snapshot in facts.tree:
        for path in frozen_images(snapshot).values():
            found.setdefault(path, []).append(snapshot.name)
    return found


def _chosen(facts: DomainFacts, request: FlattenRequest) -> list[DomainDisk]:
    definition = DomainDefinition.parse(facts.record.live_xml or facts.record.config_xml)
    if not request.targets:
        return [disk for disk in definition.disks if not disk.readonly and _chain(facts, disk)]
    disks = []
    for target in dict.fromkeys(request.targets):
        disk = definition.disk(target)
        if disk is None:
            raise InvalidArg(f"disk '{target}' not found in domain")
        if disk.empty:
            raise InvalidArg(f"disk '{target}' does not currently have a source assigned")
        if disk.source is None:
            raise ConfigUnsupported(f"disk '{target}' of type '{disk.type}' cannot be flattened")
        if disk.readonly:
            raise OperationInvalid(f"disk '{target}' is read-only")
        if not _chain(facts, disk)[1:]:
            raise OperationInvalid(f"disk '{target}' does not stand on another image")
        disks.append(disk)
    return disks


def _chain(facts: DomainFacts, disk: DomainDisk) -> tuple[ImageFacts, ...]:
    """The disk's layers, top first. Raises SystemRefused when one is missing or broken."""
    if disk.source is None:
        return ()
    check_chain(facts, disk.source)
    return facts.chain(disk.source)


def _merge(
    facts: DomainFacts,
    disk: DomainDisk,
    needed: dict[str, list[str]],
    copy: bool,
    number: int,
) -> MergeImages | None:
    """What the disk's image takes in; None for one of all disks that has nothing to take in."""
    top, *under = _chain(facts, disk)
    run = []
    for image in under:
        if image.path in needed and not copy:
            break
        run.append(image)
    if not run:
        if not under:
            return None  # one of all
        names = ", ".join(f"'{name}'" for name in needed[under[0].path])
        raise OperationUnsupported(
            f"disk '{disk.target}' stands on '{under[0].path}', which is needed by snapshot {names}; "
            "a copy would leave it to them"
        )
    if top.tags:
        raise OperationUnsupported(
            f"'{top.path}' of disk '{disk.target}' holds internal snapshot '{top.tags[0].name}', which needs "
            "what is below"
        )
    below = under[len(run)] if len(run) < len(under) else None
    return MergeImages(
        target=disk.target,
        top=top.path,
        top_format=top.format,
        base=run[-1].path,
        base_format=run[-1].format,
        down=False,
        below=below.path if below is not None else None,
        below_format=below.format if below is not None else None,
        job=f"virtsnap-flatten-{disk.target}-{number}",
        bytes=min(sum(image.actual_size for image in run), top.virtual_size),
    )


def _taken_in(facts: DomainFacts, merge: MergeImages) -> list[str]:
    """The layers that a merge makes needless for its disk, from the top."""
    under = [image.path for image in facts.chain(merge.top)[1:]]
    return under[: under.index(merge.base) + 1]


def _collapse(facts: DomainFacts, merges: list[MergeImages]) -> Collapse:
    """What becomes of the layers that were taken in. Merging others is left to a later delete."""
    named = definition_images(facts.record.config_xml, facts.record.live_xml)
    named |= dict.fromkeys(_needed(facts), "")
    graph = ImageGraph(facts, named)
    for merge in merges:
        graph.images[merge.top] = replace(
            graph.images[merge.top], backing=merge.below, backing_format=merge.below_format
        )
    collapse = graph.collapse("", {}, merge=False)
    return replace(collapse, merges=list(merges))


def _live_without(facts: DomainFacts, merges: list[MergeImages]) -> str | None:
    """The live definition without the layers that were taken in."""
    if facts.record.live_xml is None:
        return None
    definition = DomainDefinition.parse(facts.record.live_xml)
    for merge in merges:
        for path in _taken_in(facts, merge):
            definition = definition.without_layer(merge.target, path)
    return definition.to_xml()
