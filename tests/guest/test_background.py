"""Memory written while the guest runs on and rewrites it: every image is of one instant, disks included.

The guest writes generation after generation, page by page, into a file in its memory, and says each first on
a disk. At any instant the pages are some of one generation, followed by all others of the one before. Every
other generation is zeros, of which images keep nothing.

VIRTSNAP_LIVE_SNAPSHOTS is the number of snapshots. VIRTSNAP_LIVE_MODE is how their memory is written: one of
docs/memory.md's modes, of a guest that runs on its image where that is not 'background', or 'automatic', by
the guest's dirty rate. Without it they are what is taken by itself of a guest as small as this one.
"""

from __future__ import annotations

import os

import pytest

from tests.guest.machine import SEED, Machine
from virtsnap.formats.save_image import SaveFormat
from virtsnap.model.snapshot import MemoryMode
from virtsnap.plan import memory_way
from virtsnap.qemu.mapped import READ_VARIABLE
from virtsnap.qemu.memory import read_header
from virtsnap.service.interface import MadeSnapshot

pytestmark = [pytest.mark.guest, pytest.mark.timeout(1200)]

SNAPSHOTS = int(os.environ.get("VIRTSNAP_LIVE_SNAPSHOTS", "3"))
MODE = os.environ.get("VIRTSNAP_LIVE_MODE", "")
PAGES = 128
WRITER = (
    "page() { if [ $((n % 2)) = 0 ]; then cat /tmp/zeros; else printf '%4096d' $n; fi; }; "
    f"(n=0; while :; do n=$((n+1)); disk put vda $n; i=0; while [ $i -lt {PAGES} ]; do "
    "page | dd of=/tmp/pages bs=4096 seek=$i conv=notrunc 2>/dev/null; i=$((i+1)); done; done) "
    ">/dev/null 2>&1 & echo $! >/tmp/writer"
)


async def generations(machine: Machine) -> tuple[int, list[int]]:
    """What the disk says, and every page. The writer is held meanwhile, and goes on."""
    text = await machine.guest(
        "kill -STOP $(cat /tmp/writer); disk get vda; "
        "tr '\\0' 0 </tmp/pages | fold -w 4096 | sed 's/^0*$/0/' | tr -d ' '; kill -CONT $(cat /tmp/writer)"
    )
    said, *pages = (int(line) for line in text.split())
    return said, pages


def check(said: int, pages: list[int]) -> None:
    # The disk hears of a generation before its first page is written.
    new, old = (generation if generation % 2 else 0 for generation in (said, said - 1))
    written = pages.count(new)
    assert pages == [new] * written + [old] * (PAGES - written)


@pytest.fixture(autouse=True)
def memory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is mapped from a file cannot be protected; the guests of these tests begin with a revert."""
    monkeypatch.setenv(READ_VARIABLE, "1")


@pytest.fixture
def chosen_mode(memory_of_its_own: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The modes for the document, where VIRTSNAP_LIVE_MODE names one."""
    if MODE == "automatic":
        monkeypatch.setattr(memory_way, "LITTLE_BYTES", 0)
        monkeypatch.setattr(memory_way, "MILD_MIB", 1)
    if MODE in ("", "automatic"):
        return ""
    if MODE != "background":
        monkeypatch.delenv(READ_VARIABLE)
    return f"mode='{MODE}'"


async def test_every_image_is_of_one_instant(chosen_mode: str, machine: Machine) -> None:
    plan = await machine.cli_ok(
        "snapshot-create-as", "guest", "x", "--memspec", f"{machine.folder}/x.mem", "--dry-run"
    )
    if "background" not in plan and not chosen_mode:
        pytest.skip("needs QEMU 9.0, and userfaultfd for this user")
    await machine.guest(
        f"mkdir -p /tmp && head -c {4096 * PAGES} /dev/zero >/tmp/pages && head -c 4096 /dev/zero >/tmp/zeros"
    )
    await machine.guest(f"disk put vda 0; {WRITER}")
    await machine.guest("while [ $(disk get vda) -lt 2 ]; do :; done")
    modes = set()
    for number in range(SNAPSHOTS):
        xml = machine.full_xml(f"s{number}").replace("<memory ", f"<memory {chosen_mode} ")
        found = await machine.service.snapshot_create_xml(machine.uuid, xml)
        assert isinstance(found, MadeSnapshot)
        modes.add(found.memory_mode)
        check(*await generations(machine))
    assert MODE not in {mode.value for mode in MemoryMode} or modes == {MODE}
    seen = []
    for number in range(SNAPSHOTS):
        await machine.cli_ok("snapshot-revert", "guest", f"s{number}")
        said, pages = await generations(machine)
        check(said, pages)
        seen.append(said)
    assert seen == sorted(seen)
    assert seen[0] < seen[-1] + 1


