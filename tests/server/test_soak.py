"""Many clients at once for a little while; `python -m tests.server.soak` does it for an hour."""

from __future__ import annotations

import pytest

from tests.server.conftest import Served
from tests.server.soak import soak

pytestmark = pytest.mark.real


async def test_twenty_clients_at_once(served: Served) -> None:
    calls, refusals, sizes = await soak(served.folder, served.socket, served.process.pid, 5)
    assert calls > refusals > 0
    # What is kept of definitions and snapshots is kept after the first of these.
    assert sizes[-1] - sizes[4] < 8 * 1024 * 1024
