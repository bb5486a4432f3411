"""The bell: a file in the root folder that is written to when something was told of a domain.

A watcher has inotify(7) tell it. A process that dies between its commit and the ring wakes watchers all the
same: the kernel closes its database file, and they watch for that, too. What is not here: the watching
(`engine.watch`).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

FILE_NAME = "bell"


def ring(root: Path) -> None:
    """Wake all watchers. Quiet when it cannot be written: what was told stays in the store."""
    with contextlib.suppress(OSError):
        descriptor = os.open(root / FILE_NAME, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, b"\n", 0)
        finally:
            os.close(descriptor)
