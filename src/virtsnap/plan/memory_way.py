"""Decide how the memory of a running guest gets into its file, and whether the guest runs meanwhile.

- background: the memory of one instant is written while the guest runs on (userfaultfd);
- in-place: the guest runs on, and what it changes is written again in its place, until little is left;
- paused: the guest stands still for the whole write; with --live QEMU's stream sends again what changes;
- stream: in libvirt's format "raw", which its snapshot-revert reads, too: in the background where possible.

The first that is possible is taken, unless the request names one. Which ways QEMU has is a fact.
"""

from __future__ import annotations

from virtsnap.model.domain import DomainState
from virtsnap.model.errors import ConfigUnsupported, OperationInvalid
from virtsnap.model.facts import DomainFacts, MemoryWay
from virtsnap.model.flags import SnapshotCreate as Flag
from virtsnap.model.snapshot import Location, MemoryMode, Snapshot


def check_migratable(facts: DomainFacts) -> None:
    """Refuse, in libvirt's words, memory that QEMU would not write or bring back. Raises OperationInvalid."""
    if facts.migration_blockers:
        raise OperationInvalid("cannot migrate domain: " + "; ".join(facts.migration_blockers))
    if facts.jobs:
        raise OperationInvalid("domain has active block job")


def choose_memory_way(
    facts: DomainFacts, flags: Flag, snapshot: Snapshot, mode: MemoryMode | None
) -> tuple[MemoryWay, bool]:
    """The way, and whether the guest runs meanwhile. Raises ConfigUnsupported for a mode that cannot be."""
    running = facts.record.state is DomainState.RUNNING
    live = bool(flags & Flag.LIVE)
    why_not = {
        MemoryMode.BACKGROUND: _why_not_background(facts, flags, snapshot),
        MemoryMode.IN_PLACE: _why_not_in_place(facts, flags, snapshot),
        MemoryMode.PAUSED: "live was asked for" if live else None,
        MemoryMode.STREAM: None,
    }
    if mode is not None and (reason := why_not[mode]) is not None:
        raise ConfigUnsupported(f"memory mode '{mode.value}' is not possible: {reason}")
    if mode is MemoryMode.STREAM:
        background = why_not[MemoryMode.BACKGROUND] is None
        return (MemoryWay.BACKGROUND_STREAM, True) if background else (MemoryWay.STREAM, live and running)
    if mode is MemoryMode.BACKGROUND or (mode is None and why_not[MemoryMode.BACKGROUND] is None):
        return facts.memory_way, True
    if mode is MemoryMode.IN_PLACE or (mode is None and why_not[MemoryMode.IN_PLACE] is None):
        return MemoryWay.SPARSE, True
    return facts.memory_way.plain, live and running


def _why_not_background(facts: DomainFacts, flags: Flag, snapshot: Snapshot) -> str | None:
    if flags & Flag.REUSE_EXT:
        # They may hold anything, so what the guest writes there could not be taken back.
        return "the layers of --reuse-external are yours"
    if (reason := _why_not_running(facts, flags, snapshot)) is not None:
        return reason
    if not facts.memory_way.background:
        return "the kernel cannot protect this guest's memory from being changed while it is written"
    return None


def _why_not_in_place(facts: DomainFacts, flags: Flag, snapshot: Snapshot) -> str | None:
    if any(entry.location is Location.INTERNAL for entry in snapshot.disks):
        # They are made before the memory is written, so the guest must not run on.
        return "disks are kept internally"
    if (reason := _why_not_running(facts, flags, snapshot)) is not None:
        return reason
    return None if facts.memory_way.sparse else "QEMU is older than 9.0"


def _why_not_running(facts: DomainFacts, flags: Flag, snapshot: Snapshot) -> str | None:
    """Nobody waits for a guest that sleeps, ends or stays paused."""
    if facts.record.state is not DomainState.RUNNING:
        return "the guest does not run"
    if flags & Flag.HALT:
        return "the guest ends with the snapshot"
    if any(entry.location is Location.MANUAL for entry in snapshot.disks):
        return "a disk is for you to snapshot while the guest stands still"
    return None
