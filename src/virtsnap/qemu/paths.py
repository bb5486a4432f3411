"""Unix socket addresses of any length, and names made durable.

A socket address holds 108 bytes, a path up to 4096. The kernel follows `/proc/self/fd/N/name` to the folder
that descriptor N has open, so that only the last component must fit. What is not here: who listens
(`qemu.process`) and who talks (`qemu.monitor`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def socket_address(path: str) -> Iterator[str]:
    """An address for bind() and connect() that means `path`; good for the length of the context.

    Raises OSError when the folder of `path` cannot be opened.
    """
    folder, name = os.path.split(os.path.abspath(path))
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def sync_file(path: str) -> None:
    """Make the content of a file durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder_of(path: str) -> None:
    """Make the name `path` durable (or its absence). Raises OSError."""
    sync_file(os.path.dirname(os.path.abspath(path)))
