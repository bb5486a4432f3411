"""Frames: a length, six words of header, and a payload. Cuts a byte stream into them.

File descriptors follow the frame that counts them, each beside a byte of its own. Here is the count, and the
bytes are passed over; whoever has the socket passes or takes the descriptors themselves.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from enum import IntEnum

from virtsnap.model.frozen import dataclass

FRAME_MAX = 4 + 32 * 1024 * 1024
STREAM_CHUNK = 262_120
"""As much data as libvirt itself puts into one stream message."""
_HEADER = struct.Struct(">IIIiiIi")
PAYLOAD_MAX = FRAME_MAX - _HEADER.size
DESCRIPTORS_MAX = 32
"""As many as may follow one frame."""


class ProtocolError(Exception):
    """What the peer sends is not the protocol: there is nothing to do but close."""


class Kind(IntEnum):
    """virNetMessageType."""

    CALL = 0
    REPLY = 1
    MESSAGE = 2
    STREAM = 3
    CALL_WITH_FDS = 4
    REPLY_WITH_FDS = 5
    STREAM_HOLE = 6


_WITH_DESCRIPTORS = frozenset({Kind.CALL_WITH_FDS, Kind.REPLY_WITH_FDS})


class Status(IntEnum):
    """virNetMessageStatus."""

    OK = 0
    ERROR = 1
    CONTINUE = 2


@dataclass(frozen=True)
class Frame:
    """One frame. `serial` ties an answer, and a stream's data, to the call. `descriptors`: so many follow."""

    program: int
    version: int
    procedure: int
    kind: Kind
    serial: int = 0
    status: Status = Status.OK
    payload: bytes = b""
    descriptors: int = 0

    def pack(self) -> bytes:
        """Its bytes. Raises ProtocolError when they are too many."""
        count = self.descriptors.to_bytes(4, "big") if self.kind in _WITH_DESCRIPTORS else b""
        length = _HEADER.size + len(count) + len(self.payload)
        if length > FRAME_MAX:
            raise ProtocolError(f"a message of {length} bytes is too large")
        head = (self.program, self.version, self.procedure, self.kind, self.serial, self.status)
        return _HEADER.pack(length, *head) + count + self.payload

    def answer(self, payload: bytes = b"", status: Status = Status.OK) -> Frame:
        """The reply to this call."""
        return Frame(self.program, self.version, self.procedure, Kind.REPLY, self.serial, status, payload)

    def answer_with(self, descriptors: int, payload: bytes = b"") -> Frame:
        """The reply that so many descriptors follow."""
        kind = Kind.REPLY_WITH_FDS
        return replace(self.answer(payload), kind=kind, descriptors=descriptors)

    def stream(self, payload: bytes = b"", status: Status = Status.CONTINUE) -> Frame:
        """A part of the stream that this call has opened."""
        return Frame(self.program, self.version, self.procedure, Kind.STREAM, self.serial, status, payload)


class FrameReader:
    """Collects bytes until they make frames. `limit`: the largest frame that is waited for."""

    def __init__(self, limit: int = FRAME_MAX) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._passed = 0  # bytes that come next and say nothing: descriptors come with them

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now. Raises ProtocolError for what can never become one."""
        self._buffer += data
        while self._pass_over() and len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if not _HEADER.size <= length <= self.limit:
                raise ProtocolError(f"a frame cannot have {length} bytes")
            if len(self._buffer) < length:
                return
            frame = _frame(bytes(self._buffer[:length]))
            del self._buffer[:length]
            self._passed = frame.descriptors
            yield frame

    def _pass_over(self) -> bool:
        count = min(self._passed, len(self._buffer))
        del self._buffer[:count]
        self._passed -= count
        return not self._passed

    @property
    def waiting(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)


def whole(data: bytes) -> Frame | None:
    """The frame that these bytes are, if they are one, no more and no less, and a sound one."""
    if len(data) < _HEADER.size or int.from_bytes(data[:4], "big") != len(data):
        return None
    try:
        return _frame(data)
    except ProtocolError:
        return None


def _frame(data: bytes) -> Frame:
    _, program, version, procedure, kind, serial, status = _HEADER.unpack_from(data)
    try:
        known, state = Kind(kind), Status(status)
    except ValueError as error:
        raise ProtocolError(str(error)) from error
    if known not in _WITH_DESCRIPTORS:
        return Frame(program, version, procedure, known, serial, state, data[_HEADER.size :])
    start = _HEADER.size + 4
    count = int.from_bytes(data[_HEADER.size : start], "big")
    if len(data) < start or count > DESCRIPTORS_MAX:
        raise ProtocolError(f"a frame cannot have {count} descriptors behind it")
    return Frame(program, version, procedure, known, serial, state, data[start:], count)
