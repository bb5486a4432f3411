"""What becomes of a volume's size, in libvirt's words where it refuses."""

from __future__ import annotations

from virtsnap.model.errors import InvalidArg, OperationUnsupported
from virtsnap.model.storage import Volume, VolumeResize

_LARGEST = 2**63 - 1


def new_capacity(volume: Volume, capacity: int, flags: int) -> int:
    """In bytes. With DELTA `capacity` is added, or with SHRINK too taken away.

    Raises InvalidArg for less than it has without SHRINK, or for too much, and OperationUnsupported for room
    that is to be taken at once in a format that cannot say so.
    """
    shrink = bool(flags & VolumeResize.SHRINK)
    if not flags & VolumeResize.DELTA:
        wanted = capacity
    elif shrink:
        wanted = max(volume.capacity - capacity, 0)
    else:
        wanted = volume.capacity + capacity
    if wanted < volume.capacity and not shrink:
        raise InvalidArg(
            "Can't shrink capacity below current capacity unless shrink flag explicitly specified"
        )
    if flags & VolumeResize.ALLOCATE and volume.format != "raw":
        raise OperationUnsupported("preallocate is only supported for raw type volume")
    if wanted > _LARGEST:
        raise InvalidArg(f"capacity of {wanted} bytes is too large")
    return wanted
