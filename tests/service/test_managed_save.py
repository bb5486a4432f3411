"""A managed save is resumed on the disks that it knows, or not at all; broken ones go by libvirt's rules."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from tests.service.local_domain import BareDomain
from virtsnap.formats.save_image import PARTIAL_MAGIC
from virtsnap.model.domain import DomainState, Reason
from virtsnap.model.errors import OperationFailed, OperationInvalid, RevertRisky, VirtsnapError
from virtsnap.model.flags import DomainStart, SnapshotRevert

pytestmark = pytest.mark.real


@pytest.fixture
async def saved(bare: BareDomain) -> BareDomain:
    """With a managed save, its disks filled with 1."""
    await bare.put(1)
    await bare.start()
    await bare.service.managed_save(bare.uuid)
    return bare


def image(domain: BareDomain) -> Path:
    return domain.folder / f"root/save/{domain.uuid}.save"


async def reason(domain: BareDomain) -> Reason:
    return (await domain.service.domain_state(domain.uuid))[1]


async def refused(domain: BareDomain, text: str) -> None:
    with pytest.raises(OperationInvalid, match=f"does not fit its disks any more: .*{text}"):
        await domain.start()
    assert image(domain).exists()
    assert await reason(domain) is Reason.SHUTOFF_SAVED
    assert domain.processes() == []
    await domain.service.create(domain.uuid, DomainStart.FORCE_BOOT)
    assert await reason(domain) is Reason.RUNNING_BOOTED
    assert not image(domain).exists()


async def test_a_disk_that_was_written_to(saved: BareDomain) -> None:
    await saved.put(2)
    await refused(saved, "disk 'vda' has changed since")


async def test_a_definition_on_other_disks(saved: BareDomain) -> None:
    shutil.copy2(saved.folder / "vda.qcow2", saved.folder / "copy.qcow2")
    xml = await saved.service.domain_xml(saved.uuid)
    await saved.service.define_xml(xml.replace("/vda.qcow2", "/copy.qcow2"))
    await refused(saved, "by now, not on")


async def test_a_note_that_is_gone(saved: BareDomain) -> None:
    image(saved).with_suffix(".disks").unlink()
    await refused(saved, "nothing tells")


async def test_snapshots_keep_the_content_and_the_managed_save(saved: BareDomain) -> None:
    await saved.disk_only("one")
    await saved.disk_only("two")
    await saved.service.snapshot_delete(saved.uuid, "one")
    await saved.start()
    assert await reason(saved) is Reason.RUNNING_RESTORED
    assert await saved.got() == [1, 1]
    await saved.service.managed_save(saved.uuid)
    await saved.service.snapshot_delete(saved.uuid, "two")
    await saved.start()
    assert await reason(saved) is Reason.RUNNING_RESTORED
    assert {Path(source).name for source in (await saved.sources()).values()} == {"vda.qcow2", "vdb.qcow2"}


async def test_a_revert_needs_force_and_removes_it(bare: BareDomain) -> None:
    await bare.put(1)
    await bare.disk_only("off")
    await bare.put(2)
    await bare.start()
    await bare.full("on")
    await bare.service.managed_save(bare.uuid)
    with pytest.raises(RevertRisky, match="removal of existing managed saved state"):
        await bare.service.snapshot_revert(bare.uuid, "off")
    assert image(bare).exists()
    await bare.service.snapshot_revert(bare.uuid, "off", SnapshotRevert.FORCE)
    assert not image(bare).exists()
    await bare.start()
    assert await reason(bare) is Reason.RUNNING_BOOTED
    await bare.service.managed_save(bare.uuid)
    await bare.service.snapshot_revert(bare.uuid, "on")
    assert not image(bare).exists()


async def test_what_is_no_image_makes_a_fresh_boot(saved: BareDomain) -> None:
    whole = image(saved).read_bytes()
    note = image(saved).with_suffix(".disks").read_bytes()
    for broken in (b"", whole[:50], b"X" + whole[1:], PARTIAL_MAGIC + whole[16:]):
        image(saved).write_bytes(broken)
        image(saved).with_suffix(".disks").write_bytes(note)
        await saved.start()
        assert await reason(saved) is Reason.RUNNING_BOOTED
        assert not image(saved).exists()
        await saved.service.destroy(saved.uuid)


async def test_other_damage_keeps_the_file(saved: BareDomain) -> None:
    whole = image(saved).read_bytes()
    other = b"<uuid>00000000-0000-0000-0000-000000000001</uuid>"
    foreign = whole.replace(f"<uuid>{saved.uuid}</uuid>".encode(), other)
    cases = {
        whole[:3000]: "failed to read",
        whole[:-1]: "truncated",
        whole[:16] + b"\3\0\0\0" + whole[20:]: "version is not supported",
        foreign: "from a file which belongs to domain 'bare' uuid 00000000",
    }
    for content, text in cases.items():
        image(saved).write_bytes(content)
        with pytest.raises(OperationFailed, match=text):
            await saved.start()
        assert image(saved).read_bytes() == content
        assert await reason(saved) is Reason.SHUTOFF_SAVED
        assert saved.processes() == []


async def test_truncated_anywhere(saved: BareDomain) -> None:
    """At 200 places of a saved file: refused without a QEMU, and nothing has changed."""
    service, path = saved.service, saved.folder / "state"
    whole = image(saved).read_bytes()
    await service.managed_save_remove(saved.uuid)
    choose = random.Random(200)
    for length in [0, 16, 91, 92, len(whole) - 1, *(choose.randrange(len(whole)) for _ in range(195))]:
        path.write_bytes(whole[:length])
        before = os.stat(path)
        with pytest.raises(VirtsnapError):
            await service.restore(str(path))
        assert (os.stat(path).st_size, os.stat(path).st_mtime_ns) == (length, before.st_mtime_ns)
    assert not (saved.folder / "root/run").exists() or not list((saved.folder / "root/run").iterdir())
    assert service.store.domain(saved.uuid) is not None
    assert await reason(saved) is Reason.SHUTOFF_SAVED


async def test_through_the_program(bare: BareDomain) -> None:
    state = bare.folder / "state"
    await bare.start()
    assert await bare.cli_ok("save", "bare", str(state)) == f"\nDomain 'bare' saved to {state}\n\n"
    assert await bare.cli_ok("restore", str(state), "--paused") == f"Domain restored from {state}\n\n"
    assert await bare.cli_ok("domstate", "bare", "--reason") == "paused (migrating)\n\n"
    xml = bare.folder / "new.xml"
    xml.write_text((await bare.cli_ok("save-image-dumpxml", str(state))).replace("restart", "destroy"))
    assert await bare.cli_ok("save-image-define", str(state), str(xml)) == f"State file {state} updated.\n\n"
    assert (
        await bare.cli_ok("managedsave", "bare", "--running") == "\nDomain 'bare' state saved by libvirt\n\n"
    )
    assert "saved" in await bare.cli_ok("list", "--all", "--managed-save")
    assert "Managed save:   yes" in await bare.cli_ok("dominfo", "bare")
    error = "error: Refusing to undefine while domain managed save image exists\n"
    assert await bare.cli_fails("undefine", "bare") == error
    assert "<name>bare</name>" in await bare.cli_ok("managedsave-dumpxml", "bare")
    updated = "Managed save state file of domain 'bare' updated.\n\n"
    assert await bare.cli_ok("managedsave-define", "bare", str(xml), "--paused") == updated
    await bare.cli_ok("start", "bare")
    assert await bare.state() is DomainState.PAUSED
    none = "error: Requested operation is not valid: domain does not have managed save image\n"
    assert await bare.cli_fails("managedsave-dumpxml", "bare") == none
    skipped = "Domain 'bare' has no manage save image; removal skipped\n"
    assert await bare.cli_ok("managedsave-remove", "bare") == skipped
    await bare.cli_ok("managedsave", "bare")
    removed = "Removed managedsave image for domain 'bare'\n"
    assert await bare.cli_ok("managedsave-remove", "bare") == removed
    for path, text in (
        ("/nope", "Failed to open file '/nope': No such file"),
        (str(xml), "image magic is incorrect"),
    ):
        assert text in await bare.cli_fails("restore", path)
