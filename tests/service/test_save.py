"""Saving a domain into a file and bringing it back, without a guest: files, states, refusals."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.service.conftest import Define
from tests.service.local_domain import BareDomain, skip_without
from tests.service.whole import assert_whole
from virtsnap.formats.save_image import MAGIC
from virtsnap.model.domain import DomainState, Reason
from virtsnap.model.errors import (
    ConfigUnsupported,
    InvalidArg,
    NoDomain,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    SystemRefused,
    VirtsnapError,
)
from virtsnap.model.flags import DomainList, DomainSaveRestore, DomainUndefine
from virtsnap.qemu import capabilities, mapped, memory

pytestmark = pytest.mark.real

FORMATS = ["raw", "gzip", "bzip2", "xz", "zstd", "sparse"]


async def reason(domain: BareDomain) -> Reason:
    return (await domain.service.domain_state(domain.uuid))[1]


@pytest.mark.parametrize("format", FORMATS)
async def test_saved_and_restored(bare: BareDomain, format: str) -> None:
    await skip_without(format)
    service, path = bare.service, bare.folder / "state"
    await bare.start()
    await service.save(bare.uuid, str(path), image_format=format)
    assert await reason(bare) is Reason.SHUTOFF_SAVED
    assert bare.processes() == []
    assert path.stat().st_mode & 0o777 == 0o600
    header = memory.read_header(str(path))
    assert (header.format.name.lower(), header.was_running) == (format, True)
    before = path.read_bytes()
    assert (await service.restore(str(path))).name == "bare"
    assert await reason(bare) is Reason.RUNNING_RESTORED
    assert path.read_bytes() == before
    await assert_whole(bare, "state")


def _guest_memory(pid: int, offset: int) -> int | None:
    """Where a process has mapped a file without a name from that offset on."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if int(fields[2], 16) == offset and fields[-1].endswith("(deleted)"):
            return int(fields[0].split("-")[0], 16)
    return None


@pytest.mark.parametrize("shares", [True, False])
async def test_a_restored_guest_does_not_hang_on_the_users_file(
    bare: BareDomain, monkeypatch: pytest.MonkeyPatch, shares: bool
) -> None:
    await skip_without("sparse")

    def share(source: int, target: int) -> None:
        """What XFS and Btrfs do without copying."""
        if not shares:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        os.sendfile(target, source, 0, os.fstat(source).st_size)

    monkeypatch.setattr(mapped, "share_blocks", share)
    service, path = bare.service, bare.folder / "state"
    await bare.start()
    await service.save(bare.uuid, str(path), image_format="sparse")
    version = (await capabilities.probe()).version
    place = mapped.mappable(str(path), memory.read_header(str(path)), version)
    if place is None:
        pytest.skip("this QEMU reads memory images, and does not map them")
    before = path.read_bytes()
    await service.restore(str(path), flags=DomainSaveRestore.PAUSED)
    [pid] = bare.processes()
    at = _guest_memory(pid, place.offset)
    assert (at is not None) is shares
    if at is not None:
        path.write_bytes(bytes(len(before)))
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
            file.seek(at)
            low = file.read(640 << 10)
        assert low == before[place.offset : place.offset + len(low)]
        assert any(low)
    await service.resume(bare.uuid)
    assert await bare.state() is DomainState.RUNNING
    assert sorted(bare.files()) == ["state", "vda.qcow2", "vdb.qcow2"]


async def test_a_paused_domain_stays_paused_unless_somebody_wishes_otherwise(bare: BareDomain) -> None:
    service, path = bare.service, str(bare.folder / "state")
    await bare.start()
    await service.suspend(bare.uuid)
    await service.save(bare.uuid, path)
    await service.restore(path)
    assert await reason(bare) is Reason.PAUSED_MIGRATION
    await service.save(bare.uuid, path, flags=DomainSaveRestore.RUNNING)
    await service.restore(path)
    assert await reason(bare) is Reason.RUNNING_RESTORED
    await service.save(bare.uuid, path)
    await service.restore(path, flags=DomainSaveRestore.PAUSED)
    assert await reason(bare) is Reason.PAUSED_MIGRATION
    # A guest whose disks a save left inactive would not go on.
    await service.resume(bare.uuid)
    assert await bare.state() is DomainState.RUNNING


