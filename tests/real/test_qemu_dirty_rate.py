"""`qemu.dirty_rate` against a real QEMU whose guest stands still, and against what it may say besides."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.real.real_qemu import qemu
from virtsnap.qemu import dirty_rate
from virtsnap.qemu.monitor import Monitor, QmpCommandFailed

pytestmark = pytest.mark.real


async def test_a_guest_that_changes_nothing() -> None:
    async with qemu() as machine:
        told = [await dirty_rate.sample(machine.monitor, least) for least in (100, 0)]
        new = machine.monitor.version >= (8, 2)
    assert told == ([0, 0] if new else [None, None])


class Says:
    """A monitor that gives these answers to `query-dirty-rate`, the last one again and again."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = list(answers)
        self.looks = 0

    async def execute(self, command: str, **arguments: Any) -> Any:
        if command == "calc-dirty-rate":
            self.looks += 1
            return {}
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def measured(rate: int) -> dict[str, Any]:
    return {"status": "measured", "dirty-rate": rate}


@pytest.mark.parametrize(
    ("answers", "expected", "looks"),
    [
        ([{"status": "measuring"}, measured(7)], 7, 1),
        ([measured(24), measured(300)], 24, 1),
        ([measured(25), measured(300)], 300, 2),
        ([measured(600), {"status": "measuring"}, measured(300)], 300, 2),
        ([measured(600), measured(7)], 7, 2),
        ([{"status": "measured"}], None, 1),
        ([measured(-1)], None, 1),
        ([QmpCommandFailed("query-dirty-rate", "GenericError", "no")], None, 1),
    ],
)
async def test_what_it_says(
    answers: list[dict[str, Any] | Exception], expected: int | None, looks: int
) -> None:
    monitor = Says(*answers)
    assert await dirty_rate.sample(cast("Monitor", monitor), 100) == expected
    assert monitor.looks == looks


async def test_one_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirty_rate, "_WAIT_SECONDS", 0.0)
    assert await dirty_rate.sample(cast("Monitor", Says({"status": "measuring"})), 100) is None
