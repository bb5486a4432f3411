"""Frames: a length, six words of header, and a payload. Cuts a byte stream into them.

A frame that passes file descriptors is not for us (`features` says so to clients), and what follows it would
not be a frame, so it ends the connection as any other broken one does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

from virtsnap.model.frozen import dataclass

FRAME_MAX = 4 + 32 * 1024 * 1024
STREAM_CHUNK = 262_120
"""As much data as libvirt itself puts into one stream message."""
_HEADER = struct.Struct(">IIIiiIi")
PAYLOAD_MAX = FRAME_MAX - _HEADER.size


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


class Status(IntEnum):
    """virNetMessageStatus."""

    OK = 0
    ERROR = 1
    CONTINUE = 2


@dataclass(frozen=True)
class Frame:
    """One frame. `serial` ties an answer, and a stream's data, to the call."""

    program: int
    version: int
    procedure: int
    kind: Kind
    serial: int = 0
    status: Status = Status.OK
    payload: bytes = b""

    def pack(self) -> bytes:
        """Its bytes. Raises ProtocolError when they are too many."""
        length = _HEADER.size + len(self.payload)
        if length > FRAME_MAX:
            raise ProtocolError(f"a message of {length} bytes is too large")
        head = (self.program, self.version, self.procedure, self.kind, self.serial, self.status)
        return _HEADER.pack(length, *head) + self.payload

    def answer(self, payload: bytes = b"", status: Status = Status.OK) -> Frame:
        """The reply to this call."""
        return Frame(self.program, self.version, self.procedure, Kind.REPLY, self.serial, status, payload)

    def stream(self, payload: bytes = b"", status: Status = Status.CONTINUE) -> Frame:
        """A part of the stream that this call has opened."""
        return Frame(self.program, self.version, self.procedure, Kind.STREAM, self.serial, status, payload)


class FrameReader:
    """Collects bytes until they make frames. `limit`: the largest frame that is waited for."""

    def __init__(self, limit: int = FRAME_MAX) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now. Raises ProtocolError for what can never become one."""
        self._buffer += data
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if not _HEADER.size <= length <= self.limit:
                raise ProtocolError(f"a frame cannot have {length} bytes")
            if len(self._buffer) < length:
                return
            frame = _frame(bytes(self._buffer[:length]))
            del self._buffer[:length]
            yield frame

    @property
    def waiting(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)


def _frame(data: bytes) -> Frame:
    _, program, version, procedure, kind, serial, status = _HEADER.unpack_from(data)
    try:
        known, state = Kind(kind), Status(status)
    except ValueError as error:
        raise ProtocolError(str(error)) from error
    if known in (Kind.CALL_WITH_FDS, Kind.REPLY_WITH_FDS):
        raise ProtocolError("file descriptors are not passed here")
    return Frame(program, version, procedure, known, serial, state, data[_HEADER.size :])
