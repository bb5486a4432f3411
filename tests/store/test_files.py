from __future__ import annotations

import os
from pathlib import Path

import pytest

from virtsnap.model.errors import Failed, Outcome
from virtsnap.store.files import fsync_path, write_atomic


def test_writes_bytes_and_text_with_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    write_atomic(path, b"one")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"one", 0o600)
    write_atomic(path, "zwölf", mode=0o644)
    assert (path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777) == ("zwölf", 0o644)
    fsync_path(str(path))
    assert os.listdir(tmp_path) == ["a.xml"]


def test_a_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomic(path, "old")
    with path.open() as reader:
        write_atomic(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_failure_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_atomic(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Failed) as caught:
        write_atomic(path, "new")
    assert str(caught.value) == f"cannot write data to file '{path}': No space left on device"
    assert caught.value.outcome is Outcome.UNDONE
    assert (os.listdir(tmp_path), path.read_text()) == (["a"], "old")


def test_missing_directory_is_a_clear_failure(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="No such file or directory"):
        write_atomic(tmp_path / "absent" / "a", "x")
    with pytest.raises(Failed, match="cannot sync"):
        fsync_path(tmp_path / "absent")


def test_content_is_synced_before_the_name_and_the_name_before_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(descriptor: int) -> None:
        order.append("directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def spy_replace(source: str, target: Path) -> None:
        order.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    write_atomic(tmp_path / "a", "x")
    assert order == ["file", "rename", "directory"]
