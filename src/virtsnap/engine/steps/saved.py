"""Steps on saved states: a finished file takes its name, and the disks of a managed save are noted.

The note is JSON: for every writable disk the source that the saved definition names, and its chain as files
(path, size, time of the last change in nanoseconds), top first.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from virtsnap.engine.steps.base import Irreversible
from virtsnap.engine.world import World
from virtsnap.model import steps as s
from virtsnap.model.errors import ErrorCode, Failed
from virtsnap.qemu import images
from virtsnap.store.files import fsync_path, write_atomic

Layers = list[tuple[str, int, int]]
"""(path, size in bytes, time of the last change in nanoseconds)."""


class MoveFile(Irreversible):
    """A finished file takes the place of another."""

    async def do(self, world: World, step: s.MoveFile, /) -> None:
        """Rename it; quiet when that was done."""
        if not os.path.exists(step.source):
            return
        try:
            os.replace(step.source, step.path)
        except OSError as error:
            raise Failed(
                f"cannot rename '{step.source}' to '{step.path}': {error.strerror}",
                code=ErrorCode.SYSTEM_ERROR,
            ) from error
        fsync_path(os.path.dirname(step.path))


class NoteDisks(Irreversible):
    """What the disks of a managed save look like."""

    async def do(self, world: World, step: s.NoteDisks, /) -> None:
        """Look at them and write it down."""
        note = {
            target: {"saved": saved, "now": await layers(source, format)}
            for target, saved, source, format in step.disks
        }
        write_atomic(Path(step.path), json.dumps(note))


async def layers(path: str, format: str) -> Layers:
    """The files of a disk as they are now. Raises SystemRefused when one is missing."""
    found: Layers = []
    for image in await images.chain(path, format):
        status = os.stat(image.path)
        found.append((image.path, status.st_size, status.st_mtime_ns))
    return found
