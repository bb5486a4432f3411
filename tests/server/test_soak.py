"""Many clients at once until the daemon is warm, and a little longer; `script/soak` does it for an hour."""

from __future__ import annotations

import asyncio
import gc
import random
from pathlib import Path

import pytest

from tests.server.conftest import Served
from tests.server.rude import rude
from tests.server.soak import Pace, soak
from virtsnap.server.client import Client
from virtsnap.server.daemon import Daemon, Door, listen
from virtsnap.server.events import Registration
from virtsnap.server.streams import Stream
from virtsnap.service.local import open_local
from virtsnap.service.storage import Storage

pytestmark = pytest.mark.real
UUID = "11111111-2222-4333-8444-000000000000"


async def test_twenty_clients_at_once(served: Served) -> None:
    pace = Pace(seconds=10, warmup=5, every=0.5, warm_calls=1000)
    found = await soak(served.folder, served.socket, served.process.pid, pace, print)
    print(found)
    assert found.calls > found.refusals > 0
    assert found.rude > 5
    assert found.flat, found


async def test_who_has_gone_leaves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "virtsnap.server")  # what is captured keeps what it is about
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
    assert daemon.events.wishes == 0
    gc.collect()
    assert {kind for kind in map(type, gc.get_objects()) if kind in (Client, Stream, Registration)} == set()
    await daemon.close()
    async with asyncio.timeout(20):
        while left := asyncio.all_tasks() - before:
            await asyncio.wait(left)
