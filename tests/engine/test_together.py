"""Rows of steps side by side: in order, not too many at once, and nothing left of them when one fails."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from virtsnap.engine.steps.together import Together
from virtsnap.engine.world import World
from virtsnap.model import steps as s
from virtsnap.model.errors import ErrorCode, Failed
from virtsnap.store.database import open_store


class Stage:
    """Steps that wait until they are let go, by name."""

    def __init__(self, root: Path) -> None:
        self.world = World(root, open_store(root), "u")
        self.begun: list[str] = []
        self.done: list[str] = []
        self.undone: list[str] = []
        self.gates: dict[str, asyncio.Future[None]] = {}
        self.news = asyncio.Event()
        self.kind = Together(self.do, self.undo)

    async def do(self, world: World, step: s.Step) -> None:
        assert isinstance(step, s.RemoveFile)
        self.begun.append(step.path)
        self.gates[step.path] = asyncio.get_running_loop().create_future()
        self.news.set()
        await self.gates[step.path]
        self.done.append(step.path)

    async def undo(self, world: World, step: s.Step) -> None:
        assert isinstance(step, s.RemoveFile)
        assert all(gate.done() for gate in self.gates.values()), "a row is still at work"
        self.undone.append(step.path)

    async def has_begun(self, *paths: str) -> None:
        async with asyncio.timeout(10):
            while not set(paths) <= set(self.begun):
                self.news.clear()
                await self.news.wait()


def rows(*names: str) -> s.Together:
    return s.Together(
        tuple(s.Row(name, (s.RemoveFile(f"{name}1"), s.RemoveFile(f"{name}2"))) for name in names)
    )


async def test_each_in_order_and_side_by_side(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    work = asyncio.ensure_future(stage.kind.do(stage.world, rows("a", "b")))
    await stage.has_begun("a1", "b1")
    stage.gates["b1"].set_result(None)
    await stage.has_begun("b2")
    assert stage.begun == ["a1", "b1", "b2"]
    stage.gates["b2"].set_result(None)
    stage.gates["a1"].set_result(None)
    await stage.has_begun("a2")
    assert not work.done()
    stage.gates["a2"].set_result(None)
    await work
    assert stage.done == ["b1", "b2", "a1", "a2"]
    assert stage.undone == []


async def test_not_too_many_at_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    names = [f"r{number:03}" for number in range(len(os.sched_getaffinity(0)) + 2)]
    work = asyncio.ensure_future(stage.kind.do(stage.world, rows(*names)))
    await stage.has_begun(*(f"{name}1" for name in names[:-1]))
    assert len(stage.begun) == len(names) - 1
    stage.gates[f"{names[0]}1"].set_result(None)
    await stage.has_begun(f"{names[0]}2")
    assert len(stage.begun) == len(names)
    stage.gates[f"{names[0]}2"].set_result(None)
    await stage.has_begun(f"{names[-1]}1")
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_one_fails(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    work = asyncio.ensure_future(stage.kind.do(stage.world, rows("a", "b")))
    await stage.has_begun("a1", "b1")
    stage.gates["b1"].set_result(None)
    await stage.has_begun("b2")
    stage.gates["b2"].set_exception(Failed("no room", code=ErrorCode.SYSTEM_ERROR))
    with pytest.raises(Failed, match="b: no room") as caught:
        await work
    assert caught.value.code is ErrorCode.SYSTEM_ERROR
    assert stage.done == ["b1"]
    # Also what was never reached, since a process that died does not know how far it came.
    assert stage.undone == ["a2", "a1", "b2", "b1"]


async def test_cancelled_twice(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    work = asyncio.ensure_future(stage.kind.do(stage.world, rows("a", "b")))
    await stage.has_begun("a1", "b1")
    work.cancel()
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert stage.undone == ["a2", "a1", "b2", "b1"]
