"""Writes into images as a guest would: one qemu-io for all of a test's writes."""

from __future__ import annotations

import os
import subprocess
from types import TracebackType

from tests.real.real_qemu import QEMU_IO

_PROMPT = b"qemu-io> "


class Pen:
    """A qemu-io that takes commands, from `with` to its end."""

    def __enter__(self) -> Pen:
        self._process = subprocess.Popen(
            [QEMU_IO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=20)

    def fill(self, path: str, format: str, byte: int, offset: int, length: int) -> None:
        """Write the byte over a range of an image that nobody has open."""
        self._do(f"open -o driver={format} {path}", b"")
        self._do(f"write -P {byte} {offset} {length}", b"wrote %d/%d bytes" % (length, length))
        self._do("close", b"")

    def _do(self, command: str, expected: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.flush()
        answer = self._answer()
        assert answer.startswith(expected) if expected else answer == b"", f"{command}: {answer.decode()}"

    def _answer(self) -> bytes:
        assert self._process.stdout is not None
        answer = b""
        while not answer.endswith(_PROMPT):
            piece = os.read(self._process.stdout.fileno(), 65536)
            assert piece, f"qemu-io has ended: {answer.decode()}"
            answer += piece
        return answer.removesuffix(_PROMPT)
