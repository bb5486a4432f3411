"""The archive is one that cpio reads, and the same for the same input."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lab.cpio import Archive


def _archive(path: Path) -> Path:
    archive = Archive()
    archive.folder("bin")
    archive.file("bin/tool", b"#!/bin/sh\n", 0o755)
    archive.link("bin/sh", "tool")
    archive.char_device("console", 5, 1)
    archive.write(path)
    return path


@pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed")
def test_is_read_by_cpio(tmp_path: Path) -> None:
    with _archive(tmp_path / "a").open() as file:
        listed = subprocess.run(
            ["busybox", "cpio", "-tv"], stdin=file, stdout=subprocess.PIPE, text=True, check=True
        ).stdout.splitlines()
    shape = [(line.split()[0], line.split()[-1]) for line in listed]
    assert shape == [
        ("drwxr-xr-x", "bin"),
        ("-rwxr-xr-x", "bin/tool"),
        ("lrwxrwxrwx", "tool"),
        ("crw-------", "console"),
    ]


def test_same_input_same_bytes(tmp_path: Path) -> None:
    assert _archive(tmp_path / "a").read_bytes() == _archive(tmp_path / "b").read_bytes()
