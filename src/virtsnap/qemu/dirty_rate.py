"""How fast a guest changes its memory, as far as QEMU can tell in a moment.

By its page sampling: hashes of some pages, and again a moment later. No dirty log, no page is protected, so
the guest does not notice. A page that was written with what it held before counts as not written. What is not
here: what follows from it (`plan.memory_way`).
"""

from __future__ import annotations

import asyncio

from virtsnap.qemu.monitor import Monitor, QmpCommandFailed

_SHORT_MS = 100
"""QEMU takes 50 at least."""
_LONG_MS = 200
_DOUBT = 4
"""On a busy host the guest has hardly a turn in the short time: it may change so many times more."""
_PAGES_PER_GIB = 1024
"""So one changed page stands for 10 MiB/s. Hashing them twice takes a thread of QEMU's 3 ms for a GiB."""
_WAIT_SECONDS = 0.5
"""For the end, which no event tells."""
_POLL_SECONDS = 0.002


async def sample(monitor: Monitor, little: int) -> int | None:
    """MiB of its memory that the guest changes in a second; None where QEMU does not tell, or not soon.

    Much less than `little` is told at once. More is looked at again, for longer: those who wait for a busy
    guest wait for seconds anyway.
    """
    try:
        rate = await _rate(monitor, _SHORT_MS)
        return rate if rate is None or rate * _DOUBT < little else await _rate(monitor, _LONG_MS)
    except QmpCommandFailed:
        return None


async def _rate(monitor: Monitor, milliseconds: int) -> int | None:
    await monitor.execute(
        "calc-dirty-rate",
        calc_time=milliseconds,
        calc_time_unit="millisecond",  # QEMU 8.2
        sample_pages=_PAGES_PER_GIB,
    )
    await asyncio.sleep(milliseconds / 1000)
    until = asyncio.get_running_loop().time() + _WAIT_SECONDS
    while (answer := await monitor.execute("query-dirty-rate"))["status"] != "measured":
        if asyncio.get_running_loop().time() > until:
            return None
        await asyncio.sleep(_POLL_SECONDS)
    rate = int(answer.get("dirty-rate", -1))
    return rate if rate >= 0 else None
