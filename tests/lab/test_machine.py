"""The guest itself, on a bare QEMU: it boots, keeps what it is told, and powers off when asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab.guest import GuestImage
from lab.machine import Machine

pytestmark = pytest.mark.guest


def _disk(path: Path, size: str = "16M") -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), size], check=True)
    return path


async def test_boots_and_keeps_markers(image: GuestImage, tmp_path: Path) -> None:
    disks = [_disk(tmp_path / "a.qcow2"), _disk(tmp_path / "b.qcow2")]
    async with Machine(image, disks) as machine, await machine.console() as console:
        await console.wait_ready()
        assert await console.check("uname -r") == image.kernel_release
        assert (await console.run("echo one; echo two; exit 3")).rc == 3
        await console.check("mem put  first")
        await console.check("disk put vda on the first disk")
        await console.check("disk put vdb on the second disk")
        assert await console.check("mem get") == "first"
        assert await console.check("disk get vda") == "on the first disk"
        assert await console.check("disk get vdb") == "on the second disk"
        assert (await console.run("disk put vdz x")).out == "no disk vdz"
        await console.check("fs make vda && fs put vda note 'in a file'")
        assert await console.check("fs get vda note") == "in a file"


async def test_power_button_ends_it(image: GuestImage) -> None:
    async with Machine(image) as machine, await machine.console() as console:
        await console.wait_ready()
        await machine.execute("system_powerdown")
        assert await machine.wait_ended() == 0
        await console.wait_closed()
