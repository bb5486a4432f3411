"""Operations in a process of their own that dies, or whose QEMU dies, at the point asked for.

As a program: reads requests (a line of JSON each), forks for each a process that calls the service, and
answers with how that process ended. The fork saves every single one the time to start Python. `Crasher` is
the other side.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

from tests.service.local_domain import LocalDomain
from virtsnap.engine import steps
from virtsnap.engine.runner import Runner, Trace
from virtsnap.engine.world import World
from virtsnap.model.errors import VirtsnapError
from virtsnap.model.steps import Step, Together
from virtsnap.qemu import process as processes
from virtsnap.service.local import LocalService, open_local

_Argument = str | int | Sequence[str]


@dataclass(frozen=True)
class Ending:
    """How an operation ended: `died` of SIGKILL, or with the text of an error, or well."""

    died: bool
    error: str | None
    points: int
    """How many points it came by, when it did not die."""


class Crasher:
    """The program, from `async with` to its end."""

    async def __aenter__(self) -> Crasher:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__),
            cwd=Path(__file__).parents[2],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def run(
        self, domain: LocalDomain, at: int, operation: str, *arguments: _Argument, victim: str = "self"
    ) -> Ending:
        """Call `operation(uuid, *arguments)` of the service; at its point `at` (1 ...) the victim is killed.

        `victim`: "self", or "qemu" for the domain's QEMU. Point 0 never comes: it runs to its end.
        """
        request = [str(domain.service.root), domain.uuid, victim, at, operation, *arguments]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        line = await self._process.stdout.readline()
        assert line, "the crash program itself has ended"
        return Ending(**json.loads(line))


async def _perform(
    root: str, uuid: str, victim: str, at: int, operation: str, *arguments: _Argument
) -> dict[str, object]:
    service = await open_local(Path(root))
    points = 0

    def trace(point: str) -> None:
        nonlocal points
        points += 1
        if points == at:
            if victim == "qemu":
                _kill_qemu(service, uuid)
            else:
                os.kill(os.getpid(), signal.SIGKILL)

    _install(trace)
    error = None
    try:
        await getattr(service, operation)(uuid, *arguments)
    except VirtsnapError as caught:
        error = str(caught)
    await service.close()
    return {"died": False, "error": error, "points": points}


def _install(trace: Trace) -> None:
    # Whoever makes a Runner in this process, without a word about traces, gets this one.
    Runner.__init__.__defaults__ = (trace,)
    steps._HANDLERS[Together] = steps.together.Together(partial(_do_and_trace, trace), steps.undo_step)


async def _do_and_trace(trace: Trace, world: World, step: Step) -> None:
    await steps.do_step(world, step)
    trace(f"after {type(step).__name__} of one of several")


def _kill_qemu(service: LocalService, uuid: str) -> None:
    record = service.store.domain(uuid)
    if record is None or record.instance is None or not processes.alive(record.instance):
        return
    descriptor = os.pidfd_open(record.instance.pid)
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    # Readable when it has ended: what comes next finds it gone.
    select.select([descriptor], [], [], 10)
    os.close(descriptor)


def _serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            os.write(writer, json.dumps(asyncio.run(_perform(*request))).encode())
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as pipe:
            answer = pipe.read()
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
            answer = json.dumps({"died": True, "error": None, "points": 0}).encode()
        print(answer.decode(), flush=True)


if __name__ == "__main__":
    _serve()
