"""When a live migration that does not end by itself is ended, and when it is given up."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from virtsnap.model.errors import NotConverged
from virtsnap.qemu import migration
from virtsnap.qemu.monitor import Listener, Monitor


class Stopped(Exception):
    """The guest was paused."""


class Endless:
    """A monitor and its listener: so many passes, and what is left takes so many milliseconds."""

    def __init__(self, passes: int, left: int) -> None:
        self.status = {"ram": {"dirty-sync-count": passes}, "expected-downtime": left}
        self.looks = 0

    async def execute(self, command: str, **arguments: Any) -> Any:
        if command == "stop":
            raise Stopped
        self.looks += 1
        if self.looks > 5:
            raise TimeoutError
        return self.status

    async def get(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("passes", "left", "gives_up", "expected"),
    [
        (4, 9000, True, TimeoutError),
        (5, 500, True, Stopped),
        (5, 501, True, NotConverged),
        (5, 9000, False, Stopped),
    ],
)
async def test_a_guest_that_changes_its_memory(
    passes: int, left: int, gives_up: bool, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "_PROGRESS_SECONDS", 0.001)
    endless = Endless(passes, left)
    with pytest.raises(expected):
        await migration.finished(
            cast("Monitor", endless), cast("Listener", endless), None, live=True, gives_up=gives_up
        )
