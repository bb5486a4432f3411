"""Where a file has data, and where only holes that read as zeros (lseek(2), SEEK_DATA and SEEK_HOLE)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator


def extents(descriptor: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(offset, end) of every run of data between two offsets. Raises OSError."""
    at = start
    while at < end:
        try:
            data = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        if data >= end:
            return
        at = min(os.lseek(descriptor, data, os.SEEK_HOLE), end)
        yield data, at
