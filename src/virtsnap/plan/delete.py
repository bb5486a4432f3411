"""Decide how snapshots are deleted: any node of any tree, alone or with its descendants.

Deleting a snapshot loses that point in time and nothing else: the running state, the other snapshots and
the branches stay whole. The images then follow the rule of `plan.images`. Merges upwards change no
content, so they are preparation and can be given up; a merge downwards overwrites the frozen content, so
the decision is declared first and the merge is finished even after a crash.
libvirt 11.3 refuses several children, inner nodes off the active branch, --children on external
snapshots; none of that is impossible (docs/differences.md).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import replace

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.domain import DomainRecord
from virtsnap.model.errors import OperationFailed, OperationUnsupported, SystemRefused
from virtsnap.model.facts import DomainFacts
from virtsnap.model.flags import SnapshotDelete as Flag
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk, SnapshotTree
from virtsnap.model.steps import Declare, MergeImages, Plan, RemoveFile, Step, StoreWrite
from virtsnap.plan.describe import mib
from virtsnap.plan.images import (
    SPARE,
    Collapse,
    ImageGraph,
    check_chain,
    definition_images,
    disks_of,
    frozen_by,
    frozen_images,
    growth,
)
from virtsnap.plan.internal import delete_tags
from virtsnap.plan.nvram import forget_nvram
from virtsnap.plan.requests import DeleteRequest, exclusive, known_flags


def check_flags(flags: int) -> Flag:
    """The flag rules, in libvirt's order. Raises BareInvalidArg."""
    pre = "VIR_DOMAIN_SNAPSHOT_DELETE_"
    exclusive(flags, Flag.CHILDREN, pre + "CHILDREN", Flag.CHILDREN_ONLY, pre + "CHILDREN_ONLY")
    known_flags(flags, Flag, "qemuDomainSnapshotDelete")
    return Flag(flags)


def plan_delete(facts: DomainFacts, request: DeleteRequest) -> Plan:
    """The steps that forget the snapshots. Raises Refused and its kinds."""
    tree, name = facts.tree, request.name
    tree.lookup(name)
    doomed = _doomed(tree, request)
    gone = {snapshot.name for snapshot in doomed}
    left = _reparented(tree, gone)
    current = _current_after(tree, gone)
    if request.flags & Flag.METADATA_ONLY:
        return Plan(
            operation="delete",
            subject=name,
            commit=_write(None, tree, left, gone, current, Collapse(), _given_up(facts, doomed, left)),
        )
    _check(facts, doomed)
    collapse = _collapse(facts, doomed, left)
    for merge in collapse.merges:
        check_chain(facts, merge.top)
        check_held(facts, merge)
    _check_sizes(facts, collapse)
    check_space(facts, collapse)
    return _plan(facts, name, doomed, left, gone, current, collapse)


def _doomed(tree: SnapshotTree, request: DeleteRequest) -> list[Snapshot]:
    below = tree.descendants(request.name)
    if request.flags & Flag.CHILDREN_ONLY:
        return below
    if request.flags & Flag.CHILDREN:
        return [tree[request.name], *below]
    return [tree[request.name]]


def _reparented(tree: SnapshotTree, gone: set[str]) -> dict[str, Snapshot]:
    """What is left, hung under the nearest ancestor that is left."""
    left: dict[str, Snapshot] = {}
    for snapshot in tree:
        if snapshot.name in gone:
            continue
        parent = snapshot.parent
        while parent in gone:
            parent = tree[parent].parent
        left[snapshot.name] = replace(snapshot, parent=parent)
    return left


def _current_after(tree: SnapshotTree, gone: set[str]) -> str | None:
    current = tree.current
    while current in gone:
        current = tree[current].parent
    return current


def _check(facts: DomainFacts, doomed: list[Snapshot]) -> None:
    if facts.jobs and any(snapshot.external for snapshot in doomed):
        raise OperationUnsupported("cannot delete external snapshots when there is another active block job")


def _collapse(facts: DomainFacts, doomed: list[Snapshot], left: dict[str, Snapshot]) -> Collapse:
    named: dict[str, str] = definition_images(facts.record.config_xml, facts.record.live_xml)
    for snapshot in left.values():
        named |= {path: target for target, path in frozen_images(snapshot).items()}
    targets = dict(named)
    for snapshot in doomed:
        targets |= {path: target for target, path in frozen_images(snapshot).items()}
    gone = {snapshot.name for snapshot in doomed}
    return ImageGraph(facts, named, untagged=gone).collapse("virtsnap-delete", targets)


