"""Decide how the memory of a running guest gets into its file, and whether the guest runs meanwhile.

- background: the memory of one instant is written while the guest runs on (userfaultfd);
- in-place: the guest runs on, and what it changes is written again in its place, until little is left;
- paused: the guest stands still for the whole write; with --live QEMU's stream sends again what changes;
- stream: in libvirt's format "raw", which its snapshot-revert reads, too: in the background where possible.

The first that is possible is taken, unless the request names one. Which ways QEMU has is a fact. Between
the first two the guest decides (ADR 0010): in the background it waits for each page that it changes, once,
and for all that it never used; in place for none, if it changes them no faster than they are written.
"""

from __future__ import annotations

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.domain import DomainState
from virtsnap.model.errors import ConfigUnsupported, OperationInvalid
from virtsnap.model.facts import DomainFacts, MemoryWay
from virtsnap.model.flags import SnapshotCreate as Flag
from virtsnap.model.frozen import dataclass
from virtsnap.model.snapshot import Location, MemoryMode, Snapshot

_BY_ITSELF = (MemoryMode.BACKGROUND, MemoryMode.IN_PLACE, MemoryMode.PAUSED)
"""Those that are taken without a word, best first."""
_TOO_OLD = "QEMU is older than 9.0"
LITTLE_BYTES = 256 << 20
"""Memory in use that is written in so short a time that nobody need ask how busy the guest is."""
MILD_MIB = 100
"""A second: a guest that changes less seldom waits in the background, and its image is of the begin."""
FAST_MIB = 1000
"""A second: more is not tried in place. A guest at three quarters of it was written so (ADR 0010); should
this host be slower than that one, there is `gives_up`."""
UNUSED_BYTES = 2 << 30
"""Memory that the guest never used, each GiB of which holds it up for 12 ms at its next snapshot in the
background; in place its pause does not depend on it."""


def check_migratable(facts: DomainFacts) -> None:
    """Refuse, in libvirt's words, memory that QEMU would not write or bring back. Raises OperationInvalid."""
    if facts.migration_blockers:
        raise OperationInvalid("cannot migrate domain: " + "; ".join(facts.migration_blockers))
    if facts.jobs:
        raise OperationInvalid("domain has active block job")


@dataclass(frozen=True)
class MemoryChoice:
    """How the memory is written."""

    way: MemoryWay
    runs: bool
    """The guest, meanwhile."""
    mode: MemoryMode
    """The way's name for users."""
    reason: str = ""
    """Why it is none of the better ones. Empty: it is the best, it was asked for, or nobody would notice."""
    gives_up: bool = False
    """Rather than hold the guest up for long: there is the way in the background, too."""


def rate_decides(facts: DomainFacts, flags: Flag, snapshot: Snapshot, mode: MemoryMode | None) -> bool:
    """Whether it is worth to learn how fast the guest changes its memory."""
    return facts.memory_in_use > LITTLE_BYTES and _guest_decides(facts, flags, snapshot, mode)


def choose_memory_way(
    facts: DomainFacts, flags: Flag, snapshot: Snapshot, mode: MemoryMode | None
) -> MemoryChoice:
    """The best way, or the one asked for. Raises ConfigUnsupported for a mode that cannot be."""
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
    reason = ""
    ruled_out: dict[MemoryMode, str | None] = {}
    if mode is None:
        if facts.no_in_place:
            ruled_out = {MemoryMode.IN_PLACE: facts.no_in_place}
        elif _guest_decides(facts, flags, snapshot, mode):
            ruled_out = _busy(facts) or _roomy(facts)
        why_not |= ruled_out
        mode = next((one for one in _BY_ITSELF if why_not[one] is None), MemoryMode.PAUSED)
        better = {one: why_not[one] for one in _BY_ITSELF[: _BY_ITSELF.index(mode)]}
        if _why_not_running(facts, flags, snapshot) is None:
            reason = "; ".join(f"not {one.value}: {why}" for one, why in (better | ruled_out).items())
    if mode is MemoryMode.BACKGROUND:
        return MemoryChoice(facts.memory_way, True, mode, reason)
    if mode is MemoryMode.IN_PLACE:
        return MemoryChoice(MemoryWay.SPARSE, True, mode, reason, gives_up=MemoryMode.BACKGROUND in ruled_out)
    if mode is MemoryMode.STREAM and why_not[MemoryMode.BACKGROUND] is None:
        return MemoryChoice(MemoryWay.BACKGROUND_STREAM, True, mode, reason)
    way = MemoryWay.STREAM if mode is MemoryMode.STREAM else facts.memory_way.plain
    return MemoryChoice(way, live and running, mode, reason)


def _guest_decides(facts: DomainFacts, flags: Flag, snapshot: Snapshot, mode: MemoryMode | None) -> bool:
    """Not with frozen file systems, which would stay so for the whole of a write in place."""
    return (
        mode is None
        and not flags & Flag.QUIESCE
        and _why_not_background(facts, flags, snapshot) is None
        and _why_not_in_place(facts, flags, snapshot) is None
    )


def _busy(facts: DomainFacts) -> dict[MemoryMode, str | None]:
    """What a guest rules out by how fast it changes its memory."""
    rate = facts.dirty_rate
    if rate is None or rate < MILD_MIB or facts.memory_in_use <= LITTLE_BYTES:
        return {}
    changes = f"the guest changes {rate} MiB of its memory a second"
    if rate > FAST_MIB:
        return {MemoryMode.IN_PLACE: f"{changes}, faster than that is written again"}
    return {MemoryMode.BACKGROUND: f"{changes}, and would wait for each page"}


def _roomy(facts: DomainFacts) -> dict[MemoryMode, str | None]:
    """What a guest rules out that does not use much of its memory."""
    assert facts.record.live_xml is not None
    memory = DomainDefinition.parse(facts.record.live_xml).memory_kib << 10
    unused = memory - facts.memory_in_use
    if unused <= UNUSED_BYTES:
        return {}
    return {MemoryMode.BACKGROUND: f"its next snapshot would wait for {unused >> 20} MiB that are not in use"}


def _why_not_background(facts: DomainFacts, flags: Flag, snapshot: Snapshot) -> str | None:
    if flags & Flag.REUSE_EXT:
        # They may hold anything, so what the guest writes there could not be taken back.
        return "the layers of --reuse-external are yours"
    if (reason := _why_not_running(facts, flags, snapshot)) is not None:
        return reason
    if not facts.memory_way.sparse:
        return _TOO_OLD
    if not facts.memory_way.background:
        why = "the kernel cannot protect this guest's memory from being changed while it is written"
        return f"{why} (QEMU: {facts.no_background})" if facts.no_background else why
    return None


def _why_not_in_place(facts: DomainFacts, flags: Flag, snapshot: Snapshot) -> str | None:
    if any(entry.location is Location.INTERNAL for entry in snapshot.disks):
        # They are made before the memory is written, so the guest must not run on.
        return "disks are kept internally"
    if (reason := _why_not_running(facts, flags, snapshot)) is not None:
        return reason
    if facts.no_in_place:
        return facts.no_in_place
    return None if facts.memory_way.sparse else _TOO_OLD


def _why_not_running(facts: DomainFacts, flags: Flag, snapshot: Snapshot) -> str | None:
    """Nobody waits for a guest that sleeps, ends or stays paused."""
    if facts.record.state is not DomainState.RUNNING:
        return "the guest does not run"
    if flags & Flag.HALT:
        return "the guest ends with the snapshot"
    if any(entry.location is Location.MANUAL for entry in snapshot.disks):
        return "a disk is for you to snapshot while the guest stands still"
    return None
