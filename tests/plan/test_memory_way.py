"""Which way the memory takes: the best that is possible, or the one that was asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.plan.simulation import UUID, disk_xml, domain_xml
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.domain import DomainRecord, Reason
from virtsnap.model.errors import ConfigUnsupported
from virtsnap.model.facts import DomainFacts, MemoryWay
from virtsnap.model.flags import SnapshotCreate as Flag
from virtsnap.model.snapshot import Location, MemoryMode, Snapshot, SnapshotDisk, SnapshotTree
from virtsnap.plan.memory_way import (
    FAST_MIB,
    LITTLE_BYTES,
    MILD_MIB,
    UNUSED_BYTES,
    choose_memory_way,
    rate_decides,
)

XML = domain_xml(disk_xml("vda", "/i/a.img"))
RUNNING = DomainRecord(UUID, "d", XML, live_xml=XML, reason=Reason.RUNNING_BOOTED)
FACTS = DomainFacts(RUNNING, SnapshotTree(), 1, {}, {}, memory_way=MemoryWay.BACKGROUND_SPARSE)
EXTERNAL = Snapshot("s", disks=(SnapshotDisk("vda", Location.EXTERNAL),))
INTERNAL = Snapshot("s", disks=(SnapshotDisk("vda", Location.INTERNAL),))
MANUAL = Snapshot("s", disks=(SnapshotDisk("vda", Location.MANUAL),))


def way(
    has: MemoryWay = MemoryWay.BACKGROUND_SPARSE,
    *,
    flags: int = 0,
    snapshot: Snapshot = EXTERNAL,
    mode: MemoryMode | None = None,
    reason: Reason = Reason.RUNNING_BOOTED,
) -> tuple[MemoryWay, bool]:
    facts = replace(FACTS, memory_way=has, record=replace(RUNNING, reason=reason))
    choice = choose_memory_way(facts, Flag(flags), snapshot, mode)
    return choice.way, choice.runs


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        (MemoryWay.BACKGROUND_SPARSE, (MemoryWay.BACKGROUND_SPARSE, True)),
        (MemoryWay.SPARSE, (MemoryWay.SPARSE, True)),
        (MemoryWay.STREAM, (MemoryWay.STREAM, False)),
    ],
)
def test_the_best_that_there_is(has: MemoryWay, expected: tuple[MemoryWay, bool]) -> None:
    assert way(has) == expected
    live = expected[1] or has is MemoryWay.STREAM
    assert way(has, flags=Flag.LIVE) == (expected[0], live)


def test_nobody_waits_for_a_guest_that_stands_still() -> None:
    still = (MemoryWay.SPARSE, False)
    assert way(reason=Reason.PAUSED_USER) == still
    assert way(flags=Flag.HALT) == still
    assert way(snapshot=MANUAL) == still
    assert way(reason=Reason.PMSUSPENDED_UNKNOWN) == still


def test_why_it_is_not_a_better_one() -> None:
    def reason(
        has: MemoryWay, *, flags: int = 0, because: Reason = Reason.RUNNING_BOOTED, words: str = ""
    ) -> str:
        record = replace(RUNNING, reason=because)
        facts = replace(FACTS, memory_way=has, record=record, no_background=words)
        choice = choose_memory_way(facts, Flag(flags), EXTERNAL, None)
        return f"{choice.mode.value}: {choice.reason}"

    cannot = "the kernel cannot protect this guest's memory from being changed while it is written"
    assert reason(MemoryWay.BACKGROUND_SPARSE) == "background: "
    assert reason(MemoryWay.SPARSE) == f"in-place: not background: {cannot}"
    assert reason(MemoryWay.SPARSE, words="no").endswith(f"{cannot} (QEMU: no)")
    old = "QEMU is older than 9.0"
    assert reason(MemoryWay.STREAM) == f"paused: not background: {old}; not in-place: {old}"
    assert "--reuse-external are yours" in reason(MemoryWay.BACKGROUND_SPARSE, flags=Flag.REUSE_EXT)
    # A guest that stands still anyway notices none of them.
    assert reason(MemoryWay.SPARSE, because=Reason.PAUSED_USER) == "paused: "
    assert choose_memory_way(FACTS, Flag(0), EXTERNAL, MemoryMode.IN_PLACE).reason == ""


def test_layers_of_the_users_and_internal_disks() -> None:
    assert way(flags=Flag.REUSE_EXT) == (MemoryWay.SPARSE, True)
    assert way(snapshot=INTERNAL) == (MemoryWay.BACKGROUND_SPARSE, True)
    assert way(MemoryWay.SPARSE, snapshot=INTERNAL) == (MemoryWay.SPARSE, False)


def test_a_way_that_was_asked_for() -> None:
    assert way(mode=MemoryMode.BACKGROUND) == (MemoryWay.BACKGROUND_SPARSE, True)
    assert way(mode=MemoryMode.IN_PLACE) == (MemoryWay.SPARSE, True)
    assert way(mode=MemoryMode.PAUSED) == (MemoryWay.SPARSE, False)
    assert way(mode=MemoryMode.STREAM) == (MemoryWay.BACKGROUND_STREAM, True)
    assert way(MemoryWay.SPARSE, mode=MemoryMode.STREAM) == (MemoryWay.STREAM, False)
    assert way(MemoryWay.SPARSE, mode=MemoryMode.STREAM, flags=Flag.LIVE) == (MemoryWay.STREAM, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"has": MemoryWay.SPARSE, "mode": MemoryMode.BACKGROUND}, "'background' .* cannot protect"),
        ({"flags": Flag.REUSE_EXT, "mode": MemoryMode.BACKGROUND}, "--reuse-external are yours"),
        ({"has": MemoryWay.STREAM, "mode": MemoryMode.IN_PLACE}, "'in-place' .* older than 9.0"),
        ({"has": MemoryWay.STREAM, "mode": MemoryMode.BACKGROUND}, "'background' .* older than 9.0"),
        ({"snapshot": INTERNAL, "mode": MemoryMode.IN_PLACE}, "disks are kept internally"),
        ({"reason": Reason.PAUSED_USER, "mode": MemoryMode.BACKGROUND}, "the guest does not run"),
        ({"flags": Flag.HALT, "mode": MemoryMode.IN_PLACE}, "the guest ends with the snapshot"),
        ({"flags": Flag.LIVE, "mode": MemoryMode.PAUSED}, "live was asked for"),
    ],
)
def test_a_way_that_cannot_be_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigUnsupported, match=words):
        way(**options)  # type: ignore[arg-type]


_MUCH = LITTLE_BYTES + 1
_TOO_FAST = "faster than that is written again"


@pytest.mark.parametrize(
    ("rate", "expected", "words"),
    [
        (None, MemoryMode.BACKGROUND, ""),
        (0, MemoryMode.BACKGROUND, ""),
        (MILD_MIB - 1, MemoryMode.BACKGROUND, ""),
        (MILD_MIB, MemoryMode.IN_PLACE, f"not background: the guest changes {MILD_MIB} MiB"),
        (FAST_MIB, MemoryMode.IN_PLACE, f"not background: the guest changes {FAST_MIB} MiB"),
        (FAST_MIB + 1, MemoryMode.BACKGROUND, f"not in-place: the guest changes {FAST_MIB + 1} MiB"),
        (10**6, MemoryMode.BACKGROUND, "not in-place: the guest changes 1000000 MiB"),
    ],
)
def test_a_guest_that_changes_its_memory(rate: int | None, expected: MemoryMode, words: str) -> None:
    facts = replace(FACTS, memory_in_use=_MUCH, dirty_rate=rate)
    choice = choose_memory_way(facts, Flag(0), EXTERNAL, None)
    assert (choice.mode, choice.runs) == (expected, True)
    assert choice.gives_up == (expected is MemoryMode.IN_PLACE)
    assert choice.reason.startswith(words)
    assert bool(choice.reason) == bool(words)
    if rate is not None:
        assert choice.reason.endswith(_TOO_FAST) == (rate > FAST_MIB)
    asked_for = choose_memory_way(facts, Flag(0), EXTERNAL, MemoryMode.BACKGROUND)
    assert (asked_for.mode, asked_for.reason) == (MemoryMode.BACKGROUND, "")


@pytest.mark.parametrize(
    ("change", "flags", "snapshot", "mode"),
    [
        ({}, Flag(0), EXTERNAL, MemoryMode.BACKGROUND),
        ({}, Flag(0), EXTERNAL, MemoryMode.IN_PLACE),
        ({}, Flag.QUIESCE, EXTERNAL, None),
        ({}, Flag.REUSE_EXT, EXTERNAL, None),
        ({}, Flag.HALT, EXTERNAL, None),
        ({}, Flag(0), INTERNAL, None),
        ({"memory_in_use": LITTLE_BYTES}, Flag(0), EXTERNAL, None),
        ({"memory_way": MemoryWay.SPARSE}, Flag(0), EXTERNAL, None),
        ({"memory_way": MemoryWay.STREAM}, Flag(0), EXTERNAL, None),
        ({"record": replace(RUNNING, reason=Reason.PAUSED_USER)}, Flag(0), EXTERNAL, None),
    ],
)
def test_nobody_asks_how_busy_the_guest_is(
    change: dict[str, Any], flags: Flag, snapshot: Snapshot, mode: MemoryMode | None
) -> None:
    """And where the rate is known all the same, it does not count."""
    facts = replace(FACTS, memory_in_use=_MUCH)
    assert rate_decides(facts, Flag.LIVE, EXTERNAL, None)
    facts = replace(facts, **change)
    assert not rate_decides(facts, flags, snapshot, mode)
    choice = choose_memory_way(facts, flags, snapshot, mode)
    assert choose_memory_way(replace(facts, dirty_rate=MILD_MIB), flags, snapshot, mode) == choice


def test_a_guest_that_was_too_fast_in_place() -> None:
    facts = replace(FACTS, memory_in_use=_MUCH, dirty_rate=MILD_MIB, no_in_place="it was tried")
    choice = choose_memory_way(facts, Flag(0), EXTERNAL, None)
    assert (choice.mode, choice.reason) == (MemoryMode.BACKGROUND, "not in-place: it was tried")
    assert not choose_memory_way(FACTS, Flag(0), EXTERNAL, MemoryMode.IN_PLACE).gives_up


def _of_memory(kib: int, **facts: Any) -> DomainFacts:
    xml = DomainDefinition.parse(XML).with_memory(kib).to_xml()
    return replace(FACTS, record=replace(RUNNING, live_xml=xml), **facts)


@pytest.mark.parametrize("rate", [None, 0, MILD_MIB - 1])
@pytest.mark.parametrize("in_use", [LITTLE_BYTES, LITTLE_BYTES + (1 << 20)])
def test_a_guest_that_does_not_use_its_memory(rate: int | None, in_use: int) -> None:
    limit = (in_use + UNUSED_BYTES) >> 10
    facts = _of_memory(limit, memory_in_use=in_use, dirty_rate=rate)
    assert choose_memory_way(facts, Flag(0), EXTERNAL, None).mode is MemoryMode.BACKGROUND
    facts = _of_memory(limit + 1024, memory_in_use=in_use, dirty_rate=rate)
    choice = choose_memory_way(facts, Flag(0), EXTERNAL, None)
    assert (choice.mode, choice.gives_up) == (MemoryMode.IN_PLACE, True)
    assert choice.reason == "not background: its next snapshot would wait for 2049 MiB that are not in use"
    assert choose_memory_way(facts, Flag.QUIESCE, EXTERNAL, None).mode is MemoryMode.BACKGROUND
    asked_for = choose_memory_way(facts, Flag(0), EXTERNAL, MemoryMode.BACKGROUND)
    assert (asked_for.mode, asked_for.reason) == (MemoryMode.BACKGROUND, "")


def test_a_guest_that_does_not_use_its_memory_and_is_too_fast() -> None:
    facts = _of_memory(8 << 20, memory_in_use=_MUCH, dirty_rate=FAST_MIB + 1)
    assert choose_memory_way(facts, Flag(0), EXTERNAL, None).mode is MemoryMode.BACKGROUND
    tried = replace(facts, dirty_rate=0, no_in_place="it was tried")
    assert choose_memory_way(tried, Flag(0), EXTERNAL, None).mode is MemoryMode.BACKGROUND
