"""Bring a snapshot's disk list into line with the domain's disks, as virDomainSnapshotAlignDisks does.

Afterwards there is one entry for every disk of the domain, in the domain's order, each with a location
and, if external, a path. Source of rules and texts: libvirt 11.3, snapshot_conf.c's behaviour.
"""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Callable, Collection
from dataclasses import replace

from virtsnap.formats.domain_xml import DomainDefinition, DomainDisk
from virtsnap.model.errors import ConfigUnsupported
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk

IsRegular = Callable[[str], bool]


def align(
    snapshot: Snapshot,
    definition: DomainDefinition,
    default: Location,
    is_regular: IsRegular,
    *,
    record: bool,
    ours: Collection[str] = (),
) -> tuple[SnapshotDisk, ...]:
    """The full list of disk entries.

    `is_regular` tells whether a path is an existing regular file: only then is an overlay's name derived
    from it. `record`: of an internal snapshot that was taken long ago, so that every location stands as it is
    given; without it, a disk whose format cannot hold an internal snapshot becomes external. `ours`: files of
    the domain's snapshots; a derived name that is among them gets a number. (After a merge upwards the name
    of a snapshot that is gone is still that of a file.)
    Raises ConfigUnsupported.
    """
    domain_disks = definition.disks
    if len(snapshot.disks) > len(domain_disks):
        raise ConfigUnsupported("too many disk snapshot requests for domain")
    listed: dict[str, SnapshotDisk] = {}
    for entry in snapshot.disks:
        disk = _find(domain_disks, entry.name)
        if disk.target in listed:
            raise ConfigUnsupported(f"disk '{entry.name}' specified twice")
        own_default = default if record else _possible(disk, default)
        listed[disk.target] = _located(entry, disk, own_default, record)
    aligned = [
        listed.get(disk.target) or _unlisted(disk, default if record else _possible(disk, default))
        for disk in domain_disks
    ]
    return _named(aligned, domain_disks, snapshot.name, is_regular, ours)


def _find(disks: tuple[DomainDisk, ...], name: str) -> DomainDisk:
    """libvirt: a name with a leading slash is a source path, which must be unambiguous."""
    if name.startswith("/"):
        found = [disk for disk in disks if disk.source == name]
    else:
        found = [disk for disk in disks if disk.target == name]
    if len(found) != 1:
        raise ConfigUnsupported(f"no disk named '{name}'")
    return found[0]


def _possible(disk: DomainDisk, default: Location) -> Location:
    """libvirt refuses what cannot be internal unless told otherwise; the other way is at hand."""
    if default is not Location.INTERNAL or disk.format == "qcow2" or disk.type not in ("file", "block"):
        return default
    return Location.EXTERNAL


def _attribute(disk: DomainDisk) -> Location:
    return Location(disk.snapshot) if disk.snapshot else Location.UNSET


def _located(entry: SnapshotDisk, disk: DomainDisk, default: Location, record: bool) -> SnapshotDisk:
    own = _attribute(disk)
    location = entry.location
    if location is Location.UNSET:
        usable = own is not Location.UNSET and (not record or own is Location.NO)
        location = own if usable else default
    if entry.path is not None and location is not Location.EXTERNAL:
        raise ConfigUnsupported(
            f"file '{entry.path}' for disk '{disk.target}' requires use of external snapshot mode"
        )
    return replace(entry, name=disk.target, location=location)


def _unlisted(disk: DomainDisk, default: Location) -> SnapshotDisk:
    own = _attribute(disk)
    if disk.empty:
        location = Location.NO
    elif own is not Location.UNSET:
        location = own
    else:
        location = default
    return SnapshotDisk(name=disk.target, location=location)


def _named(
    entries: list[SnapshotDisk],
    disks: tuple[DomainDisk, ...],
    snapshot: str,
    is_regular: IsRegular,
    ours: Collection[str],
) -> tuple[SnapshotDisk, ...]:
    taken: dict[str, str] = {e.path: e.name for e in entries if e.path is not None}
    named: list[SnapshotDisk] = []
    for entry, disk in zip(entries, disks, strict=True):
        if entry.location is not Location.EXTERNAL or entry.path is not None or entry.source_xml is not None:
            named.append(entry)
            continue
        path = _generated(entry, disk, snapshot, is_regular, ours)
        if path in taken:
            raise ConfigUnsupported(
                f"cannot generate external snapshot name for disk '{entry.name}': "
                f"collision with disk '{taken[path]}'"
            )
        taken[path] = entry.name
        named.append(replace(entry, path=path))
    return tuple(named)


def _generated(
    entry: SnapshotDisk, disk: DomainDisk, snapshot: str, is_regular: IsRegular, ours: Collection[str]
) -> str:
    what = f"cannot generate external snapshot name for disk '{entry.name}'"
    if entry.type != "file":
        raise ConfigUnsupported(f"{what} on a '{entry.type}' device")
    source = disk.export if disk.type == "network" else disk.source
    if source is None:
        raise ConfigUnsupported(f"{what} without source")
    if disk.type not in ("file", "block") or not is_regular(source):
        raise ConfigUnsupported(
            f"source for disk '{entry.name}' is not a regular file; "
            "refusing to generate external snapshot name"
        )
    names = itertools.chain([snapshot], (f"{snapshot}-{number}" for number in itertools.count(2)))
    return next(path for name in names if (path := overlay_path(source, name)) not in ours)


def overlay_path(source: str, suffix: str) -> str:
    """libvirt's rule: the last `.suffix` of the file's name gives way to the new one."""
    folder, name = posixpath.split(source)
    stem, dot, _ = name.rpartition(".")
    return posixpath.join(folder, f"{stem if dot else name}.{suffix}")
