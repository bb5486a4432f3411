"""Modules come after what they depend on, whatever they are packed with."""

from __future__ import annotations

import lzma
from pathlib import Path

from lab.modules import in_load_order


def _elf(depends: str) -> bytes:
    return b"\x7fELF..\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0"


def test_order(tmp_path: Path) -> None:
    tree = tmp_path / "kernel"
    tree.mkdir()
    (tree / "virtio_blk.ko").write_bytes(_elf("virtio-ring,virtio"))
    (tree / "virtio_ring.ko.xz").write_bytes(lzma.compress(_elf("virtio")))
    (tree / "virtio.ko").write_bytes(_elf(""))
    (tree / "unwanted.ko").write_bytes(_elf(""))
    order = in_load_order(tmp_path, ("virtio_blk", "built_in", "virtio"))
    assert [module.name for module in order] == ["virtio", "virtio_ring", "virtio_blk"]
    assert order[1].data == _elf("virtio")
