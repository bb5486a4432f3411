"""Plans in words."""

from __future__ import annotations

import dataclasses

import pytest

from tests.plan.simulation import UUID, domain_xml
from virtsnap.model import steps as s
from virtsnap.model.domain import DomainRecord
from virtsnap.model.facts import MemoryWay
from virtsnap.model.snapshot import Snapshot
from virtsnap.plan.describe import describe, mib, sentence

MIB = 1 << 20
MERGE = s.MergeImages("vda", "/top", "qcow2", "/base", "raw", True, None, None, "job", 3 * MIB)
RECORD = DomainRecord(UUID, "d", domain_xml(""))


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (s.CreateOverlay("/o", "qcow2", MIB, "/b", "raw"), "make overlay /o on /b"),
        (s.AttachOverlay("vda", "/o", "qcow2", "file", 3), "open /o for disk vda"),
        (s.PauseGuest(), "pause the guest"),
        (
            s.SaveMemory("/m", MemoryWay.STREAM, False, True, "<domain/>"),
            "write memory to /m (stream)",
        ),
        (
            s.SaveMemory("/m", MemoryWay.SPARSE, True, True, "<domain/>"),
            "write memory to /m (sparse, live)",
        ),
        (
            s.SwitchLayers((("vda", "/a", 1), ("vdb", "/b", 2))),
            "switch to the overlays of vda, vdb",
        ),
        (s.ResumeGuest(), "resume the guest"),
        (s.SettleGuest(), "reopen the disks of the paused guest"),
        (s.SealMemory("/m"), "make /m durable and mark it whole"),
        (s.StartQemu(1, "/r", "<domain/>", incoming=False), "start a new QEMU"),
        (s.StartQemu(1, "/r", "<domain/>", incoming=True), "start a new QEMU that waits for memory"),
        (s.LoadMemory("/r", "/m"), "load memory from /m"),
        (s.KillQemu("/r"), "end the old QEMU"),
        (s.RemoveFile("/f"), "delete /f"),
        (MERGE, "vda: merge /top into /base (up to 3.0 MiB)"),
        (
            dataclasses.replace(MERGE, down=False, bytes=30 * MIB),
            "vda: merge /base into /top (up to 30 MiB)",
        ),
        (s.RelinkBacking("/o", "qcow2", "/b", "raw"), "point /o at /b"),
        (s.StoreWrite(record=RECORD), "write it down: the domain's definition"),
        (
            s.StoreWrite(
                put_snapshots=(Snapshot("a"),), delete_snapshots=("b",), set_current=True, current="a"
            ),
            "write it down: snapshot a, no snapshot b, current a",
        ),
        (s.StoreWrite(set_current=True), "write it down: current none"),
        (
            s.AddDomains((s.NewDomain(RECORD, (Snapshot("a"),), "a", ()),)),
            "write it down: domain d",
        ),
        (s.Together((s.Row("a", ()), s.Row("b", ()))), "side by side, for a, b"),
        (s.ForgetDomain(), "forget the domain"),
        (s.LinkFile("/l", "/f"), "give /f a second name, /l"),
        (s.LoadMemory("/r", "/m", mapped=True), "map memory from /m and load the devices' state"),
        (s.Declare(), "declare the operation decided"),
    ],
)
def test_sentences(step: s.Step, words: str) -> None:
    assert sentence(step) == words


def test_the_four_lists() -> None:
    plan = s.Plan(
        "create",
        "s1",
        prepare=(
            s.CreateOverlay("/o", "qcow2", MIB, "/b", "raw"),
            s.SaveMemory("/m", MemoryWay.STREAM, False, True, "<domain/>"),
        ),
        finish=(MERGE, s.RemoveFile("/top")),
    )
    words = describe(plan)
    assert words.makes == ("/o", "/m")
    assert words.removes == ("/top",)
    assert words.merges == ("vda: merge /top into /base (up to 3.0 MiB)",)
    assert words.steps == (
        "prepare: make overlay /o on /b",
        "prepare: write memory to /m (stream)",
        "commit: declare the operation decided",
        "finish: vda: merge /top into /base (up to 3.0 MiB)",
        "finish: delete /top",
    )


def test_what_is_done_side_by_side() -> None:
    rows = (s.Row("a", (s.LinkFile("/a", "/f"), s.ResumeGuest())), s.Row("b", (s.LinkFile("/b", "/f"),)))
    words = describe(s.Plan("clone", "a, b", prepare=(s.Together(rows),)))
    assert words.makes == ("/a", "/b")
    assert words.steps == (
        "prepare: side by side, for a, b",
        "prepare: a: give /f a second name, /a",
        "prepare: a: resume the guest",
        "prepare: b: give /f a second name, /b",
        "commit: declare the operation decided",
    )


def test_every_kind_of_step_has_a_sentence() -> None:
    """A new kind must not fall through to None."""
    for kind in s.Step.__args__:
        values = {f.name: _any(str(f.type)) for f in dataclasses.fields(kind)}
        assert sentence(kind(**values)), kind


def _any(kind: str) -> object:
    if kind == "MemoryWay":
        return MemoryWay.STREAM
    if "tuple" in kind:
        return ()
    if kind == "DomainRecord":
        return RECORD
    if kind == "DomainRecord | None":
        return None
    return 1 if "int" in kind else "x"


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0.0 MiB"),
        (65536, "0.1 MiB"),
        (10 * MIB - 1, "10.0 MiB"),
        (10 * MIB, "10 MiB"),
        (1 << 40, "1048576 MiB"),
    ],
)
def test_sizes(size: int, words: str) -> None:
    assert mib(size) == words