@pytest.mark.parametrize("mode", ["background", "in-place", "paused", "stream"])
async def test_markers_by_every_way(machine: Machine, mode: str) -> None:
    await machine.mark("one")
    memory = f"{machine.folder}/one.mem"
    words = ("snapshot-create-as", "guest", "one", "--memspec", f"{memory},mode={mode}")
    if mode == "background" and (await machine.cli(*words, "--dry-run")).status:
        pytest.skip("needs QEMU 9.0, and userfaultfd for this user")
    await machine.cli_ok(*words)
    assert (read_header(memory).format is SaveFormat.RAW) == (mode == "stream")
    await machine.mark("now")
    await machine.cli_ok("snapshot-revert", "guest", "one")
    assert await machine.marks() == ["one"] * 3
    assert "unknown memory snapshot mode 'fast'" in await machine.cli_fails(
        "snapshot-create-as", "guest", "two", "--memspec", f"{machine.folder}/two.mem,mode=fast"
    )


async def test_markers_of_a_guest_that_runs_on_its_image(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose memory may not be protected: in place, and in a stream, while it stands still and with --live."""
    monkeypatch.delenv(READ_VARIABLE)
    await machine.cli_ok("snapshot-revert", "guest", SEED)
    ways = {"in-place": ("mode=in-place",), "still": ("mode=stream",), "live": ("mode=stream", "--live")}
    for name, (mode, *options) in ways.items():
        await machine.mark(name)
        memory = f"{machine.folder}/{name}.mem"
        await machine.cli_ok("snapshot-create-as", "guest", name, "--memspec", f"{memory},{mode}", *options)
        assert (read_header(memory).format is SaveFormat.RAW) == (mode == "mode=stream")
    for name in ways:
        await machine.cli_ok("snapshot-revert", "guest", name)
        assert await machine.marks() == [name] * 3


async def test_a_guest_that_rewrites_its_memory(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast is measured, what follows from it is not: this guest is a small one on a host of any speed."""
    await machine.mark("one")
    monkeypatch.setattr(memory_way, "LITTLE_BYTES", 0)
    monkeypatch.setattr(memory_way, "MILD_MIB", 100)
    idle = await made(machine, "idle")
    if idle.memory_mode != "background":
        pytest.skip("needs QEMU 9.0, and userfaultfd for this user")
    assert idle.memory_reason == ""
    await machine.guest("dirty start 16")
    monkeypatch.setattr(memory_way, "MILD_MIB", 1)
    monkeypatch.setattr(memory_way, "FAST_MIB", 10**6)
    busy = await made(machine, "busy")
    assert busy.memory_mode == "in-place"
    assert busy.memory_reason.startswith("not background: the guest changes ")
    monkeypatch.setattr(memory_way, "FAST_MIB", 0)
    faster = await made(machine, "faster")
    assert faster.memory_mode == "background"
    assert faster.memory_reason.startswith("not in-place: the guest changes ")
    await machine.guest("dirty stop")
    await machine.mark("now")
    assert (machine.folder / "busy.mem").stat().st_blocks * 512 < 140 << 20
    await machine.cli_ok("snapshot-revert", "guest", "busy")
    assert await machine.marks() == ["one"] * 3


async def made(machine: Machine, name: str) -> MadeSnapshot:
    found = await machine.service.snapshot_create_xml(machine.uuid, machine.full_xml(name))
    assert isinstance(found, MadeSnapshot)
    return found
