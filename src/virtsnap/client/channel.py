"""One connection to a daemon: calls with their answers, streams, events, keepalive.

Answers come in any order; each finds its call by the serial. When the connection is lost every call that
waits, and every one that comes, says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from typing import Any, Self

from virtsnap.client.spawn import start_daemon
from virtsnap.client.target import SocketTarget, SshTarget, TlsTarget
from virtsnap.model.errors import NoSupport, SystemRefused, VirtsnapError
from virtsnap.model.event import DomainEvent
from virtsnap.wire.errors import FROM_RPC, WireError, error_of
from virtsnap.wire.events import event_of
from virtsnap.wire.frames import Frame, FrameReader, Kind, ProtocolError, Status
from virtsnap.wire.keepalive import PING, PONG
from virtsnap.wire.procedures import ERROR, KEEPALIVE, REMOTE, VIRTSNAP, Procedure, Program
from virtsnap.wire.xdr import Reader, XdrError

_READ_BYTES = 256 * 1024
_SYSTEM_ERROR = 38
_COMPLAINT_BYTES = 1024
_COMPLAINT_SECONDS = 5.0


class Channel:
    """Open it with `open`. Not for several event loops."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        helper: asyncio.subprocess.Process | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._helper = helper
        self._complaint = b""
        """The end of what the helper has said beside the connection."""
        self._listening = asyncio.create_task(self._listen()) if helper is not None else None
        self._serial = 0
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._streams: dict[int, asyncio.Queue[Frame | None]] = {}
        self._lost: VirtsnapError | None = None
        self.told: Callable[[int, DomainEvent], None] = lambda callback, event: None
        """Called with each event."""
        self.ended: Callable[[], None] = lambda: None
        """Called when the connection is lost."""
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, target: SocketTarget | SshTarget | TlsTarget, *, readonly: bool) -> Self:
        """Connect and open what the target names. Raises SystemRefused, and what the daemon says."""
        if isinstance(target, TlsTarget):
            channel = await cls._by_tls(target)
        elif isinstance(target, SshTarget):
            channel = await cls._by_ssh(target)
        else:
            channel = await cls._by_socket(target)
        try:
            await channel.call("auth_list")
            await channel.call("connect_open", target.name, int(readonly))
        except BaseException:
            await channel.close()
            raise
        return channel

    @classmethod
    async def _by_socket(cls, target: SocketTarget) -> Self:
        try:
            return cls(*await asyncio.open_unix_connection(target.path))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if not target.started:
                raise _unreachable(target.path, error) from error
        except OSError as error:
            raise _unreachable(target.path, error) from error
        await start_daemon(target.path)
        try:
            return cls(*await asyncio.open_unix_connection(target.path))
        except OSError as error:
            raise _unreachable(target.path, error) from error

    @classmethod
    async def _by_tls(cls, target: TlsTarget) -> Self:
        from virtsnap.client.network import connect_tls  # it brings in what only other hosts need

        return cls(*await connect_tls(target))

    @classmethod
    async def _by_ssh(cls, target: SshTarget) -> Self:
        try:
            helper = await asyncio.create_subprocess_exec(
                *target.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise SystemRefused(f"cannot run '{target.command[0]}': {error.strerror}") from error
        assert helper.stdin is not None
        assert helper.stdout is not None
        return cls(helper.stdout, helper.stdin, helper)

    async def close(self) -> None:
        """Say good-bye if that is still possible, and let go."""
        if self._lost is None:
            with contextlib.suppress(VirtsnapError, TimeoutError):
                async with asyncio.timeout(5):
                    await self.call("connect_close")
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        if self._helper is not None:
            with contextlib.suppress(ProcessLookupError):
                self._helper.terminate()
            await self._helper.wait()
        if self._listening is not None:
            await self._listening

    async def call(
        self,
        name: str,
        *arguments: object,
        program: Program = REMOTE,
        abort: tuple[object, ...] | None = None,
    ) -> Any:
        """The answer: see `Procedure.unpack_answer`. Raises the error that came instead of it.

        With `abort`, the arguments of domain_abort_job (or none: nothing is to be aborted), a call that is
        cancelled is undone at the other end, and seen to its end.
        """
        procedure = program[name]
        _, answer = await self._exchange(procedure, arguments, abort=abort)
        return answer

    async def read(self, name: str, *arguments: object) -> tuple[Any, bytes]:
        """The answer of a call, and all data of the stream that follows it."""
        procedure = REMOTE[name]
        call, answer = await self._exchange(procedure, arguments, stream=True)
        data = bytearray()
        try:
            while (frame := await self._streamed(call)).payload:
                data += frame.payload
            await self._send(call.stream(status=Status.OK))
            await self._streamed(call)
        finally:
            self._streams.pop(call.serial, None)
        return answer, bytes(data)

    async def _streamed(self, call: Frame) -> Frame:
        frame = await self._streams[call.serial].get()
        if frame is None:
            raise self._lost or _closed()
        if frame.status is Status.ERROR:
            raise error_of(ERROR.unpack(Reader(frame.payload)))
        return frame

    async def _exchange(
        self,
        procedure: Procedure,
        arguments: tuple[object, ...],
        *,
        stream: bool = False,
        abort: tuple[object, ...] | None = None,
    ) -> tuple[Frame, Any]:
        if self._lost is not None:
            raise self._lost
        self._serial += 1
        serial = self._serial
        payload = procedure.pack_arguments(*arguments)
        call = Frame(procedure.program, 1, procedure.number, Kind.CALL, serial, payload=payload)
        answered: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._waiting[serial] = answered
        if stream:
            self._streams[serial] = asyncio.Queue()
        try:
            await self._send(call)
            try:
                frame = await asyncio.shield(answered)
            except asyncio.CancelledError:
                await self._see_off(serial, answered, abort)
                raise
        except BaseException:
            self._streams.pop(serial, None)
            raise
        finally:
            self._waiting.pop(serial, None)
        if frame.status is Status.ERROR:
            self._streams.pop(serial, None)
            raise _refusal(procedure, frame)
        return call, procedure.unpack_answer(frame.payload)

    async def _see_off(
        self, serial: int, answered: asyncio.Future[Frame], abort: tuple[object, ...] | None
    ) -> None:
        if abort is None or answered.done():
            return
        try:
            await self.call("cancel_call", serial, program=VIRTSNAP)
        except NoSupport:
            # A libvirtd: it can only be told to abort whatever is done to the domain.
            if abort:
                with contextlib.suppress(VirtsnapError):
                    await self.call("domain_abort_job", *abort)
        await asyncio.wait({answered})

    async def _send(self, frame: Frame) -> None:
        try:
            self._writer.write(frame.pack())
            await self._writer.drain()
        except OSError as error:
            raise self._lost or _closed() from error

    async def _listen(self) -> None:
        assert self._helper is not None
        assert self._helper.stderr is not None
        while said := await self._helper.stderr.read(_COMPLAINT_BYTES):
            self._complaint = (self._complaint + said)[-_COMPLAINT_BYTES:]

    async def _why(self) -> VirtsnapError:
        """The connection ended; the helper may have said why."""
        if self._listening is not None:
            await asyncio.wait({self._listening}, timeout=_COMPLAINT_SECONDS)
        said = self._complaint.decode(errors="replace").strip()
        return _closed() if not said else _closed(said)

    async def _read(self) -> None:
        frames = FrameReader()
        lost: VirtsnapError = _closed()
        try:
            while data := await self._reader.read(_READ_BYTES):
                for frame in frames.feed(data):
                    self._take(frame)
            lost = await self._why()
        except (ProtocolError, XdrError, OSError) as error:
            lost = WireError(_SYSTEM_ERROR, FROM_RPC, f"Cannot read from the daemon: {error}")
        finally:
            self._lost = lost
            for answered in self._waiting.values():
                if not answered.done():
                    answered.set_exception(lost)
            for queue in self._streams.values():
                queue.put_nowait(None)
            self.ended()

    def _take(self, frame: Frame) -> None:
        if frame.program == KEEPALIVE:
            if frame.procedure == PING.procedure:
                self._writer.write(PONG.pack())
        elif frame.kind is Kind.REPLY:
            answered = self._waiting.get(frame.serial)
            if answered is not None and not answered.done():  # else nobody waits for it any more
                answered.set_result(frame)
        elif frame.kind is Kind.STREAM:
            if frame.serial in self._streams:
                self._streams[frame.serial].put_nowait(frame)
        elif frame.kind is Kind.MESSAGE:
            told = event_of(frame, time.time()) if frame.program == REMOTE.number else None
            if told is not None:
                self.told(*told)


def _unreachable(path: str, error: OSError) -> SystemRefused:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return SystemRefused(f"Failed to connect socket to '{path}': {reason}")


def _closed(said: str = "") -> WireError:
    said = f"{said}: " if said else ""
    return WireError(_SYSTEM_ERROR, FROM_RPC, f"End of file while reading data: {said}Input/output error")


def _refusal(procedure: Procedure, frame: Frame) -> VirtsnapError:
    info = ERROR.unpack(Reader(frame.payload))
    message = info.message or ""
    if info.domain == FROM_RPC and message.startswith(("unknown procedure:", "Cannot find program")):
        return NoSupport(procedure.api)
    return error_of(info)
