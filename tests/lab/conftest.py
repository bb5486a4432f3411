"""The lab guest under a bare QEMU."""

from __future__ import annotations

import pytest

from lab import guest


@pytest.fixture(scope="session")
def image() -> guest.GuestImage:
    return guest.build()
