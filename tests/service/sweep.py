"""SIGKILL at every point of an operation: the next command finds the old state or the new one, and all of it.

The points are the runner's own (`engine.runner.Trace`): before and after every effect. Half of the recoveries
are killed as well, at a random point, and recovered by a third process.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from itertools import count

from tests.service.crash import Crasher
from tests.service.local_domain import LocalDomain
from tests.service.whole import assert_whole

Call = tuple[LocalDomain, str] | tuple[LocalDomain, str, str | int] | tuple[LocalDomain, str, str | int, int]
"""The domain, and the operation of the service with its arguments after the uuid."""


async def sweep(
    crasher: Crasher,
    ready: Callable[[int], Awaitable[Call]],
    is_new: Callable[[int], Awaitable[bool]],
    check: Callable[[int, bool], Awaitable[None]],
    *,
    stride: int = 1,
    others: tuple[str, ...] = (),
) -> None:
    """Die at point 1, 2, 3 ... until the operation comes to its end before.

    `ready` prepares number N and says what is called; `check` looks at the old or the new state.
    `others`: see `assert_whole`.
    """
    choose = random.Random(20260)
    was_new = False
    for number in count(1, stride):
        domain, operation, *arguments = await ready(number)
        ending = await crasher.run(domain, number, operation, *arguments)
        if not ending.died:
            assert ending.error is None
            assert 5 < ending.points < number
        elif choose.random() < 0.5:
            await crasher.run(domain, choose.randint(1, 4), "domain_state")
        await assert_whole(domain, *others)
        new = await is_new(number)
        assert new or not was_new, "an operation that dies later is undone, and an earlier one was done"
        await check(number, new)
        was_new = new
        if not ending.died:
            assert new
            return
