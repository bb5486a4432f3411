"""`qemu.images` with the real qemu-img; content is written and read back with qemu-io."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.real.real_qemu import EMULATOR_IMG, QEMU_IO, qemu
from virtsnap.model.errors import (
    ConfigUnsupported,
    Failed,
    InternalRefused,
    OperationInvalid,
    SystemRefused,
)
from virtsnap.model.facts import ImageFacts
from virtsnap.qemu import images

pytestmark = pytest.mark.real

MIB = 1 << 20


def make(path: Path | str, *arguments: str, size: str = "4M", format: str = "qcow2") -> str:
    command = [EMULATOR_IMG, "create", "-q", "-f", format, *arguments, f"{path}", size]
    subprocess.run(command, check=True, capture_output=True)
    return str(path)


def write(path: str, pattern: int, at: int, length: int = 65536, format: str = "qcow2") -> None:
    command = [QEMU_IO, "-f", format, "-c", f"write -q -P {pattern} {at} {length}", path]
    subprocess.run(command, check=True, capture_output=True)


def holds(path: str, pattern: int, at: int, length: int = 65536, format: str = "qcow2") -> bool:
    command = [QEMU_IO, "-r", "-f", format, "-c", f"read -q -P {pattern} {at} {length}", path]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode == 0 and "verification failed" not in done.stdout


async def overlay(path: Path | str, backing: str, backing_format: str = "qcow2", size: int = 4 * MIB) -> str:
    await images.create_overlay(
        str(path), format="qcow2", backing_path=backing, backing_format=backing_format, size=size
    )
    return str(path)


async def test_info_of_qcow2(tmp_path: Path) -> None:
    base = make(tmp_path / "base", format="raw")
    path = make(tmp_path / "top.qcow2", "-b", "base", "-F", "raw", "-o", "cluster_size=2M,extended_l2=on")
    found = await images.info(path, format="qcow2")
    assert (found.path, found.format, found.virtual_size) == (path, "qcow2", 4 * MIB)
    assert (found.backing_path, found.backing_format) == (base, "raw")
    assert (found.cluster_size, found.extended_l2, found.compat) == (2 * MIB, True, "1.1")
    assert not found.dirty
    assert not found.corrupt
    assert found.actual_size == os.stat(path).st_blocks * 512 > 0


async def test_info_lists_internal_snapshots(tmp_path: Path) -> None:
    path = make(tmp_path / "a.qcow2")
    subprocess.run([EMULATOR_IMG, "snapshot", "-c", "one", path], check=True)
    [found] = (await images.info(path, format="qcow2")).snapshots
    assert (found.id, found.name, found.vm_state_size) == ("1", "one", 0)
    assert found.date > 0


async def test_raw_is_never_looked_into(tmp_path: Path) -> None:
    path = make(tmp_path / "evil.raw", "-b", "/etc/shadow", "-F", "raw")  # a qcow2 header, called raw
    found = await images.info(path, format="raw")
    assert found.backing_path is None
    assert found.virtual_size == (os.path.getsize(path) + 511) // 512 * 512
    assert [image.path for image in await images.chain(path, "raw")] == [path]


async def test_image_in_use_can_be_read_and_built_upon(tmp_path: Path) -> None:
    path = make(tmp_path / "a.qcow2")
    drive = f"driver=qcow2,node-name=n,file.driver=file,file.filename={path}"
    async with qemu("-blockdev", drive, "-device", "virtio-blk-pci,drive=n"):
        assert (await images.info(path, format="qcow2")).virtual_size == 4 * MIB
        top = await overlay(tmp_path / "top.qcow2", path)
        assert [image.path for image in await images.chain(top, "qcow2")] == [top, path]


async def test_wrong_format_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "a.raw", format="raw")
    with pytest.raises(InternalRefused, match="Image is not in qcow2 format"):
        await images.info(path, format="qcow2")


@pytest.mark.parametrize(
    "name", ["with blank", "a,b", "nbd:c", "ünïcode", "-dash", "json:{}", "per%cent", "a:b"]
)
async def test_names_that_tools_trip_over(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    base = make(folder / name)
    top = await overlay(folder / f"{name}.top", base)
    upper = await overlay(folder / f"{name}.upper", top)
    write(top, 7, 0)
    assert [image.path for image in await images.chain(upper, "qcow2")] == [upper, top, base]
    await images.commit(top, base)
    await images.rebase(upper, base, "qcow2", unsafe=True)
    assert holds(base, 7, 0)
    assert [image.path for image in await images.chain(upper, "qcow2")] == [upper, base]


async def test_relative_names_are_resolved_from_the_images_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    base = make(tmp_path / "base.qcow2")
    top = make(tmp_path / "sub" / "top.qcow2", "-u", "-b", "../base.qcow2", "-F", "qcow2")
    assert (await images.info(top, format="qcow2")).backing_path == base
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "sub2").symlink_to(tmp_path / "elsewhere" / "deep")
    through = make(tmp_path / "up.qcow2", "-u", "-b", "sub2/../base.qcow2", "-F", "qcow2")
    assert (await images.info(through, format="qcow2")).backing_path == str(
        tmp_path / "elsewhere" / "base.qcow2"
    )


def test_backing_names() -> None:
    assert images.backing_file("/d/top", "file:base") == "/d/base"
    described = 'json:{"driver":"qcow2","file":{"driver":"file","filename":"/x/a:b"}}'
    assert images.backing_file("/d/top", described) == "/x/a:b"
    assert images.backing_file("/d/top", 'json:{"driver":"raw","file.filename":"/x"}') == "/x"
    for name in (
        "nbd://host/export",
        'json:{"driver":"raw","file":{"driver":"nbd","host":"h"}}',
        'json:{"file.driver":"https","file.filename":"/x"}',
    ):
        with pytest.raises(ConfigUnsupported):
            images.backing_file("/d/top", name)
    with pytest.raises(InternalRefused, match="JSON"):
        images.backing_file("/d/top", "json:{")


async def test_missing_images_in_libvirts_words(tmp_path: Path) -> None:
    who = f"(as uid:{os.geteuid()}, gid:{os.getegid()}): No such file or directory"
    with pytest.raises(SystemRefused) as caught:
        await images.chain(f"{tmp_path}/none", "qcow2")
    assert str(caught.value) == f"Cannot access storage file '{tmp_path}/none' {who}"
    top = await overlay(tmp_path / "top.qcow2", f"{tmp_path}/none")
    with pytest.raises(SystemRefused) as caught:
        await images.chain(top, "qcow2")
    assert str(caught.value) == f"Cannot access backing file '{tmp_path}/none' of storage file '{top}' {who}"


async def test_loops_are_found(tmp_path: Path) -> None:
    one, two = f"{tmp_path}/one", f"{tmp_path}/two"
    await overlay(one, two)
    await overlay(two, one)
    with pytest.raises(InternalRefused, match="self-referential"):
        await images.chain(one, "qcow2")


async def test_backing_without_format_is_not_guessed(tmp_path: Path) -> None:
    path = Path(await overlay(tmp_path / "a.qcow2", make(tmp_path / "base.raw", format="raw"), "raw"))
    # An old image: turn the header extension that names the format into one that nobody knows.
    path.write_bytes(path.read_bytes().replace(b"\xe2\x79\x2a\xca", b"\x12\x34\x56\x78", 1))
    assert (await images.info(str(path), format="qcow2")).backing_format is None
    with pytest.raises(OperationInvalid, match="was not specified in the image metadata"):
        await images.chain(str(path), "qcow2")


async def test_overlay_is_private_and_never_overwrites(tmp_path: Path) -> None:
    base = make(tmp_path / "base.qcow2")
    old = os.umask(0)
    try:
        top = await overlay(tmp_path / "top.qcow2", base)
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(top).st_mode) == 0o600
    before = Path(top).read_bytes()
    with pytest.raises(Failed) as caught:
        await overlay(top, base)
    assert str(caught.value) == f"failed to create image file '{top}': File exists"
    assert Path(top).read_bytes() == before


@pytest.mark.parametrize("size", [512, 5 * MIB + 1, 100 << 30])
@pytest.mark.parametrize(("cluster_size", "extended_l2"), [(None, False), (512, False), (2 * MIB, True)])
async def test_overlay_is_what_qemu_img_makes(
    tmp_path: Path, size: int, cluster_size: int | None, extended_l2: bool
) -> None:
    """Ours is written without it, and must be the same to QEMU."""
    told = []
    make(f"{tmp_path}/a base: \udcff", format="raw")
    for existing in (False, True):
        path = tmp_path / f"{existing}"
        if existing:
            path.touch()
        await images.create_overlay(
            str(path),
            format="qcow2",
            backing_path=f"{tmp_path}/a base: \udcff",
            backing_format="raw",
            size=size,
            cluster_size=cluster_size,
            extended_l2=extended_l2,
            existing=existing,
        )
        told.append(replace(await images.info(str(path), format="qcow2"), path="", actual_size=0))
        check = subprocess.run([EMULATOR_IMG, "check", "-q", "-f", "qcow2", path], capture_output=True)
        assert check.returncode == 0, check.stderr
        assert path.stat().st_mode & 0o777 == 0o600 or existing
    assert told[0] == told[1]


async def test_overlay_is_written_to_from_end_to_end(tmp_path: Path) -> None:
    base = make(tmp_path / "base", size="64M")
    write(base, 1, 0)
    top = await overlay(tmp_path / "top", base, size=64 * MIB)
    write(top, 2, 64 * MIB - 65536)
    subprocess.run([EMULATOR_IMG, "check", "-q", top], check=True)
    assert holds(top, 1, 0)
    assert holds(top, 2, 64 * MIB - 65536)
    assert holds(top, 0, 32 * MIB)


async def test_overlay_takes_over_what_the_caller_wants(tmp_path: Path) -> None:
    base = make(tmp_path / "base.qcow2")
    top = tmp_path / "top.qcow2"
    top.touch()
    await images.create_overlay(
        str(top),
        format="qcow2",
        backing_path=base,
        backing_format="qcow2",
        size=8 * MIB,
        cluster_size=2 * MIB,
        extended_l2=True,
        existing=True,
    )
    found = await images.info(str(top), format="qcow2")
    assert (found.virtual_size, found.cluster_size, found.extended_l2) == (8 * MIB, 2 * MIB, True)


async def test_failed_overlay_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"Child process .*qemu-img"):
        await images.create_overlay(
            f"{tmp_path}/top",
            format="qcow2",
            backing_path="/base",
            backing_format="qcow2",
            size=MIB,
            cluster_size=7,
        )
    with pytest.raises(Failed, match="No such file or directory"):
        await overlay(tmp_path / "none" / "top", "/base")
    assert list(tmp_path.iterdir()) == []


async def test_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8k", "none", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        with pytest.raises(Failed, match="No space left on device"):
            await overlay(mount / "top", "/base")
        assert list(mount.iterdir()) == []
    finally:
        subprocess.run(["umount", str(mount)], check=True)


async def test_missing_tool() -> None:
    with pytest.raises(Failed, match="Cannot find 'qemu-img-none' in path"):
        await images.create("/tmp/never-made", format="qcow2", size=MIB, emulator_img="qemu-img-none")
    assert not os.path.exists("/tmp/never-made")


async def test_commit_over_several_layers_with_progress(tmp_path: Path) -> None:
    base = make(tmp_path / "base.raw", format="raw")
    middle = await overlay(tmp_path / "middle", base, "raw")
    top = await overlay(tmp_path / "top", middle)
    write(middle, 1, 0)
    write(middle, 1, 65536)
    write(top, 2, 65536)
    write(top, 2, 131072)
    calls: list[tuple[int, int]] = []
    for _ in range(2):  # the second time: as after a crash
        await images.commit(top, base, lambda done, total: calls.append((done, total)))
        assert holds(base, 1, 0, format="raw")
        assert holds(base, 2, 65536, 2 * 65536, format="raw")
    assert calls
    assert calls[-1][0] == calls[-1][1] > 0
    with pytest.raises(InternalRefused, match="is not below"):
        await images.commit(base, top, format="raw")


async def test_rebase_copies_what_differs(tmp_path: Path) -> None:
    base = make(tmp_path / "base.raw", format="raw")
    write(base, 9, 3 * MIB, format="raw")
    middle = await overlay(tmp_path / "middle", base, "raw")
    top = await overlay(tmp_path / "top", middle)
    write(middle, 1, 0)
    write(top, 2, 65536)
    await images.rebase(top, base, "raw", unsafe=False)
    found = await images.info(top, format="qcow2")
    assert (found.backing_path, found.backing_format) == (base, "raw")
    os.unlink(middle)
    assert holds(top, 1, 0)
    assert holds(top, 2, 65536)
    await images.rebase(top, None, None, unsafe=False)
    assert (await images.info(top, format="qcow2")).backing_path is None
    os.unlink(base)
    assert holds(top, 1, 0)
    assert holds(top, 9, 3 * MIB)


async def test_cancelled_merge_takes_qemu_img_down(tmp_path: Path) -> None:
    base = make(tmp_path / "base.raw", format="raw", size="256M")
    top = await overlay(tmp_path / "top", base, "raw", 256 * MIB)
    write(top, 1, 0, 200 * MIB)
    task: asyncio.Task[None] = asyncio.create_task(
        images.commit(top, base, lambda done, total: task.cancel())
    )
    with pytest.raises(asyncio.CancelledError):
        await task
    # The lock on the image is free: nobody writes to it any more.
    write(top, 3, 0)
    await images.commit(top, base)
    assert holds(base, 3, 0, format="raw")
    assert holds(base, 1, 65536, 199 * MIB, format="raw")


async def test_a_long_chain_costs_no_process_for_each_layer(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    counting = tmp_path / "qemu-img"
    counting.write_text(f'#!/bin/sh\necho "$1" >>{calls}\nexec {EMULATOR_IMG} "$@"\n')
    counting.chmod(0o755)
    layers = [make(tmp_path / "0")]
    for number in range(1, 30):
        layers.append(await overlay(tmp_path / str(number), layers[-1]))
    chain = await images.chain(layers[-1], "qcow2", emulator_img=str(counting))
    assert [image.path for image in chain] == layers[::-1]
    assert not calls.exists()
    await images.commit(layers[20], layers[19], emulator_img=str(counting))
    await images.rebase(layers[-1], layers[0], "qcow2", unsafe=False, emulator_img=str(counting))
    assert calls.read_text().split() == ["commit", "rebase"]


async def test_qemu_img_is_asked_about_an_image_that_says_it_is_corrupt(tmp_path: Path) -> None:
    path = make(tmp_path / "image")
    plain = await images.read(path, "qcow2")
    assert plain == ImageFacts(path, "qcow2", 4 * MIB, os.stat(path).st_blocks * 512, cluster_size=65536)
    with open(path, "r+b") as file:
        file.seek(79)
        file.write(b"\x02")  # the lowest byte of incompatible_features
    with pytest.raises(Failed, match="qemu-img-none"):
        await images.read(path, "qcow2", emulator_img="qemu-img-none")
    assert await images.read(path, "qcow2") == plain
