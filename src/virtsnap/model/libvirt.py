"""A domain as a real libvirt keeps it on disk, and what is found when it is taken over or given back.

Where libvirt's files are: `Places`. What is read of them: `LibvirtFiles` and `Evidence`. What people are
told: `LibvirtReport`. What it all means is decided by `plan.takeover` and `plan.handback`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import field

from virtsnap.model.facts import ImageFacts
from virtsnap.model.frozen import dataclass

SYSTEM_DIR = "/var/lib/libvirt/qemu"
SYSTEM_DEFINITIONS = "/etc/libvirt/qemu"
SYSTEM_RUN_DIR = "/run/libvirt/qemu"
_SYSTEM_TPM_DIR = "/var/lib/libvirt/swtpm"


@dataclass(frozen=True)
class Places:
    """The folders of libvirt's QEMU driver. A session's libvirt has definitions and state in one folder."""

    state: str
    """Where `snapshot/` and `save/` are."""
    definitions: str
    """Where NAME.xml and `autostart/` are."""
    run: str | None = None
    """Where NAME.xml tells of an active domain; None: not known."""

    def definition(self, name: str) -> str:
        """The definition's file."""
        return posixpath.join(self.definitions, f"{name}.xml")

    def autostart(self, name: str) -> str:
        """The link that has a domain started with libvirt."""
        return posixpath.join(self.definitions, "autostart", f"{name}.xml")

    def snapshots(self, name: str) -> str:
        """The folder of the snapshots' documents."""
        return posixpath.join(self.state, "snapshot", name)

    def checkpoints(self, name: str) -> str:
        """The folder of the checkpoints' documents."""
        return posixpath.join(self.state, "checkpoint", name)

    def save(self, name: str) -> str:
        """The managed save."""
        return posixpath.join(self.state, "save", f"{name}.save")

    @property
    def tpms(self) -> str:
        """The folder of the TPMs' states."""
        return _SYSTEM_TPM_DIR if self.state == SYSTEM_DIR else posixpath.join(self.state, "swtpm")

    def status(self, name: str) -> str | None:
        """What libvirt notes of a domain that is active."""
        return None if self.run is None else posixpath.join(self.run, f"{name}.xml")


@dataclass(frozen=True)
class Document:
    """A file that should hold XML."""

    path: str
    text: str = ""
    problem: str | None = None
    """Why it could not be read."""


@dataclass(frozen=True)
class LibvirtFiles:
    """What libvirt's folders hold of one domain."""

    places: Places
    name: str
    definition: Document | None = None
    """None: there is no such file."""
    snapshots: tuple[Document, ...] = ()
    autostart: bool = False
    saved: bool = False
    """There is a managed save."""
    checkpoints: int = 0
    active_pid: int | None = None
    """The process that libvirt says runs the domain, if it is alive."""
    others: tuple[Document, ...] = ()
    """Definitions and snapshots of all other domains."""


@dataclass(frozen=True)
class MemoryImage:
    """What the head of a memory image says, or why it is of no use."""

    uuid: str | None = None
    xml: str | None = None
    format: str = ""
    size: int = 0
    """Bytes."""
    changed: float = 0.0
    """When it was last written to, in seconds since the epoch."""
    problem: str | None = None


@dataclass(frozen=True)
class Evidence:
    """What the files say that the documents name."""

    images: Mapping[str, ImageFacts] = field(default_factory=dict)
    """Every image of every chain that could be read."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Image to why it could not be read, in the system's or QEMU's words."""
    absent: frozenset[str] = frozenset()
    """Those of them that are not there at all."""
    memory: Mapping[str, MemoryImage] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()
    """Images that a process has open to write, or relies on."""
    identity: Mapping[str, str] = field(default_factory=dict)
    """Path to what names the file itself, whatever its path."""
    changed: Mapping[str, float] = field(default_factory=dict)
    """When an image was last written to, in seconds since the epoch."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Images that other domains name or stand on, with who that is."""
    taken: str | None = None
    """A domain of ours that has the name or the uuid, in words."""
    nvram_tags: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """UEFI variable store that is qcow2 to the names of its internal snapshots."""
    present: frozenset[str] = frozenset()
    """Files that are there already, where some would be made."""
    missing_files: frozenset[str] = frozenset()
    """Files without a chain that a definition names and that are not there: media, variables."""


@dataclass(frozen=True)
class FoundSnapshot:
    """A line of the tree."""

    name: str
    parent: str | None
    state: str
    kind: str
    """internal, external or mixed; and whether with memory."""
    current: bool = False


@dataclass(frozen=True)
class FoundFile:
    """A file that belongs to the domain."""

    path: str
    kind: str
    """image, memory, managed save, UEFI variables, definition or snapshot."""
    format: str
    role: str
    """overlay, memory and nvram: deleted with the snapshots that need it; origin: takes merges, is never
    deleted; base: never touched."""
    size: int
    """Bytes that it takes."""


@dataclass(frozen=True)
class LibvirtReport:
    """What `import-libvirt` found, or what `export-libvirt` writes."""

    name: str
    uuid: str
    definition: str
    """The path of the definition in libvirt's folder."""
    snapshots: tuple[FoundSnapshot, ...] = ()
    files: tuple[FoundFile, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """Each is a reason why nothing is done."""
