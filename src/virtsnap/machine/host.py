"""What `complete` must know of the host: which QEMU there is and what it offers.

Gathered by the `qemu` package; this is the value only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from virtsnap.machine.firmware import Firmware
from virtsnap.model.frozen import dataclass


@dataclass(frozen=True)
class Host:
    """One QEMU binary of one architecture."""

    emulator: str = "/usr/bin/qemu-system-x86_64"
    qemu_version: tuple[int, int, int] = (10, 0, 0)
    machine_aliases: Mapping[str, str] = field(
        default_factory=lambda: {"q35": "pc-q35-10.0", "pc": "pc-i440fx-10.0"}
    )
    """Alias -> versioned machine type, from query-machines."""
    firmwares: tuple[Firmware, ...] = ()
    """UEFI images in QEMU's order of preference."""
    nvram_dir: str = "/var/lib/libvirt/qemu/nvram"
    """Folder for the variable stores of definitions that name none."""
    default_machine: str = "pc"
    """What a definition that names no machine gets."""