@pytest.mark.parametrize("channels", [None, 2])
async def test_past_the_cache(bare: BareDomain, channels: int | None) -> None:
    service, path = bare.service, str(bare.folder / "state")
    await bare.start()
    flags = DomainSaveRestore.BYPASS_CACHE
    with pytest.raises(OperationUnsupported, match="needs an image of format sparse"):
        await service.save(bare.uuid, path, flags=flags)
    await skip_without("sparse")
    await service.save(bare.uuid, path, flags=flags, image_format="sparse", channels=channels)
    await service.restore(path, flags=flags, channels=channels)
    assert await bare.state() is DomainState.RUNNING


async def test_a_file_that_is_there_is_replaced_once_the_new_one_is_whole(bare: BareDomain) -> None:
    service, path = bare.service, bare.folder / "state"
    path.write_text("old")
    await bare.start()
    with pytest.raises(OperationFailed, match="Invalid image_format 'foo'"):
        await service.save(bare.uuid, str(path), image_format="foo")
    assert path.read_text() == "old"
    await service.save(bare.uuid, str(path))
    assert path.read_bytes()[:16] == MAGIC
    assert sorted(bare.files()) == ["state", "vda.qcow2", "vdb.qcow2"]


async def test_refusals_leave_the_domain_running(bare: BareDomain) -> None:
    service, folder = bare.service, bare.folder

    async def refused(kind: type[VirtsnapError], text: str, path: str | Path, **options: object) -> None:
        with pytest.raises(kind, match=text):
            await service.save(bare.uuid, str(path), **options)  # type: ignore[arg-type]

    await refused(OperationInvalid, "domain is not running", folder / "state")
    await bare.start()
    await refused(SystemRefused, "Failed to create file '/nodir/x': No such file", "/nodir/x")
    await refused(SystemRefused, "Is a directory", folder)
    await refused(ConfigUnsupported, "in use as an image", folder / "vda.qcow2")
    await refused(ConfigUnsupported, "not a regular file", "/dev/null")
    await refused(InvalidArg, "only supported with the 'sparse'", folder / "state", channels=2)
    text = "cannot be less than 1"
    await refused(InvalidArg, text, folder / "state", channels=0, image_format="sparse")
    assert await reason(bare) is Reason.RUNNING_BOOTED
    await assert_whole(bare)


async def test_a_domain_that_is_gone_comes_back_for_as_long_as_it_runs(bare: BareDomain) -> None:
    service, path = bare.service, str(bare.folder / "state")
    await bare.start()
    await service.save(bare.uuid, path)
    await service.undefine(bare.uuid)
    assert not await service.list_domains()
    await service.restore(path)
    info = await service.domain_info(bare.uuid)
    assert (info.persistent, info.state) == (False, DomainState.RUNNING)
    with pytest.raises(OperationInvalid, match="cannot do managed save for transient domain"):
        await service.managed_save(bare.uuid)
    await service.save(bare.uuid, path)
    assert not await service.list_domains()
    await service.restore(path)
    await service.destroy(bare.uuid)
    with pytest.raises(NoDomain):
        await service.domain_info(bare.uuid)
    await service.restore(path)


async def test_another_definition_for_the_same_hardware(bare: BareDomain) -> None:
    service, path = bare.service, str(bare.folder / "state")
    await bare.start()
    await service.save(bare.uuid, path)
    xml = await service.save_image_xml(path)
    moved = bare.folder / "moved.qcow2"
    shutil.move(bare.folder / "vda.qcow2", moved)
    await service.save_image_define_xml(path, xml.replace("/vda.qcow2", "/moved.qcow2"))
    assert "/moved.qcow2" in await service.save_image_xml(path)
    await service.restore(path)
    assert (await bare.sources())["vda"] == str(moved)
    await service.destroy(bare.uuid)
    shutil.move(moved, bare.folder / "vda.qcow2")
    await service.restore(path, xml)
    assert (await bare.sources())["vda"] == str(bare.folder / "vda.qcow2")


