"""`qemu.huge_pages`: which ranges, and that a process has its huge pages again."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtsnap.qemu import huge_pages
from virtsnap.qemu.huge_pages import eligible, restore, whole

MIB = 1 << 20
SMAPS = """7f0000001000-7f0000a01000 rw-p 00000000 00:00 0
Size:              10240 kB
THPeligible:           1
VmFlags: rd wr mr mw me hg
7f0010000000-7f0010400000 rw-p 00000000 00:00 0
THPeligible:           0
VmFlags: rd wr mr mw me hg
7f0020000000-7f0020400000 rw-p 00000000 00:00 0                          [heap]
THPeligible:           1
VmFlags: rd wr mr mw me
7f0030000000-7f0030001000 rw-p 00000000 00:00 0
THPeligible:           1
VmFlags: rd wr mr mw me hg
"""


def test_only_where_huge_pages_were_asked_for() -> None:
    assert list(eligible(SMAPS, 2 * MIB)) == [(0x7F0000200000, 0x7F0000A00000)]


def test_only_ranges_that_are_in_memory() -> None:
    there, zero, absent = bytes(7) + b"\x81", bytes(7) + b"\x80", bytes(8)
    entries = there * 4 + (there * 3 + zero) + there * 8 + (there * 3 + absent) + there * 4
    assert list(whole(entries, 4)) == [(0, 4), (8, 16), (20, 24)]
    assert list(whole(b"", 4)) == []


@pytest.fixture
def process() -> Iterator[tuple[int, mmap.mmap]]:
    """A process with 4 MiB of touched memory and 2 MiB of read memory, in small pages."""
    if "[never]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        pytest.skip("this host has no huge pages")
    memory = mmap.mmap(-1, 8 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        for at in range(0, 6 * MIB, 4096):
            memory[at] = 7
        sum(memory[at] for at in range(6 * MIB, 8 * MIB, 4096))
        memory.madvise(mmap.MADV_HUGEPAGE)
        os.write(ready[1], b".")
        os.read(go[0], 1)
        os._exit(0 if memory[5 * MIB] == 7 else 1)
    os.read(ready[0], 1)
    try:
        yield pid, memory
    finally:
        os.write(go[1], b".")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        for end in (*ready, *go):
            os.close(end)


def test_a_process_has_them_again(process: tuple[int, mmap.mmap]) -> None:
    pid, _ = process

    def figures() -> tuple[int, int]:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        found = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        return found["AnonHugePages"], found["Anonymous"]

    huge, taken = figures()
    assert huge == 0
    done = restore(pid)
    if not done:
        pytest.skip("needs Linux 6.1 and CAP_SYS_NICE")
    assert done >= 4 * MIB
    assert figures() == (done >> 10, taken)


def test_a_process_that_is_gone_is_no_error() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert restore(pid) == 0


def test_without_the_right_to_it(monkeypatch: pytest.MonkeyPatch, process: tuple[int, mmap.mmap]) -> None:
    monkeypatch.setattr(huge_pages, "_MADV_COLLAPSE", 9999)
    assert restore(process[0]) == 0