def check_held(facts: DomainFacts, merge: MergeImages) -> None:
    """A merge that cannot open its images would leave work to finish."""
    for image in facts.chain(merge.top):
        if image.path in facts.held:
            raise OperationFailed(
                f"cannot merge '{merge.top}' and '{merge.base}': Failed to get \"write\" lock\n"
                f"Is another process using the image [{image.path}]?"
            )
        if image.path == merge.base:
            return


def _check_sizes(facts: DomainFacts, collapse: Collapse) -> None:
    """A file grows with what is merged into it; a volume of a fixed size does not."""
    for merge in collapse.merges:
        base, top = facts.images[merge.base], facts.images[merge.top]
        if merge.down and base.block_device and base.virtual_size < top.virtual_size:
            raise SystemRefused(
                f"cannot merge '{merge.top}' into block device '{merge.base}', which is smaller: "
                "No space left on device"
            )


def check_space(facts: DomainFacts, collapse: Collapse) -> None:
    """A merge that runs out of space half way leaves work to finish; better to refuse first."""
    needed: dict[str, int] = {}
    for merge in collapse.merges:
        written = facts.images[merge.base if merge.down else merge.top]
        if written.block_device:
            continue
        folder = posixpath.dirname(written.path)
        size = growth(written, facts.images[merge.top].virtual_size, merge.bytes)
        needed[folder] = needed.get(folder, 0) + size
    for folder, size in needed.items():
        free = facts.free.get(folder)
        if free is not None and free < size + SPARE:
            raise SystemRefused(
                f"cannot merge images in '{folder}': {mib(size)} may be needed and {mib(free)} are free: "
                "No space left on device"
            )


def _memory_files(facts: DomainFacts, doomed: list[Snapshot], left: Iterable[Snapshot]) -> list[str]:
    """Memory images of the deleted ones that nobody else names."""
    kept = {snapshot.memory_file for snapshot in left}
    return [
        snapshot.memory_file
        for snapshot in doomed
        if snapshot.memory is Location.EXTERNAL
        and snapshot.memory_file is not None
        and snapshot.memory_file not in kept
        and snapshot.memory_file not in facts.named_elsewhere
    ]


def _plan(
    facts: DomainFacts,
    name: str,
    doomed: list[Snapshot],
    left: dict[str, Snapshot],
    gone: set[str],
    current: str | None,
    collapse: Collapse,
) -> Plan:
    memory = _memory_files(facts, doomed, left.values())
    up: list[Step] = [merge for merge in collapse.merges if not merge.down]
    down: list[Step] = [merge for merge in collapse.merges if merge.down]
    record = _moved_record(facts.record, collapse) if collapse.renames or collapse.absorbed else None
    disowned = [*collapse.disowned, *(p for p in memory if p in facts.owned)]
    disowned += [step.path for step in forget_nvram(facts, doomed)]
    write = _write(record, facts.tree, left, gone, current, collapse, disowned)
    copies = forget_nvram(facts, doomed)
    removes: list[Step] = [*(RemoveFile(path) for path in [*collapse.removes, *memory]), *copies]
    tags = delete_tags(facts, doomed)
    if not down and not (tags and up) and not _lost_if_given_up(facts, collapse):
        return Plan("delete", name, prepare=tuple(up), commit=write, finish=(*tags, *removes))
    if up:
        # A later merge may build on an earlier one: keep their order, all after the decision.
        down = list(collapse.merges)
    return Plan(
        "delete",
        name,
        commit=Declare(),
        finish=(*tags, *down, *collapse.relinks, write, *removes),
    )


def _lost_if_given_up(facts: DomainFacts, collapse: Collapse) -> bool:
    """Whether a layer that no snapshot names is taken in: after a failure nothing would lead to it."""
    return not frozen_by(facts.tree).issuperset(collapse.absorbed)


def _write(
    record: DomainRecord | None,
    tree: SnapshotTree,
    left: dict[str, Snapshot],
    gone: set[str],
    current: str | None,
    collapse: Collapse,
    disowned: Iterable[str],
) -> StoreWrite:
    moved = {name: _moved_snapshot(snapshot, collapse) for name, snapshot in left.items()}
    moved = _inherit_overlays(tree, moved, gone)
    return StoreWrite(
        record=record,
        put_snapshots=tuple(s for s in moved.values() if s != tree[s.name]),
        delete_snapshots=tuple(sorted(gone)),
        set_current=True,
        current=current,
        delete_images=tuple(dict.fromkeys(disowned)),
    )


