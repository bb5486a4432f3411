"""SIGKILL at every point of an operation on a running guest (`tests.service.sweep`), seen from inside it.

Merges, which ask nothing of a guest, are swept without one in `tests/service/test_delete_crash.py`.
"""

from __future__ import annotations

import pytest

from tests.guest.conftest import Resume
from tests.guest.machine import Machine, with_tcp_port
from tests.service.crash import Crasher
from tests.service.sweep import Call, sweep
from virtsnap.model.domain import DomainState
from virtsnap.model.flags import SnapshotCreate, SnapshotRevert
from virtsnap.qemu.mapped import READ_VARIABLE

pytestmark = [pytest.mark.guest, pytest.mark.timeout(300)]


@pytest.mark.parametrize("kind", ["full", "live", "disk-only", "in background"])
async def test_create(monkeypatch: pytest.MonkeyPatch, resume: Resume, kind: str) -> None:
    """'full' and 'live': of a guest whose memory is a mapped file; 'in background': of its own."""
    if kind == "in background":
        monkeypatch.setenv(READ_VARIABLE, "1")
    machine = await resume()

    async def ready(number: int) -> Call:
        await machine.mark(f"mark-{number}")
        flags = {"live": SnapshotCreate.LIVE, "disk-only": SnapshotCreate.DISK_ONLY}.get(kind, 0)
        name = f"take-{number}"
        xml = f"<domainsnapshot><name>{name}</name></domainsnapshot>"
        xml = xml if kind == "disk-only" else machine.full_xml(name)
        return machine, "snapshot_create_xml", xml, int(flags)

    async def is_new(number: int) -> bool:
        return f"take-{number}" in await machine.names()

    async def check(number: int, new: bool) -> None:
        assert await machine.state() is DomainState.RUNNING
        assert await machine.marks() == [f"mark-{number}"] * 3
        if new and kind != "disk-only":
            await machine.mark("later")
            await machine.service.snapshot_revert(machine.uuid, f"take-{number}")
            assert await machine.marks() == [f"mark-{number}"] * 3

    async with Crasher() as crasher:
        await sweep(crasher, ready, is_new, check)


@pytest.mark.parametrize("stop_first", [False, True], ids=["beside", "stop-first"])
async def test_revert(crasher: Crasher, resume: Resume, stop_first: bool, free_port: int) -> None:
    machine = await resume(edit=with_tcp_port(free_port)) if stop_first else await resume()
    await machine.mark("one")
    await machine.full("one")

    async def ready(number: int) -> Call:
        await machine.service.snapshot_revert(machine.uuid, "seed")
        await machine.mark(f"mark-{number}")
        return machine, "snapshot_revert", "one"

    async def is_new(number: int) -> bool:
        return (await machine.service.snapshot_tree(machine.uuid)).current == "one"

    async def check(number: int, new: bool) -> None:
        assert await machine.state() is DomainState.RUNNING
        assert await machine.marks() == ["one" if new else f"mark-{number}"] * 3

    await sweep(crasher, ready, is_new, check)


@pytest.mark.parametrize("flags", [0, SnapshotRevert.RUNNING], ids=["shut off", "boot"])
async def test_revert_to_disks_alone(crasher: Crasher, machine: Machine, flags: int) -> None:
    await machine.mark("one")
    await machine.disk_only("one")

    async def ready(number: int) -> Call:
        await machine.service.snapshot_revert(machine.uuid, "seed")
        await machine.mark(f"mark-{number}")
        return machine, "snapshot_revert", "one", int(flags)

    async def is_new(number: int) -> bool:
        return (await machine.service.snapshot_tree(machine.uuid)).current == "one"

    async def check(number: int, new: bool) -> None:
        running = flags or not new
        assert await machine.state() is (DomainState.RUNNING if running else DomainState.SHUTOFF)
        if not new:
            assert await machine.marks() == [f"mark-{number}"] * 3
        elif not running:
            assert await machine.disk_marks() == ["one"] * 2

    # A guest that boots is slow company; and the plan is that of the other one, with a start in it.
    await sweep(crasher, ready, is_new, check, stride=2 if flags else 1)


async def test_delete(crasher: Crasher, resume: Resume) -> None:
    machines: list[Machine] = []
    sums: list[str] = []

    async def ready(number: int) -> Call:
        for machine in machines:
            await machine.end()
        machine = await resume(f"vm-{number}")
        machines[:] = [machine]
        await machine.full("middle")
        await machine.fill()
        await machine.mark("now")
        sums[:] = await machine.sums()
        return machine, "snapshot_delete", "seed"

    async def is_new(number: int) -> bool:
        return "seed" not in await machines[0].names()

    async def check(number: int, new: bool) -> None:
        machine = machines[0]
        assert await machine.state() is DomainState.RUNNING
        assert await machine.marks() == ["now"] * 3
        assert await machine.sums() == sums
        await machine.service.snapshot_revert(machine.uuid, "middle")
        assert await machine.marks() == ["seed"] * 3

    await sweep(crasher, ready, is_new, check, stride=3)
