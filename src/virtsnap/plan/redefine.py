"""Take back a snapshot's record that somebody kept: `snapshot-create --redefine`.

Touches metadata, and copies of UEFI variables and TPM states, only; whether the images hold what the record
says is not asked, as in libvirt. The rules and their words are libvirt's (virDomainSnapshotRedefinePrep,
11.3).
"""

from __future__ import annotations

from dataclasses import replace

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.abi_words import check_words
from virtsnap.model.errors import InternalRefused, InvalidArg, OperationUnsupported
from virtsnap.model.facts import DomainFacts, ImageRole
from virtsnap.model.flags import SnapshotCreate as Flag
from virtsnap.model.snapshot import Location, Snapshot, SnapshotState, SnapshotTree
from virtsnap.model.steps import Plan, StoreWrite
from virtsnap.plan.align import IsRegular, align
from virtsnap.plan.create import check_name
from virtsnap.plan.images import frozen_images
from virtsnap.plan.nvram import kept, taken_back

_ONLINE = (SnapshotState.RUNNING, SnapshotState.PAUSED)


def paths_of(given: Snapshot, root: str) -> tuple[str, ...]:
    """The paths that `plan_redefine` needs the facts of. `root`: of all that is ours."""
    if given.domain_xml is None:
        return ()
    return tuple(one.copy for one in kept(given.domain_xml, given.name, root))


def plan_redefine(facts: DomainFacts, given: Snapshot, flags: Flag, is_regular: IsRegular) -> Plan:
    """One transaction that puts the record in place, with copies of what it kept. Raises InvalidArg."""
    tree, name = facts.tree, given.name
    check_name(name)
    if given.state is SnapshotState.BLOCKED:
        raise InternalRefused("Invalid domain state blocked")
    _check_parent(tree, given)
    if flags & Flag.DISK_ONLY and given.state is not SnapshotState.DISK_SNAPSHOT:
        raise InvalidArg(f"disk-only flag for snapshot {name} requires disk-snapshot state")
    _check_domain(facts, given)
    if name in tree:
        given = _replacing(tree[name], given)
    record = aligned(given, is_regular)
    for job in facts.block_jobs:
        if job.writes is not None and job.writes in frozen_images(record).values():
            raise OperationUnsupported(
                f"'{job.writes}' is being changed by an active block job of disk '{job.target}'"
            )
    puts = [record]
    current = tree.current
    if flags & Flag.CURRENT:
        if current is not None and current != name and tree[current].revert_disks:
            puts.append(replace(tree[current], revert_disks=()))
        current = name
    copies, copied = taken_back(facts, record)
    return Plan(
        operation="redefine",
        subject=name,
        prepare=copies,
        commit=StoreWrite(
            put_snapshots=tuple(puts),
            set_current=current != tree.current,
            current=current,
            put_images=(*_images(facts, record), *((path, ImageRole.NVRAM) for path in copied)),
        ),
    )


def _check_parent(tree: SnapshotTree, given: Snapshot) -> None:
    name, parent = given.name, given.parent
    if parent is None:
        return
    if parent == name:
        raise InvalidArg(f"cannot set moment {name} as its own parent")
    if parent not in tree:
        raise InvalidArg(f"parent {parent} for moment {name} not found")
    if any(ancestor.name == name for ancestor in tree.ancestors(parent)):
        raise InvalidArg(f"parent {parent} would create cycle to {name}")


def _check_domain(facts: DomainFacts, given: Snapshot) -> None:
    if given.domain_xml is None:
        return
    uuid = DomainDefinition.parse(given.domain_xml).uuid
    if uuid != facts.record.uuid:
        raise InvalidArg(f"definition for snapshot {given.name} must use uuid {facts.record.uuid}")


def _replacing(old: Snapshot, given: Snapshot) -> Snapshot:
    name = given.name
    if (old.state in _ONLINE) != (given.state in _ONLINE):
        raise InvalidArg(f"cannot change between online and offline snapshot state in snapshot {name}")
    if old.disk_only != given.disk_only:
        raise InvalidArg(f"cannot change between disk only and full system in snapshot {name}")
    if given.domain_xml is None:
        return replace(given, domain_xml=old.domain_xml)
    if old.domain_xml is not None:
        check_words(DomainDefinition.parse(old.domain_xml), DomainDefinition.parse(given.domain_xml))
    return given


def aligned(given: Snapshot, is_regular: IsRegular) -> Snapshot:
    """A record with an entry for each disk of its machine. Raises InternalRefused, ConfigUnsupported."""
    if given.domain_xml is None:
        raise InternalRefused("missing domain in snapshot")
    default = Location.EXTERNAL if given.disk_only or given.external else Location.INTERNAL
    disks = align(
        given,
        DomainDefinition.parse(given.domain_xml),
        default,
        is_regular,
        record=default is Location.INTERNAL,
    )
    return replace(given, disks=disks)


def _images(facts: DomainFacts, snapshot: Snapshot) -> list[tuple[str, ImageRole]]:
    """The files that become part of the tree.

    A frozen image is an overlay of ours if an ancestor made it, else the user's origin; the snapshot's own
    overlay is ours, if it is there. What records in the tree name is as it was: an image of theirs that is
    not ours was given up (--metadata, --no-metadata), and carries files that we do not know.
    """
    known = {path for other in facts.tree for path in _named(other) if _is_there(facts, path)}
    images: list[tuple[str, ImageRole]] = []
    covered = {
        disk.name
        for ancestor in _ancestors(facts.tree, snapshot)
        for disk in ancestor.disks
        if disk.location is Location.EXTERNAL
    }
    for target, path in frozen_images(snapshot).items():
        entry = snapshot.disk(target)
        if path in facts.owned or path in known:
            continue
        if entry is not None and entry.location is Location.EXTERNAL:
            images.append((path, ImageRole.OVERLAY if target in covered else ImageRole.ORIGIN))
    for disk in (*snapshot.disks, *snapshot.revert_disks):
        if disk.location is not Location.EXTERNAL or disk.path is None or disk.path in facts.owned:
            continue
        # A leaf names an overlay that a later revert has deleted; its name is free for others.
        if disk.path not in known and _is_there(facts, disk.path):
            images.append((disk.path, ImageRole.OVERLAY))
    if snapshot.memory is Location.EXTERNAL and snapshot.memory_file is not None:
        images.append((snapshot.memory_file, ImageRole.MEMORY))
    return images


def _is_there(facts: DomainFacts, path: str) -> bool:
    """Among the images that are known."""
    return path in facts.images and not facts.images[path].missing


def _named(snapshot: Snapshot) -> set[str]:
    """The images that a record is about."""
    own = {disk.path for disk in (*snapshot.disks, *snapshot.revert_disks) if disk.path is not None}
    return own | set(frozen_images(snapshot).values())


def _ancestors(tree: SnapshotTree, snapshot: Snapshot) -> list[Snapshot]:
    if snapshot.parent is None or snapshot.parent not in tree:
        return []
    return [tree[snapshot.parent], *tree.ancestors(snapshot.parent)]
