"""One frozen picture of the world, taken under a domain's lock; all that a plan may know.

`qemu.facts` is the only code that takes it. It is journaled beside the plan, so that a bug report
replays as a unit test. Sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum

from virtsnap.model.block_job import BlockJob
from virtsnap.model.domain import DomainRecord
from virtsnap.model.frozen import dataclass
from virtsnap.model.snapshot import SnapshotTree


class ImageRole(Enum):
    """Why an image file counts as part of a domain's snapshot tree."""

    OVERLAY = "overlay"
    """Made by a snapshot or a revert: may be merged away and deleted."""
    ORIGIN = "origin"
    """The user's own image below the first overlay: takes merges, is never deleted."""
    MEMORY = "memory"
    """A memory image."""
    NVRAM = "nvram"
    """A copy of the UEFI variables, for a snapshot without memory."""


class MemoryWay(Enum):
    """How the memory is written. `qemu.memory` says what each needs of QEMU."""

    STREAM = "stream"
    """QEMU's migration stream, whole: every supported QEMU."""
    SPARSE = "sparse"
    """mapped-ram, pages at fixed offsets: QEMU >= 9.0. No larger than the memory in use."""
    BACKGROUND_STREAM = "background stream"
    """A stream of one instant, written while the guest runs on: needs userfaultfd."""
    BACKGROUND_SPARSE = "background sparse"
    """The same with pages at fixed offsets."""

    @property
    def background(self) -> bool:
        """The guest runs on while its memory of one instant is written."""
        return self in (MemoryWay.BACKGROUND_STREAM, MemoryWay.BACKGROUND_SPARSE)

    @property
    def plain(self) -> MemoryWay:
        """The way of the same file format for a guest that stands still."""
        return MemoryWay.SPARSE if self.sparse else MemoryWay.STREAM

    @property
    def sparse(self) -> bool:
        """Pages have fixed offsets."""
        return self in (MemoryWay.SPARSE, MemoryWay.BACKGROUND_SPARSE)


@dataclass(frozen=True)
class MappedMemory:
    """The guest's pages within a memory image, as a QEMU maps them. Offset and length in bytes."""

    path: str
    offset: int
    length: int
    shared: bool = False
    """The file is somebody else's, who may write over it: QEMU gets a copy that shares its blocks."""


@dataclass(frozen=True)
class InternalSnapshot:
    """An entry of a qcow2 image's snapshot table."""

    id: str
    """qcow2's number, as text. QEMU looks for a number before it looks for a name."""
    name: str
    """The tag."""
    vm_state_size: int
    """Bytes of memory and device state kept with it; 0: disk only."""


@dataclass(frozen=True)
class ImageFacts:
    """One image file as its header tells, given the format that the definition says it has."""

    path: str
    format: str
    virtual_size: int = 0
    actual_size: int = 0
    backing: str | None = None
    backing_format: str | None = None
    backing_name: str | None = None
    """The backing file as the header spells it, where that is known: it may be relative."""
    cluster_size: int | None = None
    extended_l2: bool = False
    block_device: bool = False
    missing: bool = False
    tags: tuple[InternalSnapshot, ...] = ()
    """Internal snapshots, of whoever made them."""
    problem: str | None = None
    """Why it counts as missing, if it is there and cannot be read."""

    def tag(self, name: str) -> InternalSnapshot | None:
        """The internal snapshot of exactly this name."""
        return next((tag for tag in self.tags if tag.name == name), None)


@dataclass(frozen=True)
class FileFacts:
    """What stat says of a path that a plan would like to use."""

    exists: bool
    regular: bool = False
    block_device: bool = False
    size: int = 0
    error: str | None = None
    """strerror when stat failed for another reason than a missing file."""


@dataclass(frozen=True)
class AgentFacts:
    """The guest agent of a running domain, as a request that needs it finds it."""

    configured: bool
    """The definition has the agent's channel."""
    socket: str | None = None
    """Where QEMU passes on what is said to the agent."""
    problem: str | None = None
    """Why the agent cannot be asked, in libvirt's words."""
    frozen: bool = False
    """Somebody has made the guest's file systems stand still already."""


@dataclass(frozen=True)
class DomainFacts:
    """Everything known of a domain at one instant."""

    record: DomainRecord
    tree: SnapshotTree
    now: int
    """Seconds since the epoch."""
    images: Mapping[str, ImageFacts] = field(default_factory=dict)
    """Every image of the domain's chains and of its snapshots' chains, by path."""
    owned: Mapping[str, ImageRole] = field(default_factory=dict)
    """The files that belong to this domain's snapshots."""
    named_elsewhere: frozenset[str] = frozenset()
    """Image files that other domains name, or stand on."""
    held: frozenset[str] = frozenset()
    """Images of a domain that is shut off which some other process has open and protects by QEMU's locks."""
    files: Mapping[str, FileFacts] = field(default_factory=dict)
    """Facts of the paths that the request would make or read."""
    free: Mapping[str, int] = field(default_factory=dict)
    """Free bytes of the file system, by folder."""
    memory_way: MemoryWay = MemoryWay.STREAM
    no_background: str = ""
    """QEMU's words, when it has refused to write memory in the background."""
    no_in_place: str = ""
    """Why the memory must not be written in place: that was tried."""
    dirty_rate: int | None = None
    """MiB of its memory that the guest changes in a second; None: not asked, or QEMU does not tell."""
    qemu_version: tuple[int, ...] = ()
    mappable: MappedMemory | None = None
    """The memory image that the request is about, if the QEMU that will be started can map it."""
    memory_in_use: int = 0
    """Resident memory of the QEMU process: about the size a memory image will have."""
    jobs: tuple[str, ...] = ()
    """Block jobs that run now, as 'target: type': QEMU's type, and 'mirror' of an active commit, too."""
    migration_blockers: tuple[str, ...] = ()
    """Why QEMU cannot write the memory of this guest, in its words."""
    block_jobs: tuple[BlockJob, ...] = ()
    """Those of them that have a record."""
    next_node: int = 1
    """The first N for which no node libvirt-N-* exists."""
    next_id: int = 0
    """The domain id that a start in this plan will use."""
    managed_save: tuple[str, ...] = ()
    """The files of the domain's managed save, if it has one."""
    root: str = ""
    """Folder of the connection's own files."""
    agent: AgentFacts | None = None
    """None where the request does not need it."""

    def chain(self, path: str) -> tuple[ImageFacts, ...]:
        """The images from `path` down to the one that stands on nothing."""
        found: list[ImageFacts] = []
        seen: set[str] = set()
        at: str | None = path
        while at is not None and at in self.images and at not in seen:
            seen.add(at)
            found.append(self.images[at])
            at = self.images[at].backing
        return tuple(found)
