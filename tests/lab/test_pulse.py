"""The pulse measures silences by the host's clock, those that reach over the start included."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from lab.pulse import Pulse


async def test_longest_gap(tmp_path: Path) -> None:
    path = tmp_path / "tick"
    guest: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_unix_server(lambda _, writer: guest.put_nowait(writer), path)
    async with server, await Pulse.connect(path) as pulse:
        line = await guest.get()
        written = time.monotonic()
        for count in range(1, 4):
            line.write(b"%d 1.0\n" % count)
        await pulse.beats(3)
        begin = time.monotonic()
        assert pulse.longest_gap(begin) == 0
        with pytest.raises(TimeoutError):
            await pulse.beats(1, timeout=0.1)
        line.write(b"4 1.1\n")
        await pulse.beats(1)
        assert 0.1 <= pulse.longest_gap(begin) <= time.monotonic() - written
        assert pulse.longest_gap(time.monotonic()) == 0
        line.close()