CHANGES = [
    ("<name>bare", "<name>bear", "Target domain name 'bear' does not match source 'bare'"),
    ("'>16384</memory>", "'>32768</memory>", "Target domain max memory 32768 does not match source 16384"),
    ("16384</current", "8192</current", "Target domain current memory 8192 does not match source 16384"),
    ("static'>1<", "static'>2<", "Target domain vCPU max 2 does not match source 1"),
    (">qemu64<", ">Nehalem<", "Target CPU model Nehalem does not match source qemu64"),
    ("<disk type.*?</disk>", "", "Target domain disk count 0 does not match source 2"),
    ("slot='0x00' function='0x0'/>\n    </disk>", "slot='0x01' function='0x0'/>\n    </disk>", "address"),
    (
        "<memballoon",
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng><memballoon",
        "count",
    ),
    ("type='qemu'", "type='kvm'", "virt type"),
    ("model='none'/>\n  </devices", "model='virtio'/>\n  </devices", "does not match source"),
]


@pytest.mark.parametrize(("old", "new", "text"), CHANGES)
async def test_other_hardware_is_refused(bare: BareDomain, old: str, new: str, text: str) -> None:
    service, path = bare.service, bare.folder / "state"
    await bare.start()
    await service.save(bare.uuid, str(path))
    xml = await service.save_image_xml(str(path))
    changed = re.sub(old, new, xml, flags=re.DOTALL)
    assert changed != xml
    before = path.read_bytes()
    with pytest.raises(VirtsnapError, match=text):
        await service.restore(str(path), changed)
    with pytest.raises(VirtsnapError, match=text):
        await service.save_image_define_xml(str(path), changed)
    assert path.read_bytes() == before
    assert await reason(bare) is Reason.SHUTOFF_SAVED
    await assert_whole(bare, "state")


async def test_whose_it_is(bare: BareDomain, define: Define) -> None:
    service, path = bare.service, str(bare.folder / "state")
    await bare.start()
    await service.save(bare.uuid, path)
    await service.restore(path)
    with pytest.raises(OperationInvalid, match="domain 'bare' is already active"):
        await service.restore(path)
    other = await define("other")
    with pytest.raises(OperationFailed, match="domain 'bare' already exists with uuid"):
        await other.service.restore(path)


async def test_managed_save(bare: BareDomain) -> None:
    service = bare.service
    saved = bare.folder / f"root/save/{bare.uuid}.save"
    with pytest.raises(OperationInvalid, match="domain is not running"):
        await service.managed_save(bare.uuid)
    await bare.start()
    await service.managed_save(bare.uuid)
    assert saved.exists()
    assert (await service.domain_info(bare.uuid)).managed_save
    assert len(await service.list_domains(DomainList.MANAGEDSAVE)) == 1
    with pytest.raises(OperationInvalid, match="while domain managed save image exists"):
        await service.undefine(bare.uuid)
    await bare.start()
    assert await reason(bare) is Reason.RUNNING_RESTORED
    assert [entry.name for entry in saved.parent.iterdir()] == []
    await service.managed_save(bare.uuid, DomainSaveRestore.PAUSED)
    await bare.start()
    assert await bare.state() is DomainState.PAUSED
    await service.managed_save(bare.uuid)
    await service.managed_save_remove(bare.uuid)
    with pytest.raises(SystemRefused):
        await service.managed_save_remove(bare.uuid)
    await bare.start()
    assert await reason(bare) is Reason.RUNNING_BOOTED
    await service.managed_save(bare.uuid)
    await service.undefine(bare.uuid, DomainUndefine.MANAGED_SAVE)
    assert [entry.name for entry in saved.parent.iterdir()] == []
    bare.ended = True
    await service.close()
