"""Flags that a call must not have."""

from __future__ import annotations

from virtsnap.model.errors import BareInvalidArg


def only(flags: int, allowed: int, function: str) -> int:
    """The flags. Raises BareInvalidArg, as libvirt's driver does, when there are others than `allowed`."""
    if unknown := flags & ~allowed:
        raise BareInvalidArg(f"unsupported flags (0x{unknown:x}) in function {function}")
    return flags
