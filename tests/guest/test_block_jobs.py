"""Commit, pull and copy under a guest that writes all the time, whose command line dies half way.

What the guest wrote it also keeps in its memory; at the end it compares the two itself.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.guest.machine import Machine
from tests.service.local_domain import ended
from tests.service.whole import assert_whole
from virtsnap.model.block_job import BlockJobState
from virtsnap.model.flags import SnapshotCreate

pytestmark = pytest.mark.guest

BLOCKS = 1024
FIRST = 2048
"""Blocks of 4 KiB: 4 MiB at 8 MiB."""
WRITER = (
    f"dd if=/dev/zero of=/tmp/mirror bs=4096 count={BLOCKS} 2>/dev/null; "
    f"dd if=/tmp/mirror of=/dev/vda bs=4096 seek={FIRST} conv=notrunc,fsync 2>/dev/null; "
    "(n=0; while [ ! -e /tmp/stop ]; do n=$((n+1)); "
    f"o=$((n*7919%{BLOCKS})); head -c 4096 /dev/urandom >/tmp/b; "
    "dd if=/tmp/b of=/tmp/mirror bs=4096 seek=$o conv=notrunc 2>/dev/null; "
    f"dd if=/tmp/b of=/dev/vda bs=4096 seek=$(({FIRST}+o)) conv=notrunc,fsync 2>/dev/null; "
    "echo $n >/tmp/n; done; touch /tmp/stopped) >/dev/null 2>&1 & "
    "while [ ! -e /tmp/n ]; do usleep 10000; done"
)
MORE = "n=$(cat /tmp/n); while [ $(cat /tmp/n) -lt $((n+20)) ]; do usleep 10000; done"
"""Return when the guest has written more."""
COMPARE = (
    "touch /tmp/stop; while [ ! -e /tmp/stopped ]; do usleep 10000; done; sync; "
    "echo 3 >/proc/sys/vm/drop_caches; "
    f"dd if=/dev/vda bs=4096 skip={FIRST} count={BLOCKS} 2>/dev/null | cmp - /tmp/mirror && echo same"
)


async def overlay(machine: Machine, name: str) -> None:
    """Another layer on every disk, without a record."""
    flags = SnapshotCreate.DISK_ONLY | SnapshotCreate.NO_METADATA
    xml = f"<domainsnapshot><name>{name}</name></domainsnapshot>"
    await machine.service.snapshot_create_xml(machine.uuid, xml, flags)


@pytest.mark.parametrize("way", ["commit", "pull", "copy"])
async def test_a_guest_that_writes_all_the_time(machine: Machine, way: str) -> None:
    base = (await machine.sources())["vda"]
    copy = str(machine.folder / "copy")
    await machine.guest(WRITER)
    await machine.fill()
    await overlay(machine, "a")
    await machine.guest(MORE)
    sums = await machine.sums()
    words = {
        "commit": ("blockcommit", "guest", "vda", "--base", base, "--pivot", "--delete"),
        "pull": ("blockpull", "guest", "vda", "--wait"),
        "copy": ("blockcopy", "guest", "vda", copy, "--transient-job", "--pivot"),
    }[way]
    # A limit that keeps it in the middle until we let go.
    program = await machine.cli_start(*words, "--bandwidth", "65536", "--bytes")
    while not machine.service.store.block_jobs(machine.uuid, active=True):
        assert program.returncode is None, (await ended(program)).err
        await asyncio.sleep(0.001)
    program.kill()
    await ended(program)
    (job,) = machine.service.store.block_jobs(machine.uuid, active=True)
    info = await machine.service.block_job_info(machine.uuid, "vda")
    assert info is not None
    assert not info.ready
    assert info.bandwidth == 65536
    refused = await machine.cli_fails("snapshot-create-as", "guest", "no", "--disk-only")
    assert "disk 'vda' already in active block job" in refused
    await machine.guest(MORE)
    assert await machine.cli_ok("blockjob", "guest", "vda", "0") == "\n"
    await machine.service.block_job_wait(machine.uuid, "vda")
    await machine.guest(MORE)
    if way != "pull":
        await machine.cli_ok("blockjob", "guest", "vda", "--pivot")
    done = next(one for one in machine.service.store.block_jobs(machine.uuid) if one.name == job.name)
    assert done.state is BlockJobState.COMPLETED
    top = (await machine.sources())["vda"]
    assert top == {"commit": base, "pull": f"{machine.folder}/vda.a", "copy": copy}[way]
    await machine.guest(MORE)
    assert await machine.sums() == sums
    assert await machine.guest(COMPARE) == "same"
    if way != "commit":
        left = {"pull": [base], "copy": [base, f"{machine.folder}/vda.a"]}[way]
        await assert_whole(machine, *(path.removeprefix(f"{machine.folder}/") for path in left))
    else:
        await assert_whole(machine)
    await machine.service.snapshot_revert(machine.uuid, "seed")
    assert await machine.marks() == ["seed"] * 3
