"""What a volume's new size is, or why it has none."""

from __future__ import annotations

import pytest

from virtsnap.model.errors import InvalidArg, OperationUnsupported, VirtsnapError
from virtsnap.model.storage import Volume, VolumeResize
from virtsnap.plan.volumes import new_capacity

ALLOCATE, DELTA, SHRINK = VolumeResize


def of(format: str) -> Volume:
    return Volume("v", "/p/v", format, 1000, 0, 1000, 0o600, 0, 0)


@pytest.mark.parametrize(
    ("capacity", "flags", "size"),
    [
        *((2000, 0, 2000), (1000, 0, 1000), (500, SHRINK, 500), (2000, SHRINK, 2000)),
        *((500, DELTA, 1500), (400, DELTA | SHRINK, 600), (4000, DELTA | SHRINK, 0), (2000, ALLOCATE, 2000)),
    ],
)
def test_sizes(capacity: int, flags: int, size: int) -> None:
    assert new_capacity(of("raw"), capacity, flags) == size


@pytest.mark.parametrize(
    ("format", "capacity", "flags", "error"),
    [
        ("raw", 999, 0, InvalidArg),
        ("qcow2", 2000, ALLOCATE, OperationUnsupported),
        ("raw", 2**63, 0, InvalidArg),
        ("raw", 2**64 - 1, DELTA, InvalidArg),
    ],
)
def test_refusals(format: str, capacity: int, flags: int, error: type[VirtsnapError]) -> None:
    with pytest.raises(error):
        new_capacity(of(format), capacity, flags)
