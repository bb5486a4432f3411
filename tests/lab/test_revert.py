"""What the guest is for: state that goes back together, and a console that works after it went back."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from lab.guest import GuestImage
from lab.machine import Machine

pytestmark = pytest.mark.guest


def _image(path: Path, backing: Path | None = None) -> Path:
    over = ["-b", str(backing), "-F", "qcow2"] if backing else []
    size = [] if backing else ["16M"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *over, str(path), *size], check=True)
    return path


async def test_counter_tells_disks_and_memory_of_one_instant(image: GuestImage, tmp_path: Path) -> None:
    bases = [_image(tmp_path / "a"), _image(tmp_path / "b")]
    state = tmp_path / "state"
    async with Machine(image, bases) as machine, await machine.console() as console:
        await console.wait_ready()
        await console.check("mem put before")
        await console.check("counter start vda vdb")
        await console.check("until read -r n </run/counter && [ $n -ge 3 ]; do usleep 10000; done")
        await machine.save(state)
    same = [_image(tmp_path / "a1", bases[0]), _image(tmp_path / "b1", bases[1])]
    async with Machine(image, same, incoming=state) as machine, await machine.console() as console:
        await console.wait_ready()
        assert await console.check("mem get") == "before"
        await console.check("until read -r n </run/counter && [ $n -ge 8 ]; do usleep 10000; done")
        assert (await console.check("counter show")).endswith("bad=0")
        await console.check("counter stop")
    # One disk of another time than the memory: the guest itself must notice.
    other = [_image(tmp_path / "a2", same[0]), _image(tmp_path / "b2", bases[1])]
    async with Machine(image, other, incoming=state) as machine, await machine.console() as console:
        await console.wait_ready()
        shown = await console.check("until [ -s /run/counter.bad ]; do usleep 10000; done; counter show")
        assert "vda holds" in shown
        assert "vdb holds" not in shown


async def test_console_goes_on_when_saved_in_the_middle_of_a_line(image: GuestImage, tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with Machine(image) as machine, await machine.console() as console:
        await console.wait_ready()
        await console.send("yes out of breath | head -n 3000")
        await console.seen("out of breath")
        await machine.save(state)
    for _ in range(2):
        async with Machine(image, incoming=state) as machine, await machine.console() as console:
            await console.wait_ready()
            assert await console.check("echo back") == "back"


async def test_half_a_command_is_never_run(image: GuestImage, tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with Machine(image) as machine, await machine.console() as console:
        await console.wait_ready()
        await console.write(b"@dead-1 touch /run/wrong")
        assert (await console.run("test -e /run/wrong")).rc == 1
        await console.write(b"@dead-2 touch /run/wrong")
        await machine.save(state)
    async with Machine(image, incoming=state) as machine, await machine.console() as console:
        await console.wait_ready()
        assert (await console.run("test -e /run/wrong")).rc == 1


async def test_ticks(image: GuestImage, tmp_path: Path) -> None:
    ticks = tmp_path / "ticks"
    async with Machine(image, tick=ticks) as machine, await machine.console() as console:
        await console.wait_ready()
        async with asyncio.timeout(20):
            await console.check("until [ $(cut -d. -f1 /proc/uptime) -ge 4 ]; do usleep 50000; done")
    lines = [line.split() for line in ticks.read_text().splitlines()[:-1]]
    counts = [int(count) for count, _ in lines]
    assert counts == list(range(1, len(counts) + 1))
    uptimes = [float(uptime) for _, uptime in lines]
    assert uptimes == sorted(uptimes)
    assert len(lines) / (uptimes[-1] - uptimes[0]) > 20


async def test_memory_load_and_sums(image: GuestImage, tmp_path: Path) -> None:
    async with Machine(image, [_image(tmp_path / "a")]) as machine, await machine.console() as console:
        await console.wait_ready()
        await console.check("mem fill 8")
        first = await console.check("mem sum")
        await console.check("mem fill 8")
        assert await console.check("mem sum") != first
        await console.check("disk fill vda 4 2")
        sums = [await console.check(f"disk sum vda {at} 2") for at in (4, 4, 6)]
        assert sums[0] == sums[1] != sums[2]
        await console.check("dirty start 4")
        assert (await console.run("dirty start 4")).rc == 1
        await console.check("dirty stop")
        assert (await console.run("dirty stop")).rc == 1
        await console.send("poweroff -f")
        assert await machine.wait_ended() == 0
