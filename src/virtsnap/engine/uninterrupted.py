"""Waits that a cancellation does not cut short."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await to the end even when cancelled meanwhile: what must not stop half way also ends in time.

    The cancellation is dropped. After a commit nothing is left to cancel, and an undo is already the answer
    to one.
    """
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    return task.result()
