"""Whether a program of QEMU's has an image open so that nobody else may write to it.

They tell each other by locks on single bytes of the file (QEMU's file-posix driver): one byte for each right
that is used, one for each that is not shared. A look takes no lock.
"""

from __future__ import annotations

import fcntl
import os
import struct

_WRITES, _RESIZES = 1, 3
"""Numbers of QEMU's rights."""
_USED, _NOT_SHARED = 100, 200
_FLOCK = "hhqqi4x"


def held(path: str) -> bool:
    """Some process writes to the image, or wants it not to change. False where nobody can say."""
    bytes_of_interest = [first + right for first in (_USED, _NOT_SHARED) for right in (_WRITES, _RESIZES)]
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return any(_locked(file, byte) for byte in bytes_of_interest)
    except OSError:
        return False  # a file system without locks
    finally:
        os.close(file)


def _locked(file: int, byte: int) -> bool:
    wish = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    kind: int = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_OFD_GETLK, wish))[0]
    return kind != fcntl.F_UNLCK
