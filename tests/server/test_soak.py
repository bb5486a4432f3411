"""Many clients at once for a little while; `script/soak` does it for an hour."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.server.conftest import Served
from tests.server.rude import rude
from tests.server.soak import soak
from virtsnap.server.daemon import Daemon, Door, listen
from virtsnap.service.local import open_local
from virtsnap.service.storage import Storage

pytestmark = pytest.mark.real
UUID = "11111111-2222-4333-8444-000000000000"


async def test_twenty_clients_at_once(served: Served) -> None:
    found = await soak(served.folder, served.socket, served.process.pid, 2, parts=2)
    print(found)
    assert found.calls > found.refusals > 0
    assert found.rude > 5
    assert found.kept <= 0


async def test_who_has_gone_leaves_no_task(tmp_path: Path) -> None:
    root, path = tmp_path / "root", tmp_path / "sock"
    service, readonly = await open_local(root), await open_local(root, readonly=True)
    daemon = Daemon(service, readonly, Storage(root), Storage(root, readonly=True))
    before = asyncio.all_tasks()
    await daemon.open([Door(listen(path, mode=0o600))])
    dice = random.Random(3)
    for _ in range(4):
        await asyncio.gather(*(rude(path, UUID, dice) for _ in range(10)))
    async with asyncio.timeout(20):
        while not daemon.idle:
            await asyncio.wait(asyncio.all_tasks() - before, timeout=0.1)
    await daemon.close()
    async with asyncio.timeout(20):
        while left := asyncio.all_tasks() - before:
            await asyncio.wait(left)
