"""`qemu.guest_pages`: which pages, that a process has them mapped, and in huge pages again."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from virtsnap.qemu import guest_pages
from virtsnap.qemu.guest_pages import eligible, mend, missing, touch, whole

MIB = 1 << 20
Figures = TypeVar("Figures")
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


def test_pages_that_are_not_mapped() -> None:
    there, zero, absent, swapped = (bytes(7) + bytes([mark]) for mark in (0x81, 0x80, 0, 0x40))
    entries = there * 4 + absent * 4 + (there + swapped + zero + absent) + swapped * 4
    assert list(missing(entries, 4)) == [4, 9, 11, 12]


@pytest.fixture
def process() -> Iterator[tuple[int, mmap.mmap]]:
    with _a_process() as made:
        yield made


@contextmanager
def _a_process() -> Iterator[tuple[int, mmap.mmap]]:
    """A process with 6 MiB of touched memory and 2 MiB of read memory in small pages, and 4 MiB of none."""
    if "[never]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        pytest.skip("this host has no huge pages")
    memory = mmap.mmap(-1, 12 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
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


def _in_kib(pid: int, key: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def _put_together_by_the_kernel() -> int:
    """Huge pages that khugepaged made so far, on the whole host."""
    return int(Path("/sys/kernel/mm/transparent_hugepage/khugepaged/pages_collapsed").read_text())


def _undisturbed(measure: Callable[[int], Figures]) -> Figures:
    """What `measure` finds in a process while khugepaged, which does the same, does nothing."""
    for _ in range(20):
        kernels_own = _put_together_by_the_kernel()
        with _a_process() as (pid, _memory):
            figures = measure(pid)
        if _put_together_by_the_kernel() == kernels_own:
            return figures
    pytest.skip("the kernel puts pages together all the time")


def test_a_process_has_them_again() -> None:
    def measure(pid: int) -> tuple[int, int, int, int, int]:
        huge, taken = _in_kib(pid, "AnonHugePages"), _in_kib(pid, "Anonymous")
        done = mend(pid)
        return huge, taken, done, _in_kib(pid, "AnonHugePages"), _in_kib(pid, "Anonymous")

    huge, taken, done, huge_then, taken_then = _undisturbed(measure)
    if not done:
        pytest.skip("needs Linux 6.1 and CAP_SYS_NICE")
    assert huge == 0
    assert done >= 4 * MIB
    assert huge_then == done >> 10
    assert taken_then == taken


def test_a_process_has_its_memory_mapped() -> None:
    def measure(pid: int) -> tuple[int, int, int, int]:
        return _in_kib(pid, "Anonymous"), touch(pid), touch(pid), _in_kib(pid, "Anonymous")

    taken, count, again, taken_then = _undisturbed(measure)
    assert count >= 1  # 2 MiB of the 4 are whole at least, wherever the mapping begins
    assert again == 0
    assert taken_then == taken


def test_a_process_that_is_gone_is_no_error() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert (mend(pid), touch(pid)) == (0, 0)


def test_without_the_right_to_it(monkeypatch: pytest.MonkeyPatch, process: tuple[int, mmap.mmap]) -> None:
    monkeypatch.setattr(guest_pages, "_MADV_COLLAPSE", 9999)
    assert mend(process[0]) == 0
