"""Streams: data that belongs to a call and comes after its answer.

The server's side of one, and the two things that data comes from: bytes that are there already, and a
descriptor of a guest's serial line. The protocol has no flow control: what goes out waits for the socket, and
a client that sends more than a line takes in loses the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Protocol

from virtsnap.model.errors import VirtsnapError
from virtsnap.wire.errors import FROM_STREAMS, WireError, info_of
from virtsnap.wire.frames import STREAM_CHUNK, Frame, Kind, Status
from virtsnap.wire.procedures import ERROR
from virtsnap.wire.xdr import pack

_UNREAD_MAX = 1024 * 1024
_OPERATION_FAILED = 9


class Source(Protocol):
    """Where a stream's data comes from and goes to."""

    async def read(self) -> bytes:
        """The next data; empty at its end."""
        ...

    def write(self, data: bytes) -> None:
        """Take data in without waiting. Raises WireError when it is too much."""
        ...

    def close(self) -> None:
        """Nobody reads or writes any more. May be called twice."""
        ...


class BytesSource:
    """Data that is there already. Nothing can be written."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    async def read(self) -> bytes:
        data, self._data = self._data[:STREAM_CHUNK], self._data[STREAM_CHUNK:]
        return bytes(data)

    def write(self, data: bytes) -> None:
        raise WireError(_OPERATION_FAILED, FROM_STREAMS, "operation failed: the stream is for reading")

    def close(self) -> None:
        self._data = memoryview(b"")


class FileSource:
    """A part of a file, read or written; `length` 0: to its end. The descriptor is closed in the end."""

    def __init__(self, descriptor: int, offset: int, length: int, *, write: bool = False) -> None:
        self._descriptor: int | None = descriptor
        self._at = offset
        self._left = length or None
        self._write = write
        self._ended = asyncio.Event()

    @property
    def writes(self) -> bool:
        """Data only comes in."""
        return self._write

    async def read(self) -> bytes:
        if self._write:
            await self._ended.wait()  # until the client says that it is done
        if self._descriptor is None or self._write:
            return b""
        count = STREAM_CHUNK if self._left is None else min(self._left, STREAM_CHUNK)
        data = os.pread(self._descriptor, count, self._at)
        self._count(data)
        return data

    def write(self, data: bytes) -> None:
        if not self._write or self._descriptor is None:
            raise WireError(_OPERATION_FAILED, FROM_STREAMS, "operation failed: the stream is for reading")
        if self._left is not None and len(data) > self._left:
            raise WireError(_OPERATION_FAILED, FROM_STREAMS, "operation failed: more data than announced")
        try:
            while data:
                done = os.pwrite(self._descriptor, data, self._at)
                self._count(data[:done])
                data = data[done:]
        except (OSError, OverflowError) as error:
            text = f"cannot write to stream: {error}"
            raise WireError(_OPERATION_FAILED, FROM_STREAMS, f"operation failed: {text}") from error

    def _count(self, data: bytes) -> None:
        self._at += len(data)
        if self._left is not None:
            self._left -= len(data)

    def close(self) -> None:
        self._ended.set()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class LineSource:
    """A descriptor that does not block, closed in the end; `closed` is called then."""

    def __init__(self, descriptor: int, closed: Callable[[], None] = lambda: None) -> None:
        self._descriptor: int | None = descriptor
        self._closed = closed
        self._unwritten = bytearray()
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        while self._descriptor is not None:
            try:
                return os.read(self._descriptor, STREAM_CHUNK)
            except BlockingIOError:
                await self._readable(self._descriptor)
            except OSError:
                break  # EIO is how a pty says that its other side was closed.
        return b""

    async def _readable(self, descriptor: int) -> None:
        self._ready = self._loop.create_future()
        self._loop.add_reader(descriptor, self._wake)
        await self._ready

    def _wake(self) -> None:
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    def write(self, data: bytes) -> None:
        if len(self._unwritten) + len(data) > _UNREAD_MAX:
            raise WireError(_OPERATION_FAILED, FROM_STREAMS, "operation failed: the guest does not read")
        self._unwritten += data
        self._write()

    def _write(self) -> None:
        if self._descriptor is None:
            return
        try:
            if self._unwritten:
                del self._unwritten[: os.write(self._descriptor, self._unwritten)]
        except BlockingIOError:
            pass  # Called again when there is room.
        except OSError:
            self._unwritten.clear()  # The guest's side is gone; `read` tells the client.
        if self._unwritten:
            self._loop.add_writer(self._descriptor, self._write)
        else:
            self._loop.remove_writer(self._descriptor)

    def close(self) -> None:
        if self._descriptor is None:
            return
        self._wake()
        self._loop.remove_writer(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = None
        self._closed()


class Stream:
    """One stream, from the call that opened it to the end that both sides have said.

    `send` sends a frame and waits until it is on its way; `ended` is called once.
    """

    def __init__(
        self, call: Frame, send: Callable[[Frame], Awaitable[None]], ended: Callable[[Stream], None]
    ) -> None:
        self.call = call
        self._send = send
        self._ended = ended
        self._pump: asyncio.Task[None] | None = None
        self._over = False
        self.source: Source | None = None
        """Set by the call that has the stream."""

    def start(self) -> bool:
        """The answer is out: data may follow. False when it is over already, or never was."""
        if self._over or self.source is None:
            return False
        self._pump = asyncio.create_task(self._run(self.source))
        return True

    async def take(self, frame: Frame) -> None:
        """What the client sends on the stream: data, or its end, good or bad."""
        if self.source is None:
            return
        if frame.kind is Kind.STREAM and frame.status is Status.CONTINUE:
            try:
                self.source.write(frame.payload)
            except VirtsnapError as error:
                await self._fail(error)
            return
        await self.close()
        if frame.kind is Kind.STREAM_HOLE:
            await self._fail(
                WireError(_OPERATION_FAILED, FROM_STREAMS, "operation failed: the stream has no holes")
            )
        else:
            await self._send(self.call.stream(status=Status.OK))

    async def close(self) -> None:
        """End it without a word."""
        self._over = True
        self._ended(self)
        if self.source is not None:
            self.source.close()
        if self._pump is not None and self._pump is not asyncio.current_task():
            self._pump.cancel()
            await asyncio.wait({self._pump})

    async def _fail(self, error: VirtsnapError) -> None:
        await self.close()
        await self._send(self.call.stream(pack(ERROR, info_of(error)), Status.ERROR))

    async def _run(self, source: Source) -> None:
        try:
            while data := await self._read(source):
                await self._send(self.call.stream(data))
            # Nothing more to read; the client ends the stream when it likes.
            if not (isinstance(source, FileSource) and source.writes):
                await self._send(self.call.stream())
        except VirtsnapError as error:
            with contextlib.suppress(ConnectionError):
                await self._fail(error)
        except ConnectionError:
            await self.close()

    async def _read(self, source: Source) -> bytes:
        try:
            return await source.read()
        except (OSError, OverflowError) as error:
            text = f"operation failed: cannot read from stream: {error}"
            raise WireError(_OPERATION_FAILED, FROM_STREAMS, text) from error
