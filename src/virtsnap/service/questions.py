"""Short questions to a running QEMU by its second monitor, which no operation holds.

QEMU serves one connection of it at a time. Within a process questions take turns, and who asks what is being
asked already gets that answer: a daemon's clients all want to know the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any
from weakref import WeakValueDictionary

from virtsnap.engine.world import query_path
from virtsnap.model.domain import DomainRecord
from virtsnap.model.errors import OperationInvalid
from virtsnap.qemu import question
from virtsnap.qemu.monitor import MonitorLost, QmpCommandFailed

_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
_asked: dict[tuple[str, str], asyncio.Future[Any]] = {}
"""Those that are under way, by run folder and what is asked."""

_SECONDS = 30.0


async def ask(record: DomainRecord, command: str, **arguments: Any) -> Any:
    """What QEMU answers. Raises OperationInvalid when it does not run, Failed when it refuses, ResourceBusy
    when it is busy with another process."""
    if arguments or not command.startswith("query-"):
        return await _ask(_run_dir(record), command, arguments, _SECONDS)
    return await ask_soon(record, command, _SECONDS)


async def ask_soon(record: DomainRecord, command: str, seconds: float) -> Any:
    """The same of a query without arguments; `seconds`: how long it may take to be heard."""
    run_dir = _run_dir(record)
    return await _shared((run_dir, command), lambda: _ask(run_dir, command, {}, seconds))


async def ask_each(
    record: DomainRecord, commands: Sequence[tuple[str, dict[str, Any]]]
) -> list[Any | QmpCommandFailed]:
    """What QEMU answers to several questions, or its refusal of one, in one exchange; none: nothing is asked.

    Raises OperationInvalid, ResourceBusy.
    """
    run_dir = _run_dir(record)
    if not commands:
        return []

    async def asking() -> list[Any | QmpCommandFailed]:
        async with _turn(run_dir):
            return await question.ask_each(query_path(run_dir), commands, timeout=_SECONDS)

    found: list[Any | QmpCommandFailed] = await _shared((run_dir, repr(commands)), asking)
    return found


async def _shared(key: tuple[str, str], asking: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Who asks the same meanwhile gets the same answer."""
    asked = _asked.get(key)
    if asked is None or asked.get_loop() is not asyncio.get_running_loop():
        asked = _asked[key] = asyncio.ensure_future(asking())
        asked.add_done_callback(lambda done: _answered(key, done))
    return await asyncio.shield(asked)


def is_asked(record: DomainRecord, command: str) -> bool:
    """That query is under way."""
    return (_run_dir(record), command) in _asked


def _run_dir(record: DomainRecord) -> str:
    if record.instance is None:
        raise OperationInvalid("domain is not running")
    return record.instance.run_dir


def _answered(key: tuple[str, str], done: asyncio.Future[Any]) -> None:
    if _asked.get(key) is done:
        del _asked[key]
    if not done.cancelled():
        done.exception()  # whoever asked may have gone


async def _ask(run_dir: str, command: str, arguments: dict[str, Any], seconds: float) -> Any:
    async with _turn(run_dir):
        return await question.ask(query_path(run_dir), command, arguments, timeout=seconds)


@contextlib.asynccontextmanager
async def _turn(run_dir: str) -> AsyncIterator[None]:
    turn = _turns.get(run_dir)
    if turn is None:
        turn = _turns[run_dir] = asyncio.Lock()
    async with turn:
        try:
            yield
        except MonitorLost as error:
            raise OperationInvalid("domain is not running") from error
