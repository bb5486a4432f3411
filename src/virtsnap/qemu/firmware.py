"""The UEFI images that are installed, from QEMU's firmware descriptors.

A descriptor in a folder of more weight hides those of its name in the others, and an empty one just hides
(QEMU's docs/interop/firmware.json). Which one fits is `machine.firmware`'s.
"""

from __future__ import annotations

import os
from pathlib import Path

from virtsnap.machine.firmware import Firmware, from_json


def _folders() -> tuple[Path, ...]:
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return (
        Path(config, "qemu/firmware"),
        Path("/etc/qemu/firmware"),
        Path("/usr/share/qemu/firmware"),
    )


def installed_firmwares() -> tuple[Firmware, ...]:
    """All that are whole, in the order of their file names. Files that are no descriptors are passed over."""
    files: dict[str, Path] = {}
    for folder in _folders():
        for path in sorted(folder.glob("*.json")):
            files.setdefault(path.name, path)
    found: list[Firmware] = []
    for _, path in sorted(files.items()):
        try:
            firmware = from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # libvirt: one bad descriptor must not keep the others from use
        if firmware is not None:
            found.append(firmware)
    return tuple(found)
