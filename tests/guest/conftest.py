"""The saved guest, made once for all workers of a run, and a running one for every test."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lab import guest
from tests.guest.machine import Machine, Seed, make_seed
from tests.service.crash import Crasher
from tests.service.local_domain import kill_all, processes_naming

Resume = Callable[..., Awaitable[Machine]]


@pytest.fixture(scope="session")
def image() -> guest.GuestImage:
    return guest.build()


@pytest.fixture(scope="session")
def seed(tmp_path_factory: pytest.TempPathFactory, image: guest.GuestImage) -> Seed:
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "guest-seed"
    with (base / "guest-seed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "done").exists():
            return Seed.read(folder)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            # In a thread of its own: this fixture is not async, and a test's loop may be around.
            with ThreadPoolExecutor(1) as thread:
                made = thread.submit(asyncio.run, make_seed(folder, image)).result()
        finally:
            kill_all(processes_naming(folder))
        (folder / "done").touch()
        return made


@pytest.fixture
async def resume(tmp_path: Path, seed: Seed) -> AsyncIterator[Resume]:
    """Makes running guests, each in a folder of its own; sees to it that nothing of them is left."""
    machines: list[Machine] = []

    async def make(name: str = "vm", **options: Any) -> Machine:
        machine = await Machine.resume(tmp_path / name, seed, **options)
        machines.append(machine)
        return machine

    try:
        yield make
        for machine in machines:
            await machine.end()
        left = processes_naming(tmp_path)
        assert not left, f"processes are left: {[_command(pid) for pid in left]}"
    finally:
        kill_all(processes_naming(tmp_path))
        shutil.rmtree(tmp_path)


@pytest.fixture
async def machine(resume: Resume) -> Machine:
    """A running guest with the marker `seed`, of a domain whose one snapshot is `seed`."""
    return await resume()


@pytest.fixture
def free_port() -> int:
    """A TCP port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
async def crasher() -> AsyncIterator[Crasher]:
    async with Crasher() as program:
        yield program


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return f"{pid} (ended)"
