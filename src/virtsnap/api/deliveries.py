"""A thread in which callbacks are called one after the other, so that they may wait for the connection."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import field

from virtsnap.model.frozen import dataclass


class Deliveries:
    """The calls of one connection. The thread starts with the first, and does not keep the interpreter."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def add(self, call: Callable[[], None]) -> None:
        """Have it called, after all that were added before."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="virtsnap-events", daemon=True)
            self._thread.start()
        self._calls.put(call)

    def stop(self) -> None:
        """Let the present call come to its end, and call no more."""
        self._stopped = True
        if self._thread is not None and self._thread.is_alive():
            self._calls.put(None)
            if threading.current_thread() is not self._thread:
                self._thread.join()

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None and not self._stopped:
            try:
                call()
            except Exception:
                logging.getLogger("virtsnap").exception("an event callback failed")


@dataclass(frozen=True)
class Delivery:
    """A callback that is called in that thread; equal to others of the same function."""

    callback: Callable[..., object]
    call: Callable[..., None] = field(compare=False)
    deliveries: Deliveries = field(compare=False)

    def __call__(self, *arguments: object) -> None:
        """Add it."""
        self.deliveries.add(lambda: self.call(*arguments))
