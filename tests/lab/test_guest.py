"""Building: found again when nothing changed, once when two want it, and with a word when it cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab import guest, packages


@pytest.fixture(name="cache")
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a kernel of our own making, so that nothing is downloaded."""
    kernel = tmp_path / "kernel"
    (kernel / "modules").mkdir(parents=True)
    (kernel / "vmlinuz").write_bytes(b"kernel")
    (kernel / "release").write_text("6.0-test")
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"static")
    monkeypatch.setattr(packages, "static_busybox", lambda cache: busybox)
    return tmp_path


def test_is_kept_until_an_input_changes(cache: Path) -> None:
    first = guest.build(cache)
    assert first.kernel_release == "6.0-test"
    written = first.initrd.stat().st_mtime_ns
    assert guest.build(cache) == first
    assert first.initrd.stat().st_mtime_ns == written
    (cache / "busybox").write_bytes(b"another")
    assert guest.build(cache).initrd != first.initrd


def test_half_an_unpacked_kernel_is_not_taken(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "kernel" / "release").unlink()

    def refuse(target: Path) -> None:
        assert not target.exists()
        raise packages.LabError("no kernel here")

    monkeypatch.setattr(packages, "unpack_kernel", refuse)
    with pytest.raises(packages.LabError, match="no kernel here"):
        guest.build(cache)


def test_the_cache_may_be_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIRTSNAP_LAB_CACHE", str(tmp_path))
    assert guest.default_cache() == tmp_path


def test_without_apt_it_says_so(tmp_path: Path) -> None:
    root = Path(guest.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "lab.guest"],
        cwd=root,
        env={"PATH": str(tmp_path), "VIRTSNAP_LAB_CACHE": str(tmp_path / "cache")},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr == "error: the guest is built from Debian's or Ubuntu's packages, and there is no apt\n"
    )
