"""Several programs at once on one domain, and one that is killed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest

from tests.guest.machine import Machine
from tests.service.local_domain import ended
from tests.service.whole import assert_whole
from virtsnap.engine.locks import DomainLock, LockTimeout
from virtsnap.model.domain import DomainState

pytestmark = pytest.mark.guest


async def test_two_at_once(machine: Machine) -> None:
    names = ["one", "two"]
    programs = [
        await machine.cli_start(
            "snapshot-create-as", "guest", name, "--memspec", f"{machine.folder}/{name}.mem", "--live"
        )
        for name in names
    ]
    for result in await asyncio.gather(*map(ended, programs)):
        assert (result.status, result.err) == (0, "")
    tree = await machine.service.snapshot_tree(machine.uuid)
    parents = {name: tree[name].parent for name in names}
    assert parents in ({"one": "seed", "two": "one"}, {"two": "seed", "one": "two"})
    await assert_whole(machine)
    for name in names:
        await machine.service.snapshot_revert(machine.uuid, name)
        assert await machine.marks() == ["seed"] * 3


async def test_who_waits_is_told_for_whom(machine: Machine) -> None:
    lock = DomainLock(machine.service.root, machine.uuid)
    async with lock.acquired():
        waiting = await machine.cli_start("suspend", "guest")
        with pytest.raises(LockTimeout, match=rf"held by pid {os.getpid()}: "):
            async with DomainLock(machine.service.root, machine.uuid).acquired(timeout=0.1):
                pass
        # Whoever only looks need not wait.
        assert await machine.cli_ok("domstate", "guest") == "running\n\n"
        assert waiting.returncode is None
    assert (await ended(waiting)).status == 0
    assert await machine.cli_ok("domstate", "guest") == "paused\n\n"


@pytest.mark.parametrize("operation", ["create", "revert", "delete"])
async def test_a_killed_one(machine: Machine, operation: str) -> None:
    """SIGKILL in the middle of a step, where no point of the runner's is."""
    memory = machine.folder / "new.mem"
    await machine.mark("one")
    await machine.full("one")
    await machine.fill()
    await machine.mark("now")
    words: tuple[str, ...]
    begun: Callable[[], bool]
    if operation == "create":
        words = ("snapshot-create-as", "guest", "new", "--memspec", str(memory))
        begun = lambda: memory.exists() and memory.stat().st_blocks > 4096  # noqa: E731
    elif operation == "revert":
        words = ("snapshot-revert", "guest", "one")
        begun = lambda: len(machine.processes()) > 2  # noqa: E731
    else:
        words = ("snapshot-delete", "guest", "one")
        begun = lambda: machine.service.store.journal(machine.uuid) is not None  # noqa: E731
    program = await machine.cli_start(*words)
    while not begun():
        assert program.returncode is None, (await ended(program)).err
        await asyncio.sleep(0.001)
    program.kill()
    await ended(program)
    said = await machine.cli_ok("snapshot-list", "guest", "--name")
    names = set(said.split())
    await assert_whole(machine)
    assert names == await machine.names()
    assert {"seed"} <= names <= {"seed", "one", "new"}
    assert await machine.state() is DomainState.RUNNING
    marks = await machine.marks()
    assert marks == ["now"] * 3 or (operation == "revert" and marks == ["one"] * 3)
