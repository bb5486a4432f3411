"""The demonstration as users run it, and that it fails when a marker is wrong."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lab.bench import Bench, table
from lab.demo import Cost, Demo, DemoError
from lab.guest import GuestImage
from lab.sides import Side

GUEST = GuestImage(Path("/k"), Path("/i"), "6.1")


ROOT = Path(__file__).parents[2]


@pytest.mark.guest
async def test_ends_with_0_and_leaves_nothing() -> None:
    # Not pytest's own folder: its path is too long for the sockets.
    with tempfile.TemporaryDirectory(prefix="vs-") as folder:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lab.demo"),
            env=os.environ | {"TMPDIR": folder},
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert (process.returncode, err.decode()) == (0, "")
        assert "Every marker was right." in out.decode()
        assert os.listdir(folder) == []


def test_a_command_that_fails_ends_it(tmp_path: Path) -> None:
    demo = Demo(["false"], tmp_path, GUEST, quiet=True)
    with pytest.raises(DemoError, match=r"define .* ended with 1"):
        asyncio.run(demo.run())


def test_usage() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lab.demo", "--no-such"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2


def test_the_benchmark_says_medians(tmp_path: Path) -> None:
    bench = Bench(Side("ours", ["true"]), tmp_path, GUEST)
    bench.costs = [
        Cost("snapshot a", 1.0, 0.1, 10),
        Cost("revert a", 5.0),
        Cost("snapshot b", 9.0, 0.3, 30),
        Cost("snapshot c", 2.0, 0.2, 20),
    ]
    assert bench.summary() == [Cost("snapshot", 2.0, 0.2, 20), Cost("revert", 5.0)]


def test_the_benchmark_says_ratios() -> None:
    found = {
        1: {"virtsnap": {"list": 0.5, "written": "3 MiB"}, "libvirt": {"list": 1.0, "written": "4 MiB"}},
        9: {"virtsnap": {"list": 3.0}, "libvirt": {"list": 1.5}},
    }
    lines = [line.split() for line in table("disks", [1, 9], found, ["virtsnap", "libvirt"])]
    assert lines == [
        ["disks", "step", "virtsnap", "libvirt", "ratio"],
        ["1", "list", "0.500", "s", "1.000", "s", "0.50"],
        ["9", "list", "3.000", "s", "1.500", "s", "2.00"],
        ["1", "written", "3", "MiB", "4", "MiB"],
        ["9", "written"],
    ]
