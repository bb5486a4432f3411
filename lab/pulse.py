"""Listens to the guest's pulse (`rootfs/lib/tick.sh`): how long did the guest stand still?

The guest says COUNT and UPTIME about every 20 ms; measured is the host's clock between two arrivals.
"""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from types import TracebackType


class Pulse:
    """The ticks of one guest, from `connect` until the guest ends or `close`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Listen on an open line. `connect` is the usual way."""
        self._writer = writer
        self._arrivals: list[float] = []
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._listen(reader))

    @classmethod
    async def connect(cls, address: Path) -> Pulse:
        """Connect to the unix socket given to `domain_xml` as `tick_socket`."""
        return cls(*await asyncio.open_unix_connection(address))

    async def __aenter__(self) -> Pulse:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening; what was heard stays."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._writer.close()

    async def beats(self, count: int = 3, timeout: float = 30) -> None:
        """Return after that many more ticks: the guest runs."""
        due = len(self._arrivals) + count
        async with asyncio.timeout(timeout):
            while len(self._arrivals) < due:
                self._news.clear()
                await self._news.wait()

    def longest_gap(self, since: float) -> float:
        """Seconds: the longest silence after `since` (of `time.monotonic`), from one tick to the next.

        The tick before `since` counts, so a stall that began there is not missed. 0 when there were no two.
        """
        after = [at for at in self._arrivals if at >= since]
        before = [at for at in self._arrivals if at < since][-1:]
        heard = before + after
        return max((late - early for early, late in pairwise(heard)), default=0.0)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                if line.endswith(b"\n"):
                    self._arrivals.append(time.monotonic())
                    self._news.set()
        except ConnectionError:
            return
