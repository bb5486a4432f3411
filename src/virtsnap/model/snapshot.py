"""A snapshot and the tree it stands in, as values.

Names and meanings are libvirt's (formatsnapshot page). XML in and out is `formats.snapshot_xml`; what
create, revert and delete decide is `plan`. A snapshot's `domain_xml` names, disk by disk, the image that
holds the frozen content; its `disks` name the overlay that creating it put on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from enum import Enum

from virtsnap.model.errors import NoSnapshot
from virtsnap.model.frozen import dataclass


class SnapshotState(Enum):
    """The domain's state when the snapshot was taken; libvirt's words."""

    NOSTATE = "nostate"
    RUNNING = "running"
    BLOCKED = "blocked"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    SHUTOFF = "shutoff"
    CRASHED = "crashed"
    PMSUSPENDED = "pmsuspended"
    DISK_SNAPSHOT = "disk-snapshot"

    @property
    def active(self) -> bool:
        """The domain had a QEMU, so the snapshot should hold its memory."""
        return self in (SnapshotState.RUNNING, SnapshotState.PAUSED, SnapshotState.PMSUSPENDED)


class Location(Enum):
    """Where the frozen data of a disk or of the memory is kept. UNSET: not said (yet)."""

    UNSET = ""
    NO = "no"
    INTERNAL = "internal"
    EXTERNAL = "external"
    MANUAL = "manual"


@dataclass(frozen=True)
class SnapshotDisk:
    """One `<disk>` of a snapshot. `path` is the overlay of an external one."""

    name: str
    location: Location = Location.UNSET
    type: str = "file"
    path: str | None = None
    format: str | None = None
    source_xml: str | None = None
    """The whole `<source>` element as given, when it says more than a path (network, seclabel...)."""
    driver_xml: str | None = None
    """The whole `<driver>` element as given, when it says more than the type (metadata_cache)."""
    delete_in_progress: bool = False


class MemoryMode(Enum):
    """A way of writing the memory that a request insists on; see `plan.memory_way`."""

    BACKGROUND = "background"
    IN_PLACE = "in-place"
    PAUSED = "paused"
    STREAM = "stream"


@dataclass(frozen=True)
class Snapshot:
    """One `<domainsnapshot>`."""

    name: str
    creation_time: int = 0
    """Seconds since the epoch."""
    state: SnapshotState = SnapshotState.NOSTATE
    description: str | None = None
    parent: str | None = None
    memory: Location = Location.UNSET
    memory_file: str | None = None
    memory_mode: MemoryMode | None = None
    """Only in a request."""
    disks: tuple[SnapshotDisk, ...] = ()
    revert_disks: tuple[SnapshotDisk, ...] = ()
    domain_xml: str | None = None
    inactive_domain_xml: str | None = None
    cookie_xml: str | None = None

    @property
    def external(self) -> bool:
        """libvirt's predicate: the memory or any disk entry is external."""
        return self.memory is Location.EXTERNAL or any(
            disk.location is Location.EXTERNAL for disk in self.disks
        )

    @property
    def full_system(self) -> bool:
        """Holds memory: reverting to it needs no boot."""
        return self.memory in (Location.INTERNAL, Location.EXTERNAL)

    @property
    def disk_only(self) -> bool:
        """Taken of an active domain without its memory."""
        return self.state is SnapshotState.DISK_SNAPSHOT

    def disk(self, name: str) -> SnapshotDisk | None:
        """The entry of a disk target, if it has one."""
        return next((disk for disk in self.disks if disk.name == name), None)


@dataclass(frozen=True)
class SnapshotTree:
    """All snapshots of a domain, by name in order of creation, and which one is current."""

    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    current: str | None = None

    @classmethod
    def of(cls, snapshots: Iterable[Snapshot], current: str | None = None) -> SnapshotTree:
        """Build from snapshots in any order."""
        ordered = sorted(snapshots, key=lambda snapshot: (snapshot.creation_time, snapshot.name))
        return cls({snapshot.name: snapshot for snapshot in ordered}, current)

    def __contains__(self, name: str) -> bool:
        return name in self.snapshots

    def __getitem__(self, name: str) -> Snapshot:
        return self.snapshots[name]

    def lookup(self, name: str) -> Snapshot:
        """The snapshot of that name. Raises NoSnapshot."""
        if name not in self:
            raise NoSnapshot(f"no domain snapshot with matching name '{name}'")
        return self[name]

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self.snapshots.values())

    def __len__(self) -> int:
        return len(self.snapshots)

    def roots(self) -> list[Snapshot]:
        """Snapshots without a parent, or whose parent is not known."""
        return [s for s in self if s.parent is None or s.parent not in self.snapshots]

    def children(self, name: str) -> list[Snapshot]:
        """Direct children, oldest first."""
        return [s for s in self if s.parent == name]

    def descendants(self, name: str) -> list[Snapshot]:
        """All below `name`, parents before children; `name` itself is not among them."""
        found: list[Snapshot] = []
        pending = self.children(name)
        while pending:
            snapshot = pending.pop(0)
            found.append(snapshot)
            pending = self.children(snapshot.name) + pending
        return found

    def ancestors(self, name: str) -> list[Snapshot]:
        """From the parent of `name` up to its root."""
        found: list[Snapshot] = []
        parent = self.snapshots[name].parent
        while parent is not None and parent in self.snapshots:
            found.append(self.snapshots[parent])
            parent = self.snapshots[parent].parent
        return found
