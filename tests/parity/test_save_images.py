"""A guest goes to and fro between a real libvirt and us in saved files, and remembers everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guest import build as build_guest
from tests.parity import oracle
from tests.parity.both import Both, running

pytestmark = [pytest.mark.parity, pytest.mark.guest]

FORMATS = ("raw", "gzip", "zstd", "sparse")


@pytest.fixture
def both() -> Iterator[Both]:
    reason = oracle.missing()
    if reason is not None:
        pytest.skip(reason)
    with running(build_guest()) as both:
        yield both


@pytest.mark.timeout(600)
def test_to_and_fro(both: Both) -> None:
    theirs, ours = str(both.folder / "theirs"), str(both.folder / "ours")
    both.virsh("define", "vm.xml")
    both.virsh("start", "vm")
    for format in FORMATS:
        both.mark(f"{format}-1")
        both.virsh("save", "vm", theirs, "--image-format", format)
        both.virtsnap("restore", theirs)
        assert both.marks() == [f"{format}-1"] * 2
        assert both.virtsnap("domstate", "vm", "--reason") == "running (restored)\n\n"
        both.mark(f"{format}-2")
        both.virtsnap("save", "vm", ours, "--image-format", format)
        both.libvirt.own(Path(ours))
        both.virsh("restore", ours)
        assert both.marks() == [f"{format}-2"] * 2
        assert both.virsh("domstate", "vm", "--reason") == "running (restored)\n\n"


@pytest.mark.timeout(300)
def test_heads_edited_by_the_other_side(both: Both) -> None:
    theirs, ours = str(both.folder / "theirs"), str(both.folder / "ours")
    swap = "sed -i 's/crash>destroy/crash>preserve/'"
    both.virsh("define", "vm.xml")
    both.virsh("start", "vm")
    both.mark("edited")
    both.virsh("save", "vm", theirs)
    both.virtsnap("save-image-edit", theirs, "--paused", editor=swap)
    assert "preserve" in both.virsh("save-image-dumpxml", theirs)
    both.virsh("restore", theirs)
    assert both.virsh("domstate", "vm") == "paused\n\n"
    both.virsh("save", "vm", theirs, "--running")
    both.virtsnap("restore", theirs, "--paused")
    both.virtsnap("save", "vm", ours)
    both.libvirt.own(Path(ours))
    both.virsh("save-image-edit", ours, "--running", editor="sed -i 's/crash>preserve/crash>destroy/'")
    assert "preserve" not in both.virtsnap("save-image-dumpxml", ours)
    both.virtsnap("restore", ours)
    assert both.marks() == ["edited"] * 2
