"""Clones of a guest: they begin as the snapshot, share nothing that they change, and can be thrown away."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from lab.console import GuestConsole
from tests.guest.conftest import Resume
from tests.guest.machine import Machine
from tests.service.crash import Crasher
from tests.service.whole import assert_whole
from virtsnap.api import aio
from virtsnap.engine import launch
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.domain import DomainState
from virtsnap.model.errors import Failed, OperationInvalid
from virtsnap.qemu import process
from virtsnap.qemu.process import Spawned

pytestmark = [pytest.mark.guest, pytest.mark.timeout(300)]


async def console_of(machine: Machine, uuid: str) -> GuestConsole:
    record = machine.service.store.domain(uuid)
    assert record is not None
    assert record.instance is not None
    console = await machine.lines.of_process(record.instance.pid)
    await console.wait_ready()
    return console


async def marks(machine: Machine, uuid: str) -> list[str]:
    return (await (await console_of(machine, uuid)).check("mem get; disk get vda; disk get vdb")).splitlines()


async def clone(machine: Machine, name: str, *words: str, snapshot: str = "one") -> str:
    await machine.cli_ok("clone", "guest", snapshot, name, *words)
    return (await machine.service.lookup_by_name(name)).uuid


async def test_clones_live_beside_the_first(machine: Machine) -> None:
    await machine.mark("one")
    await machine.full("one")
    await machine.mark("now")
    names = ["c-1", "c-2"]
    said = json.loads(await machine.cli_ok("clone", "guest", "one", "c", "--count", "2", "--start", "--json"))
    assert [one["name"] for one in said] == names
    first, second = (one["uuid"] for one in said)
    assert await marks(machine, first) == await marks(machine, second) == ["one"] * 3
    await (await console_of(machine, first)).check("mem put mine && disk put vda mine && disk put vdb mine")
    assert await marks(machine, second) == ["one"] * 3
    assert await machine.marks() == ["now"] * 3

    # A clone is an ordinary domain: snapshots, reverts, its own beginning, deletes.
    await machine.cli_ok("snapshot-create-as", "c-1", "own", "--memspec", f"{machine.folder}/own.mem")
    await machine.cli_ok("snapshot-revert", "c-1", "one")
    assert await marks(machine, first) == ["one"] * 3
    await machine.cli_ok("snapshot-revert", "c-1", "own")
    assert await marks(machine, first) == ["mine"] * 3
    await machine.cli_ok("snapshot-delete", "c-1", "one")
    assert await marks(machine, first) == ["mine"] * 3

    # What the clones stand on stays when the first domain gives it up.
    await machine.cli_ok("snapshot-delete", "guest", "one")
    assert await machine.marks() == ["now"] * 3
    await machine.cli_ok("snapshot-revert", "c-2", "one")
    assert await marks(machine, second) == ["one"] * 3
    for name in names:
        await machine.cli_ok("discard", name)
    await assert_whole(machine)
    assert await machine.marks() == ["now"] * 3


async def test_who_a_clone_is(machine: Machine) -> None:
    await machine.full("one")
    uuid = await clone(machine, "twin", "--paused")
    assert await machine.cli_ok("domstate", "twin", "--reason") == "paused (from snapshot)\n\n"
    old = DomainDefinition.parse(await machine.service.domain_xml(machine.uuid))
    new = DomainDefinition.parse(await machine.service.domain_xml(uuid))
    assert (new.name, new.uuid) == ("twin", uuid)
    assert {disk.source for disk in new.disks} & {disk.source for disk in old.disks} == set()
    macs = re.compile(r"<mac address='(52:54:00:[0-9a-f:]{8})'/>")
    assert set(macs.findall(new.to_xml())) & set(macs.findall(old.to_xml())) == set()
    assert [x.split()[0] for x in (await machine.cli_ok("snapshot-list", "twin")).splitlines()[2:3]] == [
        "one"
    ]
    await machine.cli_ok("discard", "twin")


async def test_of_disks_alone_and_without_starting(machine: Machine) -> None:
    await machine.mark("one")
    await machine.disk_only("one")
    await machine.mark("now")
    uuid = await clone(machine, "off")
    assert (await machine.service.domain_state(uuid))[0] is DomainState.SHUTOFF
    await machine.cli_ok("start", "off")
    console = await machine.lines.of_process(machine.service.store.domain(uuid).instance.pid)  # type: ignore[union-attr]
    await console.wait_ready()
    assert await console.check("disk get vda; disk get vdb") == "one\none"
    await machine.cli_ok("discard", "off")
    assert await machine.marks() == ["now"] * 3


async def test_independent_after_flatten(machine: Machine) -> None:
    await machine.mark("one")
    await machine.full("one")
    uuid = await clone(machine, "free", "--start")
    await machine.cli_ok("snapshot-delete", "free", "one")
    await machine.cli_ok("flatten", "free", "--all")
    await machine.cli_ok("snapshot-delete", "guest", "one")
    await machine.cli_ok("snapshot-delete", "guest", "seed")
    assert {len(chain) for chain in (await machine.service.block_chains(uuid)).values()} == {1}
    assert await marks(machine, uuid) == ["one"] * 3
    await machine.cli_ok("discard", "free")


async def test_refusals(machine: Machine) -> None:
    await machine.full("one")
    before = machine.files()
    assert "no domain snapshot with matching name 'two'" in await machine.cli_fails(
        "clone", "guest", "two", "x"
    )
    assert "already exists" in await machine.cli_fails("clone", "guest", "one", "guest")
    (machine.folder / "vdb.x").touch()
    assert "exists already; choose another name" in await machine.cli_fails("clone", "guest", "one", "x")
    (machine.folder / "vdb.x").unlink()
    assert "--count must be at least 1" in await machine.cli_fails(
        "clone", "guest", "one", "x", "--count", "0"
    )
    assert "is no clone" in await machine.cli_fails("discard", "guest")
    assert "writes" not in await machine.cli_ok("clone", "guest", "one", "x", "--dry-run", "--start")
    assert machine.files() == before
    assert await machine.marks() == ["seed"] * 3


async def test_a_throw_away_machine(machine: Machine) -> None:
    await machine.mark("one")
    await machine.full("one")
    before = machine.files()
    async with await aio.open(machine.uri) as connection:
        domain = await connection.lookupByName("guest")
        snapshot = await domain.snapshotLookupByName("one")
        async with snapshot.clone() as guest:
            assert await marks(machine, guest.UUIDString()) == ["one"] * 3
        assert machine.files() == before
        kept = await snapshot.clone("kept", start=False)
        assert not await kept.isActive()
        await kept.discard()
        with pytest.raises(OperationInvalid, match="is no clone"):
            await domain.discard()
    assert machine.files() == before


async def test_one_of_several_fails(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    await machine.full("one")
    before = machine.files()
    spawn, started = launch.process.spawn, []

    def spawn_twice(*arguments: Any, **more: Any) -> Spawned:
        if len(started) == 2:
            raise Failed("there is no room for it")
        started.append(spawn(*arguments, **more))
        return started[-1]

    monkeypatch.setattr(launch.process, "spawn", spawn_twice)
    with pytest.raises(Failed, match=r"c-\d: there is no room for it"):
        await machine.service.snapshot_clone(machine.uuid, "one", ["c-1", "c-2", "c-3"], start=True)
    assert not any(process.alive(one) for one in started)
    assert [handle.name for handle in await machine.service.list_domains()] == ["guest"]
    assert machine.files() == before
    await assert_whole(machine)


async def test_killed_anywhere(resume: Resume, crasher: Crasher) -> None:
    machine = await resume()
    await machine.full("one")
    before = machine.files()
    for number in range(1, 60):
        names = [f"a{number}", f"b{number}"]
        ending = await crasher.run(machine, number, "snapshot_clone", "one", names, 1)
        await machine.state()
        there = sorted(handle.name for handle in await machine.service.list_domains())
        assert there in (["guest"], [*names, "guest"])
        for name in there[:-1]:
            uuid = (await machine.service.lookup_by_name(name)).uuid
            assert await marks(machine, uuid) == ["seed"] * 3
            await machine.cli_ok("discard", name)
        await assert_whole(machine)
        assert machine.files() == before
        if not ending.died:
            assert number > 12
            return
    raise AssertionError("it never came to its end")
