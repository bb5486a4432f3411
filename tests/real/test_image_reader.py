"""The tests' own reader of images against qemu-img, since much is judged by it; and our snapshot table."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.real.image_reader import Qcow2, chain, read
from tests.real.pen import Pen
from virtsnap.formats import qcow2
from virtsnap.qemu.images import _from_header

pytestmark = pytest.mark.real
K = 1024


def qemu_img(*words: str | Path) -> str:
    done = subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, text=True)
    return done.stdout


def converted(path: Path, tag: str | None = None) -> bytes:
    """What qemu-img reads."""
    raw = path.with_suffix(".converted")
    qemu_img("convert", *(["-l", f"snapshot.name={tag}"] if tag else []), "-O", "raw", path, raw)
    return raw.read_bytes()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A raw image, one on it, and one on that with two internal snapshots."""
    raw, middle, top = tmp_path / "raw", tmp_path / "middle", tmp_path / "top.qcow2"
    qemu_img("create", "-q", "-f", "raw", raw, "640k")
    qemu_img("create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", "-o", "cluster_size=4k", middle)
    qemu_img("create", "-q", "-f", "qcow2", "-b", middle, "-F", "qcow2", top, "768k")
    with Pen() as pen:
        pen.fill(str(raw), "raw", 1, 0, 640 * K)
        pen.fill(str(middle), "qcow2", 2, 60 * K, 8 * K)
        pen.fill(str(top), "qcow2", 3, 128 * K, 64 * K)
        qemu_img("snapshot", "-c", "one", top)
        pen.fill(str(top), "qcow2", 4, 0, 1 * K)
        pen.fill(str(top), "qcow2", 5, 700 * K, 1 * K)
        qemu_img("snapshot", "-c", "zwei: ü", top)
        pen.fill(str(top), "qcow2", 0, 128 * K, 64 * K)
    return top


def test_content_is_what_qemu_reads(image: Path) -> None:
    assert read(image, "qcow2") == converted(image)
    for tag in ("one", "zwei: ü"):
        assert read(image, "qcow2", tag) == converted(image, tag)
    assert len({read(image, "qcow2", tag) for tag in (None, "one", "zwei: ü")}) == 3


def test_chain(image: Path) -> None:
    assert chain(str(image), "qcow2") == [str(image), str(image.parent / "middle"), str(image.parent / "raw")]


def test_our_own_table_says_what_qemu_says(image: Path) -> None:
    for number in range(40):
        qemu_img("snapshot", "-c", f"s{number}-" + "x" * number * 6, image)
    for number in range(0, 40, 3):
        qemu_img("snapshot", "-d", f"s{number}-" + "x" * number * 6, image)
    told = json.loads(qemu_img("info", "--output=json", image))["snapshots"]
    assert len(told) == 28
    facts = _from_header(str(image))
    assert facts is not None
    assert [(t.id, t.name, t.vm_state_size) for t in facts.tags] == [
        (t["id"], t["name"], t["vm-state-size"]) for t in told
    ]
    assert set(Qcow2(image).tags) == {t["name"] for t in told}


def test_a_table_that_is_cut_short_is_not_read(image: Path) -> None:
    data = image.read_bytes()
    header = qcow2.parse(data[: qcow2.HEADER_BYTES])
    assert header is not None
    table = data[header.snapshots_offset :]
    whole = qcow2.parse_snapshots(table, 2)
    assert whole is not None
    assert [tag.name for tag in whole] == ["one", "zwei: ü"]
    used = 0
    while qcow2.parse_snapshots(table[:used], 2) is None:
        used += 1
    assert 100 < used < 200
    assert qcow2.parse_snapshots(table[:used], 2) == whole
