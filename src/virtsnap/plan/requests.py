"""What callers ask for, after the XML and the flag word were read: the other half of a plan's input."""

from __future__ import annotations

from enum import IntFlag
from functools import cache
from typing import TypeVar

from virtsnap.model.errors import BareInvalidArg
from virtsnap.model.flags import SnapshotCreate, SnapshotDelete, SnapshotRevert
from virtsnap.model.frozen import dataclass
from virtsnap.model.snapshot import MemoryMode, Snapshot

F = TypeVar("F", bound=IntFlag)


@dataclass(frozen=True)
class CreateRequest:
    """Take a snapshot as `snapshot` describes it."""

    snapshot: Snapshot
    flags: SnapshotCreate
    memory_mode: MemoryMode | None = None
    """Insist on this way of writing the memory."""


@dataclass(frozen=True)
class RevertRequest:
    """Go back to the snapshot of this name."""

    name: str
    flags: SnapshotRevert


@dataclass(frozen=True)
class DeleteRequest:
    """Forget the snapshot of this name, keeping every other state."""

    name: str
    flags: SnapshotDelete


def known_flags(flags: int, allowed: type[F], function: str) -> F:
    """The flags. Refuse bits that libvirt does not know, in its words."""
    unknown = flags & ~_mask(allowed)
    if unknown:
        raise BareInvalidArg(f"unsupported flags (0x{unknown:x}) in function {function}")
    return allowed(flags)


@cache
def _mask(allowed: type[IntFlag]) -> int:
    return sum(int(flag) for flag in allowed)


def exclusive(flags: int, first: int, first_name: str, second: int, second_name: str) -> None:
    """Refuse two flags that contradict each other."""
    if flags & first and flags & second:
        raise BareInvalidArg(f"Flags '{first_name}' and '{second_name}' are mutually exclusive")


def required(flags: int, given: int, given_name: str, needed: int, needed_name: str) -> None:
    """Refuse a flag that means nothing without another one."""
    if flags & given and not flags & needed:
        raise BareInvalidArg(f"Flag '{needed_name}' is required by flag '{given_name}'")
