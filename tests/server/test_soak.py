"""Many clients at once until the daemon is warm, and a little longer; `script/soak` does it for an hour."""

from __future__ import annotations

import pytest

from tests.server.conftest import Served
from tests.server.soak import Pace, soak

pytestmark = pytest.mark.real


@pytest.mark.timeout(300)
async def test_twenty_clients_at_once(served: Served) -> None:
    pace = Pace(seconds=8, warmup=5, every=0.5, warm_calls=900)
    found = await soak(served.folder, served.socket, served.process.pid, pace, print)
    print(found)
    assert found.calls > found.refusals > 0
    assert found.rude > 5
    assert found.flat, found
