"""What `virtsnap.X` means, imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module

_MODULES = {
    "virtsnap.api.sync": ("Connection", "Domain", "DomainSnapshot", "open"),
    "virtsnap.model.errors": ("VirtsnapError",),
    "virtsnap.model.flags": (
        "DomainDefine",
        "DomainDestroy",
        "DomainList",
        "DomainSaveRestore",
        "DomainStart",
        "DomainUndefine",
        "DomainXml",
        "ShutdownMethod",
        "SnapshotCreate",
        "SnapshotDelete",
        "SnapshotList",
        "SnapshotRevert",
    ),
    "virtsnap.model.libvirt": ("LibvirtReport",),
    "virtsnap.service.interface": ("PlanReport", "Progress"),
}

PUBLIC = {name: module for module, names in _MODULES.items() for name in names}
"""The module of each name. Beside these: `aio`, and libvirt's constants (VIR_...)."""


def public(name: str) -> object:
    """The object that the package shows under `name`. Raises AttributeError."""
    if name == "aio":
        return import_module("virtsnap.api.aio")
    module = "virtsnap.api.constants" if name.startswith("VIR_") else PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'virtsnap' has no attribute '{name}'")
    return getattr(import_module(module), name)
