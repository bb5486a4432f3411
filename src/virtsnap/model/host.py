"""The host, as far as libvirt's calls on it tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from virtsnap.model.frozen import dataclass


@dataclass(frozen=True)
class NodeInfo:
    """virNodeInfo. Memory in KiB, speed in MHz (0: not known)."""

    model: str
    memory_kib: int
    cpus: int
    mhz: int
    nodes: int
    sockets: int
    cores: int
    threads: int


@dataclass(frozen=True)
class Emulator:
    """What one QEMU offers to those who ask before they define anything."""

    path: str
    version: tuple[int, int, int]
    machines: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    """'pc' -> 'pc-i440fx-10.0'."""
    max_cpus: Mapping[str, int] = field(default_factory=dict)
    """By machine."""
    kvm: bool = False
    firmwares: tuple[str, ...] = ()
    """Paths of UEFI images that can be loaders."""
    secure: bool = False
    """One of them has Secure Boot."""
    tpm_versions: tuple[str, ...] = ()
    """What an emulated TPM may be: '1.2', '2.0'."""
