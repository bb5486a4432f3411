"""The programs that compress memory images, between QEMU and the file, each reading one end of a pipe.

The same programs with the same options as libvirt's, so that either side reads the other's images. What is
not here: the image's head, which is never compressed (`formats.save_image`), and QEMU's end (`qemu.memory`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal

from virtsnap.formats.save_image import SaveFormat
from virtsnap.model.errors import Failed, OperationFailed

_PROGRAMS: dict[SaveFormat, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    SaveFormat.GZIP: ("gzip", ("-c",), ("-dc",)),
    SaveFormat.BZIP2: ("bzip2", ("-c",), ("-dc",)),
    # xz's default asks for a lot of memory and time for little.
    SaveFormat.XZ: ("xz", ("-c", "-3"), ("-dc",)),
    # lzop warns that it was not given the file's name.
    SaveFormat.LZOP: ("lzop", ("-c",), ("-dc", "--ignore-warn")),
    SaveFormat.ZSTD: ("zstd", ("-c",), ("-dc",)),
}
COMPRESSED = frozenset(_PROGRAMS)
"""The formats that need a program."""
_PIPE_BYTES = 1 << 20
_SAID_BYTES = 2000


def program(format: SaveFormat) -> str:
    """Where the format's program is. Raises OperationFailed when it is not installed."""
    import shutil

    name = _PROGRAMS[format][0]
    path = shutil.which(name)
    if path is None:
        raise OperationFailed(
            f"save image format {format.name.lower()} needs '{name}', which is not installed"
        )
    return path


class Filter:
    """A compressor or decompressor at work; QEMU has the other end of its pipe. Made by `start`."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, descriptor: int) -> None:
        self._process, self._name = process, name
        self.descriptor = descriptor
        """QEMU's end of the pipe: to be closed, by `hand_over`, as soon as QEMU has its own copy."""

    @classmethod
    async def start(cls, format: SaveFormat, file: int, *, writing: bool) -> Filter:
        """Between the pipe and a descriptor that stands where the stream begins.

        Raises OperationFailed when the program is not installed.
        """
        path = program(format)
        _, compress, decompress = _PROGRAMS[format]
        reader, writer = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        ours, theirs = (reader, writer) if writing else (writer, reader)
        try:
            process = await asyncio.create_subprocess_exec(
                path,
                *(compress if writing else decompress),
                stdin=ours if writing else file,
                stdout=file if writing else ours,
                stderr=asyncio.subprocess.PIPE,
            )
        except BaseException:
            os.close(theirs)
            raise
        finally:
            os.close(ours)
        return cls(process, os.path.basename(path), theirs)

    def hand_over(self) -> None:
        """Close our copy of QEMU's end; else the end of the stream would never be seen."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    async def finish(self) -> None:
        """Wait for the program's good end. Raises Failed with what it said."""
        self.hand_over()
        said = (await self._process.communicate())[1]
        # A reader that has all it needs may leave before the last bytes: that is no error.
        if self._process.returncode not in (0, -signal.SIGPIPE):
            words = said[:_SAID_BYTES].decode(errors="replace").strip()
            raise Failed(f"{self._name} failed: {words or f'exit status {self._process.returncode}'}")

    async def abandon(self) -> None:
        """End it, whatever it does. May be called after `finish`."""
        self.hand_over()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.communicate()
