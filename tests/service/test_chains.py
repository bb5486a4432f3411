"""Long chains, and disks made independent of theirs: a real QEMU, and qemu-img where none runs."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.service.conftest import Define
from tests.service.crash import Crasher
from tests.service.local_domain import BareDomain
from tests.service.sweep import Call, sweep
from tests.service.whole import assert_whole, chain
from virtsnap.model.domain import DomainState
from virtsnap.model.flags import SnapshotCreate, SnapshotDelete

pytestmark = pytest.mark.real

RUNNING = pytest.mark.parametrize("running", [True, False], ids=["running", "shut off"])


def template_of(bare: BareDomain, target: str) -> Path:
    return bare.folder.with_name(f"{bare.folder.name}-{target}.template")


async def on_template(bare: BareDomain) -> None:
    """The disks of a domain stand on copies of what they were."""
    await bare.put(1, "8M", "1M")
    for target in ("vda", "vdb"):
        image, template = bare.folder / f"{target}.qcow2", template_of(bare, target)
        shutil.move(image, template)
        words = ["-f", "qcow2", "-b", str(template), "-F", "qcow2", str(image)]
        subprocess.run(["qemu-img", "create", "-q", *words], check=True)
    await bare.put(2)


async def depths(bare: BareDomain) -> dict[str, int]:
    return {target: len(await chain(source)) for target, source in (await bare.sources()).items()}


def digest(path: Path) -> bytes:
    return subprocess.run(["sha256sum", path], check=True, capture_output=True).stdout


@RUNNING
async def test_off_a_template(bare: BareDomain, running: bool) -> None:
    await on_template(bare)
    if running:
        await bare.start()
    templates = [digest(template_of(bare, target)) for target in ("vda", "vdb")]
    said = await bare.cli_ok("flatten", "bare", "vda", "--dry-run")
    assert said.startswith("Plan: flatten disk 'vda' (nothing has been done)\n")
    assert await depths(bare) == {"vda": 2, "vdb": 2}
    assert await bare.cli_ok("flatten", "bare", "vda") == "Domain 'bare' disk vda flattened\n\n"
    assert await depths(bare) == {"vda": 1, "vdb": 2}
    await assert_whole(bare)
    assert "'vda' does not stand on another image" in await bare.cli_fails("flatten", "bare", "vda")
    assert await bare.cli_ok("flatten", "bare", "--all") == "Domain 'bare' all disks flattened\n\n"
    assert await depths(bare) == {"vda": 1, "vdb": 1}
    await assert_whole(bare)
    assert [digest(template_of(bare, target)) for target in ("vda", "vdb")] == templates
    assert [await bare.got(mib) for mib in (0, 8)] == [[2, 2], [1, 1]]
    if running:
        assert ".template" not in await bare.service.domain_xml(bare.uuid)
        assert await bare.state() is DomainState.RUNNING


@RUNNING
async def test_snapshots_keep_what_they_need(bare: BareDomain, running: bool) -> None:
    if running:
        await bare.start()
    for number in (1, 2, 3):
        await bare.put(number)
        await bare.disk_only(f"s{number}")
    await bare.put(4)
    before = bare.files()
    said = await bare.cli_fails("flatten", "bare", "--all")
    assert f"disk 'vda' stands on '{bare.folder}/vda.s2', which is needed by snapshot 's3'" in said
    await bare.service.flatten(bare.uuid, copy=True)
    assert await depths(bare) == {"vda": 1, "vdb": 1}
    assert bare.files() == before
    assert await bare.got() == [4, 4]
    await assert_whole(bare)
    await bare.service.snapshot_delete(bare.uuid, "s2")
    await assert_whole(bare)
    await bare.service.snapshot_revert(bare.uuid, "s3")
    assert await bare.got() == [3, 3]
    await bare.service.snapshot_revert(bare.uuid, "s1")
    assert await bare.got() == [1, 1]
    await assert_whole(bare)


async def test_what_no_snapshot_needs_goes_in(bare: BareDomain) -> None:
    await bare.start()
    await bare.put(1)
    await bare.disk_only("s1")
    await bare.put(2)
    for name in ("x", "y"):
        xml = f"<domainsnapshot><name>{name}</name></domainsnapshot>"
        flags = SnapshotCreate.DISK_ONLY | SnapshotCreate.NO_METADATA
        await bare.service.snapshot_create_xml(bare.uuid, xml, flags)
    assert await depths(bare) == {"vda": 4, "vdb": 4}
    await bare.service.flatten(bare.uuid)
    assert await depths(bare) == {"vda": 2, "vdb": 2}
    assert await bare.got() == [2, 2]
    await bare.service.snapshot_revert(bare.uuid, "s1")
    assert await bare.got() == [1, 1]


async def test_an_internal_snapshot_stands_on_what_is_below(bare: BareDomain) -> None:
    await on_template(bare)
    await bare.service.snapshot_create_xml(
        bare.uuid, "<domainsnapshot><name>inside</name></domainsnapshot>", 0
    )
    said = await bare.cli_fails("flatten", "bare", "vda", "--copy")
    assert "of disk 'vda' holds internal snapshot 'inside', which needs what is below" in said


async def test_the_layers_and_who_needs_them(bare: BareDomain) -> None:
    await bare.start()
    await bare.disk_only("one")
    await bare.disk_only("two")
    shown = (await bare.cli_ok("domblklist", "bare", "--chain")).splitlines()
    assert [line.split()[:2] + line.split()[-2:] for line in shown[2:5]] == [
        ["vda", "0", "-", f"{bare.folder}/vda.two"],
        ["vda", "1", "two", f"{bare.folder}/vda.one"],
        ["vda", "2", "one", f"{bare.folder}/vda.qcow2"],
    ]
    found = json.loads(await bare.cli_ok("domblklist", "bare", "--chain", "--json"))
    assert [(disk["target"], disk["depth"]) for disk in found] == [("vda", 3), ("vdb", 3)]
    (bare.folder / "vdb.qcow2").rename(bare.folder / "vdb.away")
    assert " vdb      2       missing " in await bare.cli_ok("domblklist", "bare", "--chain")
    (bare.folder / "vdb.away").rename(bare.folder / "vdb.qcow2")


async def test_35_external_snapshots(bare: BareDomain) -> None:
    """A start opens 72 images, and every operation goes on as with one."""
    await bare.start()
    for number in range(35):
        await bare.put(number)
        await bare.disk_only(f"s{number}")
    await bare.put(99)
    assert await depths(bare) == {"vda": 36, "vdb": 36}
    await bare.service.destroy(bare.uuid)
    await bare.start()
    await bare.service.snapshot_revert(bare.uuid, "s17")
    assert await bare.got() == [17, 17]
    await bare.put(55)
    await bare.service.flatten(bare.uuid, copy=True)
    assert await depths(bare) == {"vda": 1, "vdb": 1}
    await bare.service.snapshot_revert(bare.uuid, "s34")
    assert await bare.got() == [34, 34]
    await bare.service.snapshot_delete(bare.uuid, "s0", SnapshotDelete.CHILDREN)
    assert await bare.got() == [34, 34]
    assert bare.files() == {"vda.qcow2", "vdb.qcow2"}
    await assert_whole(bare)


async def test_it_is_a_job(bare: BareDomain) -> None:
    await on_template(bare)
    await bare.service.flatten(bare.uuid)
    said = await bare.cli_ok("domjobinfo", "bare", "--completed")
    assert said.startswith("Job type:         Completed   \nOperation:        Flatten     \n")
    assert "File total:" in said


@RUNNING
async def test_killed_at_every_point(crasher: Crasher, define: Define, running: bool) -> None:
    domains: list[BareDomain] = []

    async def ready(number: int) -> Call:
        for domain in domains:
            await domain.end()
        domain = await define(f"vm-{number}")
        domains[:] = [domain]
        await on_template(domain)
        if running:
            await domain.start()
        return domain, "flatten"

    async def is_new(number: int) -> bool:
        return await depths(domains[0]) == {"vda": 1, "vdb": 1}

    async def check(number: int, new: bool) -> None:
        domain = domains[0]
        assert await domain.state() is (DomainState.RUNNING if running else DomainState.SHUTOFF)
        assert [await domain.got(mib) for mib in (0, 8)] == [[2, 2], [1, 1]]
        await domain.disk_only("s")
        await assert_whole(domain)

    await sweep(crasher, ready, is_new, check)
