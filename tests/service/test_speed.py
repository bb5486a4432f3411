"""How quick the program is at once: medians are printed; the bounds are four times what is promised."""

from __future__ import annotations

import statistics
import subprocess
import time
from dataclasses import replace

import pytest

from tests.service.local_domain import PROGRAM, BareDomain

pytestmark = pytest.mark.real

NOISE = 4


def _median_ms(*words: str) -> float:
    times = []
    for _ in range(7):
        start = time.perf_counter()
        subprocess.run([PROGRAM, *words], check=True, capture_output=True)
        times.append((time.perf_counter() - start) * 1000)
    median = statistics.median(times)
    print(f"virtsnap {' '.join(words)}: {median:.0f} ms (fastest {min(times):.0f} ms)")
    return median


def test_version() -> None:
    assert _median_ms("--version") < 150 * NOISE


async def test_list_of_200_snapshots(bare: BareDomain) -> None:
    await bare.disk_only("s0")
    store = bare.service.store
    [first] = store.tree(bare.uuid)
    with store.transaction() as tx:
        for number in range(1, 200):
            tx.put_snapshot(bare.uuid, replace(first, name=f"s{number}", parent=f"s{number - 1}"))
    assert len((await bare.cli_ok("snapshot-list", "bare", "--name")).split()) == 200
    assert _median_ms("-c", bare.uri, "snapshot-list", "bare") < 400 * NOISE
