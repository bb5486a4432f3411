"""`qemu.first_pages` on a process that maps a file: what it touched is noted, and that is asked for."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.packages import LabError
from lab.page_cache import cached, drop
from virtsnap.formats.first_pages import MOST_BYTES, UNIT
from virtsnap.model.facts import MappedMemory
from virtsnap.qemu import first_pages

MIB = 1 << 20
OFFSET = 2 * MIB
LENGTH = 128 * MIB
RANGES = ((0, UNIT), (3 * MIB, 3 * MIB + 2 * UNIT), (LENGTH - UNIT, LENGTH))


@pytest.fixture
def image(tmp_path: Path) -> MappedMemory:
    path = tmp_path / "image"
    path.write_bytes(os.urandom(MIB) * (OFFSET // MIB + 8))
    os.truncate(path, OFFSET + LENGTH + MIB)
    try:
        os.setxattr(path, "user.virtsnap.test", b"")
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip("this file system has no attributes")
    return MappedMemory(str(path), OFFSET, LENGTH)


@pytest.fixture
def guest(image: MappedMemory) -> Iterator[mmap.mmap]:
    """The guest's memory, as this process has it mapped."""
    with open(image.path, "rb") as file:
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        memory = mmap.mmap(file.fileno(), LENGTH, flags=mmap.MAP_PRIVATE, prot=protection, offset=OFFSET)
    yield memory
    memory.close()


def touch(guest: mmap.mmap) -> None:
    """Write into `RANGES`: the kernel maps the neighbours too of what is only read."""
    for at in (5, 3 * MIB + UNIT - 1, 3 * MIB + UNIT, LENGTH - 1):
        guest[at] = 7


def forget(path: str) -> None:
    try:
        drop(path)
    except LabError as error:
        pytest.skip(str(error))


def test_what_was_touched_is_noted_with_the_image(
    tmp_path: Path, image: MappedMemory, guest: mmap.mmap
) -> None:
    assert first_pages.noted(image.path) is None
    first_pages.note(os.getpid(), image, 2.0)
    assert first_pages.noted(image.path) is None  # nothing was
    touch(guest)
    first_pages.note(os.getpid(), image, 2.0)
    record = first_pages.noted(image.path)
    assert record is not None
    assert (record.seconds, record.ranges) == (2.0, RANGES)

    os.link(image.path, tmp_path / "clone")
    assert first_pages.noted(str(tmp_path / "clone")) == record
    os.replace(image.path, tmp_path / "moved")
    assert first_pages.noted(image.path) is None
    assert first_pages.noted(str(tmp_path / "moved")) == record
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["clone", "moved"]


def test_what_is_asked_for_is_read_and_nothing_else(image: MappedMemory, guest: mmap.mmap) -> None:
    touch(guest)
    first_pages.note(os.getpid(), image, 2.0)
    guest.close()  # what is mapped stays in the cache
    forget(image.path)
    thread = first_pages.ask(image)
    assert thread is not None
    thread.join()
    for start, end in RANGES:
        assert cached(image.path, OFFSET + start, OFFSET + end) == end - start
    assert cached(image.path) == sum(end - start for start, end in RANGES)


def test_a_record_of_another_content_is_none(image: MappedMemory, guest: mmap.mmap) -> None:
    touch(guest)
    first_pages.note(os.getpid(), image, 2.0)
    status = os.stat(image.path)
    os.utime(image.path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert first_pages.noted(image.path) is None
    assert first_pages.ask(image) is None
    first_pages.note(os.getpid(), image, 2.0)
    assert first_pages.noted(image.path) is not None
    os.truncate(image.path, OFFSET + LENGTH)
    os.utime(image.path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert first_pages.noted(image.path) is None


def test_a_garbled_record_is_none(image: MappedMemory, guest: mmap.mmap) -> None:
    touch(guest)
    first_pages.note(os.getpid(), image, 2.0)
    value = os.getxattr(image.path, first_pages.ATTRIBUTE)
    for garbled in (b"", value[:-1], b"\xff" * len(value)):
        os.setxattr(image.path, first_pages.ATTRIBUTE, garbled)
        assert first_pages.noted(image.path) is None
        assert first_pages.ask(image) is None
    first_pages.note(os.getpid(), image, 2.0)
    assert os.getxattr(image.path, first_pages.ATTRIBUTE) == value


def test_an_image_takes_over_the_record_of_the_one_that_its_guest_came_from(
    tmp_path: Path, image: MappedMemory, guest: mmap.mmap
) -> None:
    younger = tmp_path / "younger"
    younger.write_bytes(b"another")
    first_pages.pass_on(image.path, str(younger))
    assert first_pages.noted(str(younger)) is None  # there was none
    touch(guest)
    first_pages.note(os.getpid(), image, 2.0)
    first_pages.pass_on(image.path, str(younger))
    record = first_pages.noted(str(younger))
    assert record is not None
    assert (record.seconds, record.ranges, record.size) == (0, RANGES, 7)


def test_too_much_is_not_noted(image: MappedMemory, guest: mmap.mmap) -> None:
    for at in range(0, MOST_BYTES, UNIT):
        guest[at] = 7
    first_pages.note(os.getpid(), image, 2.0)
    record = first_pages.noted(image.path)
    assert record is not None
    assert record.ranges == ((0, MOST_BYTES),)
    os.removexattr(image.path, first_pages.ATTRIBUTE)
    guest[MOST_BYTES] = 7
    first_pages.note(os.getpid(), image, 2.0)
    assert first_pages.noted(image.path) is None


def test_of_a_process_that_does_not_map_it_there_is_none(image: MappedMemory) -> None:
    first_pages.note(os.getpid(), image, 2.0)
    assert first_pages.noted(image.path) is None
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(OSError, match=r"No such (file|process)"):
        first_pages.note(pid, image, 2.0)


def test_a_file_that_is_gone_has_none(tmp_path: Path) -> None:
    gone = MappedMemory(str(tmp_path / "gone"), OFFSET, LENGTH)
    assert first_pages.noted(gone.path) is None
    assert first_pages.ask(gone) is None
