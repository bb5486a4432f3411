"""The calls that talk to the guest's agent, or straight to QEMU."""

from __future__ import annotations
