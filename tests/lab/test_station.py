"""Stations start from the saved state, run beside each other, and leave nothing behind."""

from __future__ import annotations

import pytest

from lab.station import station

pytestmark = pytest.mark.guest


async def test_two_at_once_and_apart() -> None:
    async with station() as one, station() as two:
        async with await one.console() as first, await two.console() as second:
            for console, text in ((first, "one"), (second, "two")):
                await console.check(f"mem put {text}")
                await console.check(f"disk put vdb {text}")
            assert (await first.check("mem get"), await first.check("disk get vdb")) == ("one", "one")
            assert await second.check("disk get vdb") == "two"
        listed = await one.cli("snapshot-list", one.name, "--name")
        assert (listed.status, listed.out.strip(), listed.err) == (0, "", "")
        async with await one.pulse() as pulse:
            await pulse.beats()
        assert len(one.qemu_pids()) == 1
    assert one.qemu_pids() == two.qemu_pids() == []
    assert not one.folder.exists()
