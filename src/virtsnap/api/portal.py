"""One event loop in one thread, for callers that have none. What `api.sync` runs coroutines on.

The caller's thread waits. When Ctrl-C interrupts that wait, the coroutine is cancelled and given the
time to undo what it has begun before KeyboardInterrupt goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from virtsnap.model.errors import OperationInvalid

T = TypeVar("T")


class Portal:
    """Runs coroutines from other threads. `stop` ends it; it does not keep the interpreter alive."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="virtsnap", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result, or its exception. Raises OperationInvalid once stopped, RuntimeError
        when called from the loop's own thread (a progress callback), where waiting would never end."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("the synchronous API cannot be used from inside its own callbacks")
        if self._loop.is_closed():
            coroutine.close()
            raise OperationInvalid("the connection is closed")
        result: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            task = self._loop.create_task(coroutine)
            tasks.append(task)
            task.add_done_callback(lambda done: _copy(done, result))

        def abort() -> None:
            # Runs after `begin`, if the interrupt let that one be queued at all.
            for task in tasks:
                task.cancel()
            if not tasks:
                coroutine.close()
                result.set_exception(asyncio.CancelledError())

        try:
            self._loop.call_soon_threadsafe(begin)
            return result.result()
        except KeyboardInterrupt:
            if not result.done():
                self._loop.call_soon_threadsafe(abort)
                # The exception itself is of no interest: the interrupt goes on.
                result.exception()
            raise

    @contextlib.contextmanager
    def iterating(self, source: AbstractAsyncContextManager[AsyncIterator[T]]) -> Iterator[Iterator[T]]:
        """What an asynchronous iterator gives, in this thread, as long as the block lasts."""
        stream = self.run(source.__aenter__())
        try:
            yield self._each(stream)
        finally:
            if not self._loop.is_closed():
                self.run(source.__aexit__(None, None, None))

    def _each(self, stream: AsyncIterator[T]) -> Iterator[T]:
        while not self._loop.is_closed():
            try:
                yield self.run(_next(stream))
            except _End:
                return

    def stop(self) -> None:
        """End the loop and its thread. Stopping twice does nothing."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()


class _End(Exception):
    """StopAsyncIteration, which a coroutine must not raise."""


async def _next(stream: AsyncIterator[T]) -> T:
    try:
        return await anext(stream)
    except StopAsyncIteration as end:
        raise _End from end


def _copy(task: asyncio.Task[T], result: Future[T]) -> None:
    if task.cancelled():
        result.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        result.set_exception(error)
    else:
        result.set_result(task.result())
