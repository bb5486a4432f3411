"""What a daemon keeps of clients that have gone, or do not read: in this process, where it can be counted."""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.server.rude import rude
from virtsnap.server.answers import Answers
from virtsnap.server.at_once import HastyReader
from virtsnap.server.client import Client
from virtsnap.server.daemon import Daemon, Door, listen
from virtsnap.server.events import Registration
from virtsnap.server.session import Session
from virtsnap.server.streams import Stream
from virtsnap.service.local import LocalService, open_local
from virtsnap.service.storage import Storage
from virtsnap.wire.frames import Frame, FrameReader, Kind
from virtsnap.wire.procedures import REMOTE, VIRTSNAP, Program
from virtsnap.wire.values import WireDomain

UUID = "11111111-2222-4333-8444-000000000000"
DOMAIN = WireDomain("vm", bytes(16), -1)
_SECONDS = 20


@dataclass
class House:
    """A daemon, its service, its socket."""

    daemon: Daemon
    service: LocalService
    path: Path

    async def until_idle(self) -> None:
        """Everybody has gone, and nothing is done."""
        async with asyncio.timeout(_SECONDS):
            while not self.daemon.idle:
                await _turn()


async def _turn() -> None:
    """Others go on."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await (asyncio.wait(others, timeout=0.1) if others else asyncio.sleep(0))


@pytest.fixture
async def house(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[House]:
    caplog.set_level("CRITICAL", "virtsnap.server")  # what is captured keeps what it is about
    root, path = tmp_path / "root", tmp_path / "sock"
    service, readonly = await open_local(root), await open_local(root, readonly=True)
    daemon = Daemon(service, readonly, Storage(root), Storage(root, readonly=True))
    before = asyncio.all_tasks()
    await daemon.open([Door(listen(path, mode=0o600))])
    yield House(daemon, service, path)
    await daemon.close()
    async with asyncio.timeout(_SECONDS):
        while left := asyncio.all_tasks() - before - {asyncio.current_task()}:
            await asyncio.wait(left)


def _call(name: str, *arguments: object, program: Program = REMOTE, serial: int = 7) -> bytes:
    procedure = program[name]
    payload = procedure.pack_arguments(*arguments)
    return Frame(program.number, 1, procedure.number, Kind.CALL, serial, payload=payload).pack()


async def _open(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(_call("auth_list") + _call("connect_open", "qemu:///system", 0))
    await reader.readexactly(36 + 28)
    return reader, writer


async def test_who_has_gone_leaves_nothing(house: House) -> None:
    dice = random.Random(3)
    for _ in range(4):
        await asyncio.gather(*(rude(house.path, UUID, dice) for _ in range(10)))
    await house.until_idle()
    assert house.daemon.events.wishes == 0
    gc.collect()
    assert {kind for kind in map(type, gc.get_objects()) if kind in (Client, Stream, Registration)} == set()


async def test_who_has_gone_is_no_garbage(house: House) -> None:
    """Else what they sent, and what they did not read, stays until the collector has looked everywhere."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            reader, writer = await _open(house.path)
            writer.write(_call("connect_get_hostname") + _call("domain_get_state", DOMAIN, 0))
            writer.transport.abort()
            reader, writer = await _open(house.path)
            writer.write(_call("connect_close"))
            await reader.read()
            writer.close()
        await house.until_idle()
        kinds = (Client, Session, HastyReader, FrameReader)
        assert [kind for kind in map(type, gc.get_objects()) if kind in kinds] == []
    finally:
        gc.enable()


async def test_a_wait_ends_with_its_client(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def waits(*arguments: object) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(house.service, "block_job_wait", waits)
    _, writer = await _open(house.path)
    writer.write(_call("domain_block_job_wait", DOMAIN, "vda", program=VIRTSNAP))
    async with asyncio.timeout(_SECONDS):
        await begun.wait()
        assert not ended.is_set()
        writer.transport.abort()
        await ended.wait()
    await house.until_idle()


async def test_what_changes_something_does_not_end_with_its_client(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def destroys(*arguments: object) -> None:
        begun.set()
        await go_on.wait()
        done.set()

    monkeypatch.setattr(house.service, "destroy", destroys)
    _, writer = await _open(house.path)
    writer.write(_call("domain_destroy", DOMAIN))
    async with asyncio.timeout(_SECONDS):
        await begun.wait()
        writer.transport.abort()
        while house.daemon.clients:
            await _turn()
        assert not done.is_set()
        go_on.set()
        await done.wait()
    await house.until_idle()


async def test_of_a_call_whose_answer_is_not_read_its_bytes_are_not_kept(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty calls of a megabyte: answered, and the answers wait for a client that does not read."""
    waiting, enough, go_on = 0, asyncio.Event(), asyncio.Event()
    send = Client.send

    async def sends(self: Client, frame: Frame, *rest: Any) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == 50:
            enough.set()
        await go_on.wait()
        await send(self, frame, *rest)

    reader, writer = await _open(house.path)
    monkeypatch.setattr(Client, "send", sends)
    tracemalloc.start()
    try:
        for serial in range(50):
            writer.write(_call("domain_lookup_by_name", "x" * 2**20, serial=serial))
            await writer.drain()
        async with asyncio.timeout(_SECONDS):
            await enough.wait()
        gc.collect()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak > 2**20
    assert kept < 8 * 2**20
    go_on.set()
    async with asyncio.timeout(_SECONDS):
        await reader.readexactly(50 * 1000)
    writer.transport.abort()
    await house.until_idle()


def test_answers_that_are_kept_have_a_bound_however_short_they_are() -> None:
    answers = Answers(limit=64 * 1024)
    for number in range(1000):
        assert answers.get(number, answers, lambda: b"short") == b"short"
    assert len(answers) < 100
