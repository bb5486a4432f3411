"""Which kernel modules the guest loads, in which order, as plain bytes that `insmod` takes.

Drivers differ between distributions: built in here, a module there, missing elsewhere. What a name depends on
is read from the module itself, so no depmod is needed. The guest loads the list from first to last.
"""

from __future__ import annotations

import lzma
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

WANTED = (
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "virtio_net",
    "virtio_balloon",
    "virtio_rng",
    "virtio_scsi",
    "sd_mod",
    "sr_mod",
    "ahci",
    "ata_piix",
    "ext4",
    "button",
    "evdev",
)
"""Drivers for the devices virtsnap can give a guest. One that the kernel does not have is left out."""


@dataclass(frozen=True)
class Module:
    """A module ready to load: its name with underscores and its uncompressed ELF file."""

    name: str
    data: bytes


def in_load_order(tree: Path, wanted: tuple[str, ...] = WANTED) -> list[Module]:
    """The wanted modules of a kernel's module tree (lib/modules/RELEASE) after all that they depend on."""
    files = {_name(path): path for path in sorted(tree.rglob("*.ko*"))}
    order: dict[str, Module] = {}

    def visit(name: str) -> None:
        if name in order or name not in files:
            return
        data = _read(files[name])
        for dependency in _dependencies(data):
            visit(dependency)
        order[name] = Module(name, data)

    for name in wanted:
        visit(name)
    return list(order.values())


def _name(path: Path) -> str:
    return path.name.split(".ko")[0].replace("-", "_")


def _read(path: Path) -> bytes:
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".zst":
        done = subprocess.run(["zstd", "-dcq", str(path)], stdout=subprocess.PIPE, check=True)
        return done.stdout
    return path.read_bytes()


def _dependencies(elf: bytes) -> list[str]:
    found = re.search(rb"\0depends=([\w,-]*)\0", elf)
    names = found.group(1).decode().split(",") if found else []
    return [name.replace("-", "_") for name in names if name]
