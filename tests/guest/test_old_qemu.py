"""The main job with the oldest QEMU that is supported: VIRTSNAP_TEST_QEMU_72 names a QEMU 7.2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.guest import GuestImage
from tests.guest.machine import Machine, make_seed
from tests.service.local_domain import processes_naming
from tests.service.whole import assert_whole
from virtsnap.engine.world import query_path
from virtsnap.model.domain import DomainState
from virtsnap.model.flags import SnapshotCreate
from virtsnap.qemu.monitor import Monitor

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif("VIRTSNAP_TEST_QEMU_72" not in os.environ, reason="VIRTSNAP_TEST_QEMU_72 is not set"),
]


async def test_main_job(tmp_path: Path, image: GuestImage) -> None:
    emulator = Path(os.environ["VIRTSNAP_TEST_QEMU_72"])
    seed = await make_seed(tmp_path / "seed", image, emulator)
    machine = await Machine.resume(tmp_path / "vm", seed)
    try:
        async with await Monitor.connect(query_path(machine.instance.run_dir)) as monitor:
            assert (7, 2) <= monitor.version < (8,)
        assert await machine.marks() == ["seed"] * 3
        await machine.guest("counter start vda vdb")
        for name, flags in (("one", 0), ("two", SnapshotCreate.LIVE)):
            await machine.mark(name)
            await machine.full(name, flags)
        await machine.mark("three")
        await machine.disk_only("three")
        await machine.service.suspend(machine.uuid)
        await machine.full("paused")
        assert await machine.state() is DomainState.PAUSED
        await machine.service.resume(machine.uuid)
        assert await machine.marks() == ["three"] * 3
        for name in ("one", "two", "one"):
            await machine.service.snapshot_revert(machine.uuid, name)
            assert await machine.marks() == [name] * 3
            await assert_whole(machine)
        assert (await machine.guest("counter show")).endswith("bad=0")
        memory, kept = machine.folder / "two.mem", machine.folder / "root" / "kept"
        kept.write_bytes(memory.read_bytes())
        os.truncate(memory, memory.stat().st_size // 2)
        said = await machine.cli_fails("snapshot-revert", "guest", "two")
        assert "QEMU unexpectedly closed the monitor" in said
        kept.replace(memory)
        await machine.mark("now")
        for name in ("two", "seed", "paused", "one", "three"):
            await machine.service.snapshot_delete(machine.uuid, name)
            await assert_whole(machine)
            assert await machine.marks() == ["now"] * 3
        assert machine.files() == {"vda.qcow2", "vdb.qcow2"}
    finally:
        await machine.end()
    assert processes_naming(tmp_path) == []