def _inherit_overlays(tree: SnapshotTree, left: dict[str, Snapshot], gone: set[str]) -> dict[str, Snapshot]:
    """libvirt: when the current snapshot goes, its parent's branch overlays become its own disks."""
    current = tree.current
    if current is None or current not in gone:
        return left
    heir = _current_after(tree, gone)
    if heir is None or not left[heir].revert_disks:
        return left
    branch = {disk.name: disk for disk in left[heir].revert_disks}
    disks = tuple(branch.get(disk.name, disk) for disk in left[heir].disks)
    return {**left, heir: replace(left[heir], disks=disks, revert_disks=())}


def _moved_record(record: DomainRecord, collapse: Collapse) -> DomainRecord:
    return replace(
        record,
        config_xml=_moved_xml(record.config_xml, collapse) or record.config_xml,
        live_xml=_moved_live(record.live_xml, collapse),
    )


def _moved_live(xml: str | None, collapse: Collapse) -> str | None:
    """The live definition without the layers that were merged into others."""
    if xml is None:
        return None
    definition = DomainDefinition.parse(xml)
    for disk in definition.disks:
        for path in (*collapse.renames, *collapse.absorbed):
            definition = definition.without_layer(disk.target, path)
        # A chain that was noted in part, or long ago, does not lead to the right image: its name does.
        moved = collapse.renamed(disk.source or "")
        left = definition.disk(disk.target)
        now = moved[0] if moved is not None else disk.source
        if left is None or left.source == now:
            continue
        format, kind = (
            (moved[1], collapse.type_of(moved[0])) if moved is not None else (disk.format, disk.type)
        )
        definition = definition.with_disk_source(disk.target, now, format, kind)
    return definition.to_xml()


def _moved_xml(xml: str | None, collapse: Collapse) -> str | None:
    """The definition with every merged image under its new name."""
    if xml is None or not any(disk.source in collapse.renames for disk in disks_of(xml)):
        return xml
    definition = DomainDefinition.parse(xml)
    for disk in definition.disks:
        moved = collapse.renamed(disk.source or "")
        if moved is not None:
            definition = definition.with_disk_source(
                disk.target, moved[0], moved[1], collapse.type_of(moved[0])
            )
    return definition.to_xml()


def _moved_snapshot(snapshot: Snapshot, collapse: Collapse) -> Snapshot:
    return replace(
        snapshot,
        disks=tuple(_moved_disk(disk, collapse) for disk in snapshot.disks),
        revert_disks=tuple(_moved_disk(disk, collapse) for disk in snapshot.revert_disks),
        domain_xml=_moved_xml(snapshot.domain_xml, collapse),
        inactive_domain_xml=_moved_xml(snapshot.inactive_domain_xml, collapse),
    )


def _moved_disk(disk: SnapshotDisk, collapse: Collapse) -> SnapshotDisk:
    moved = collapse.layer(disk.path or "")
    if moved is None:
        return disk
    return replace(disk, type=collapse.type_of(moved[0]), path=moved[0], format=moved[1])


def _given_up(facts: DomainFacts, doomed: list[Snapshot], left: dict[str, Snapshot]) -> list[str]:
    """--metadata: the files stay, and are the user's from now on, with all that they stand on.

    Nothing would tell a later delete of them, so it must not merge into what is below them.
    """
    if not left:
        return list(facts.owned)
    # An internal snapshot in the same image does not keep the image as it is.
    whole = (Location.EXTERNAL, Location.MANUAL)
    kept = {path for snapshot in left.values() for path in frozen_images(snapshot, *whole).values()}
    kept |= {s.memory_file for s in left.values() if s.memory_file is not None}
    files = frozen_by(doomed) - kept
    memory = {s.memory_file for s in doomed if s.memory_file is not None} - kept
    standing = {image.path for path in files for image in facts.chain(path)}
    copies = {step.path for step in forget_nvram(facts, doomed)}
    return sorted((standing | memory | copies) & set(facts.owned))


__all__ = ["MergeImages", "check_flags", "plan_delete"]
