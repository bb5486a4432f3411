"""Files replaced as a whole: a reader, and a machine that lost power, sees the old or the new content.

What is not here: large files (memory images, overlays), which their makers write and sync themselves.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from virtsnap.model.errors import ErrorCode, Failed


def write_atomic(path: Path | str, data: bytes | str, mode: int = 0o600, *, durable: bool = True) -> None:
    """Replace `path` by `data` (text is written as UTF-8) with permission bits `mode`.

    When it returns, the content and its name are durable; without `durable` a power cut may leave an empty
    file. When it raises, the old file is as it was and no temporary file is left, except after SIGKILL: then
    a file named `.NAME.*.tmp` may stay.

    Raises Failed (code 38, outcome undone) with the system's message.
    """
    path = Path(path)
    content = data.encode() if isinstance(data, str) else data
    try:
        temporary = path.parent / f".{path.name}.{os.urandom(6).hex()}.tmp"
        # Nobody sees secrets before the wanted mode is set.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        if durable:
            fsync_path(path.parent)
    except OSError as error:
        raise _failed(f"cannot write data to file '{path}'", error) from error


def fsync_path(path: Path | str) -> None:
    """Make a file's content, or the names in a directory, durable.

    Raises Failed (code 38) with the system's message.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _failed(f"cannot sync '{path}'", error) from error


def _failed(what: str, error: OSError) -> Failed:
    return Failed(f"{what}: {error.strerror}", code=ErrorCode.SYSTEM_ERROR)
