"""Pools of type dir and the volumes in them: folders, and the images that lie there."""

from __future__ import annotations

from dataclasses import replace
from enum import IntFlag

from virtsnap.model.frozen import dataclass


@dataclass(frozen=True)
class Pool:
    """A folder that tools may look for images in, and put new ones into."""

    uuid: str
    name: str
    path: str
    active: bool = False
    persistent: bool = True
    autostart: bool = False
    boot: str = ""
    """The boot of the host that this was noted in."""
    mode: int | None = None
    """What its folder gets when it is built, as owner and group."""
    owner: int | None = None
    group: int | None = None

    def since(self, boot: str) -> Pool | None:
        """What is left of it in another boot: it was started in none; one that is not defined is gone."""
        if self.boot == boot:
            return self
        return replace(self, active=False) if self.persistent else None


@dataclass(frozen=True)
class Space:
    """Of the file system that a pool lies on, in bytes."""

    capacity: int
    allocation: int
    available: int


@dataclass(frozen=True)
class Volume:
    """A file of a pool. Sizes in bytes."""

    name: str
    path: str
    format: str
    capacity: int
    allocation: int
    physical: int
    mode: int
    owner: int
    group: int
    backing: str | None = None
    backing_format: str | None = None
    times: tuple[int, int, int] = (0, 0, 0)
    """When it was last read, written to and changed otherwise, in nanoseconds since the epoch."""


@dataclass(frozen=True)
class VolumeRequest:
    """What a new volume shall be."""

    name: str
    format: str
    capacity: int
    allocation: int | None = None
    backing: str | None = None
    backing_format: str | None = None
    compat: str | None = None
    cluster_size: int | None = None
    lazy_refcounts: bool = False
    extended_l2: bool = False
    nocow: bool = False
    mode: int | None = None
    owner: int | None = None
    group: int | None = None


class VolumeResize(IntFlag):
    """virStorageVolResizeFlags."""

    ALLOCATE = 1
    DELTA = 2
    SHRINK = 4


@dataclass(frozen=True)
class User:
    """A domain, or a snapshot of it, that names an image or has one that stands on it."""

    domain: str
    snapshot: str | None = None
    at_rest: bool = False
    """A domain that does not run and has no snapshots, of a disk of its own: who deletes that knows it."""

    def __str__(self) -> str:
        of = f"domain '{self.domain}'"
        return of if self.snapshot is None else f"snapshot '{self.snapshot}' of {of}"
