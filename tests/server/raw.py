"""A client that can do everything wrong: frames over a plain socket."""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from virtsnap.wire.frames import Frame, FrameReader, Kind, Status
from virtsnap.wire.procedures import ERROR, REMOTE, Program
from virtsnap.wire.values import ErrorInfo
from virtsnap.wire.xdr import Reader


class Raw:
    """One connection."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(path))
        self._frames = FrameReader()
        self._waiting: list[Frame] = []
        self._serial = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def open(self, flags: int = 0, name: str = "qemu:///system") -> Self:
        assert self.call("auth_list") == [0]
        assert self.call("connect_open", name, flags) is None
        return self

    def send(self, name: str, *arguments: object, program: Program = REMOTE) -> Frame:
        """A call; its answer is not waited for."""
        procedure = program[name]
        self._serial += 1
        frame = Frame(
            program.number,
            1,
            procedure.number,
            Kind.CALL,
            self._serial,
            Status.OK,
            procedure.pack_arguments(*arguments),
        )
        self.socket.sendall(frame.pack())
        return frame

    def call(self, name: str, *arguments: object, program: Program = REMOTE) -> Any:
        """The answer, or the ErrorInfo that came instead."""
        sent = self.send(name, *arguments, program=program)
        frame = self.receive()
        assert frame is not None
        assert (frame.serial, frame.procedure, frame.kind) == (sent.serial, sent.procedure, Kind.REPLY)
        return self.value(frame, program)

    def value(self, frame: Frame, program: Program = REMOTE) -> Any:
        if frame.status is Status.ERROR:
            error = ERROR.unpack(Reader(frame.payload))
            assert isinstance(error, ErrorInfo)
            return error
        procedure = program.get(frame.procedure)
        assert procedure is not None
        return procedure.unpack_answer(frame.payload)

    def exchange(self, frame: Frame) -> Frame | None:
        self.socket.sendall(frame.pack())
        return self.receive()

    def receive(self) -> Frame | None:
        """The next frame; None when the daemon has closed."""
        while not self._waiting:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._waiting += self._frames.feed(data)
        return self._waiting.pop(0)
