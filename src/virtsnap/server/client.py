"""One client: reads its frames, has its calls carried out side by side, writes the answers in whatever order.

Everything is bounded: the size of a frame (small until the connection is open), the calls that are under way
(more are not read), the bytes that wait for a client that does not read (then it is closed).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import urlsplit

from virtsnap.client.tls import cut_off
from virtsnap.model.errors import Aborted, InternalRefused, InvalidArg, OperationDenied, VirtsnapError
from virtsnap.model.frozen import dataclass
from virtsnap.server.answers import Answers, Packed
from virtsnap.server.at_once import AT_ONCE, HastyReader
from virtsnap.server.calls import HANDLERS
from virtsnap.server.consoles import Consoles
from virtsnap.server.descriptors import NOTHING, Passed, can_pass, pass_on
from virtsnap.server.events import ClientEvents, Events, PoolEvents
from virtsnap.server.reboots import Reboots
from virtsnap.server.session import Session
from virtsnap.server.streams import Stream
from virtsnap.service.interface import ServedService, WouldWait
from virtsnap.service.storage import Storage
from virtsnap.wire.errors import (
    FROM_NONE,
    FROM_RPC,
    NO_CONNECT,
    RPC,
    WireError,
    info_of,
    not_supported,
    unknown_procedure,
)
from virtsnap.wire.frames import (
    FRAME_MAX,
    PAYLOAD_MAX,
    Frame,
    FrameReader,
    Kind,
    ProtocolError,
    Status,
    whole,
)
from virtsnap.wire.keepalive import PING, Keepalive
from virtsnap.wire.procedures import ERROR, KEEPALIVE, PROGRAMS, REMOTE, Procedure
from virtsnap.wire.xdr import XdrError, pack

logger = logging.getLogger("virtsnap.server")

_GREETING_MAX = 64 * 1024
"""The largest frame before the connection is open."""
_CALLS_MAX = 64
_STREAMS_MAX = 64
_UNREAD_MAX = 1024 * 1024
"""Bytes that may wait in the socket's buffer when something is sent that nobody waits for."""
_HELD_MAX = 1024
"""Frames that may wait until descriptors have been passed."""
_STALL_SECONDS = 60.0
_READ_BYTES = 256 * 1024

_FEATURES = {
    9: 1,  # strings among typed parameters
    10: 1,  # keepalive
    11: 1,  # XML_MIGRATABLE
    14: 1,  # events with callback ids
    16: 1,  # order of the arguments of network_update
}
"""virDrvFeature. Not answered with 1: migration, close callbacks."""
_DESCRIPTORS_FEATURE = 8
_KEEPALIVE_FEATURE = 10
_READ_ONLY = 1
_URI_PATHS = ("/system", "/session")


class House(Protocol):
    """What a client needs of the daemon."""

    answers: Answers
    consoles: Consoles
    events: Events
    pool_events: PoolEvents
    reboots: Reboots
    default_uri: str

    def service(self, readonly: bool) -> ServedService:
        """The service, which all clients share."""
        ...

    def storage(self, readonly: bool) -> Storage:
        """The pools, likewise."""
        ...

    def start(self, work: Any, name: str) -> asyncio.Task[None]:
        """Run a call. It goes on when its client has gone, and is cancelled when the daemon ends."""
        ...


@dataclass(frozen=True)
class Peer:
    """Who is at the other end, by the kernel's word."""

    pid: int
    uid: int
    gid: int

    def __str__(self) -> str:
        return f"pid {self.pid}, uid {self.uid}"


@dataclass(frozen=True)
class NetworkPeer:
    """Who has come over the network, by his certificate's word."""

    address: str
    name: str | None

    def __str__(self) -> str:
        return f"{self.address}, {self.name or 'no certificate'}"


class Client:
    """From the first byte to the last. `readonly`: it came by the read-only socket."""

    def __init__(
        self,
        house: House,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: Peer | NetworkPeer,
        *,
        readonly: bool,
    ) -> None:
        self._house = house
        self._reader = reader
        self._writer = writer
        self._readonly = readonly
        self.peer = peer
        self._frames = FrameReader(_GREETING_MAX)
        self._keepalive = Keepalive()
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(_CALLS_MAX)
        self._sending = asyncio.Lock()
        self._held: list[Frame] | None = None
        self._known = False
        self._session: Session | None = None
        self._streams: dict[tuple[int, int, int], Stream] = {}
        self._events = ClientEvents(house.events, self.post, house.pool_events)
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._cancelled: set[int] = set()
        self._waits: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._listening = False
        """Everything that has come was taken; the next bytes are the beginning of a frame."""
        if isinstance(reader, HastyReader):
            reader.first = self._at_once

    async def run(self) -> None:
        """Serve until either side closes."""
        pulse = asyncio.create_task(self._pulse())
        try:
            while not self._closing and (data := await self._next()):
                self._keepalive.heard(self._loop.time())
                for frame in self._frames.feed(data):
                    await self._take(frame)
                    if self._closing:
                        break
        except ProtocolError as error:
            logger.warning("client %s: %s", self.peer, error)
        except OSError:
            pass  # hung up, out of reach, or a TLS record that is none
        finally:
            self._closing = True
            pulse.cancel()
            self._events.close()
            for task in self._waits:
                task.cancel()
            for stream in list(self._streams.values()):
                await stream.close()
            self._writer.close()
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(self._writer.wait_closed(), 5)
            cut_off(self._writer)
            if self._session is not None:
                await self._session.close()
            self._let_go()

    def _let_go(self) -> None:
        """Be no part of a circle: else buffers and all stay until the garbage collector looks everywhere."""
        if isinstance(self._reader, HastyReader):
            self._reader.first = None
        # The reader keeps why it ended, that keeps the frames it passed through, and they keep the client.
        if (error := self._reader.exception()) is not None:
            error.__traceback__ = None

    # --- in -------------------------------------------------------------------------------------------

    async def _next(self) -> bytes:
        self._listening = self._frames.waiting == 0
        return await self._reader.read(_READ_BYTES)

    def _at_once(self, data: bytes) -> bool:
        """Answer these bytes, if they are a call that can be answered here and now; see `server.at_once`.

        Anything else, errors too, goes the usual way.
        """
        session = self._session
        if session is None or not self._listening or self._closing or self._sending.locked():
            return False
        answer = None
        if not self._writer.transport.get_write_buffer_size() and (frame := whole(data)) is not None:
            answer = _hasty_answer(session, frame)
        if answer is None:
            self._listening = False
            return False
        self._keepalive.heard(self._loop.time())
        self._writer.write(answer)
        return True

    async def _take(self, frame: Frame) -> None:
        if frame.program == KEEPALIVE:
            if (answer := self._keepalive.answer(frame)) is not None:
                self.post(answer)
        elif frame.kind in (Kind.STREAM, Kind.STREAM_HOLE):
            stream = self._streams.get(_key(frame))
            if stream is not None:  # else it is over, and this was on its way
                await stream.take(frame)
        elif frame.kind in (Kind.CALL, Kind.CALL_WITH_FDS):  # no procedure here takes any
            await self._room.acquire()
            task = self._house.start(self._serve(frame), f"{frame.procedure} of {self.peer}")
            serial = frame.serial
            self._calls[serial] = task
            task.add_done_callback(lambda task: self._over(serial, task))
            if not self._known or self._session is None:
                await asyncio.wait({task})  # until the connection is open, one after the other
        else:
            raise ProtocolError(f"a client does not send {frame.kind.name}")

    async def _serve(self, frame: Frame) -> None:
        call = replace(frame, payload=b"")  # a client that does not read its answers keeps only this of them
        stream: Stream | None = None
        passed = NOTHING
        try:
            procedure = self._procedure(call)
            if procedure.streams:
                stream = Stream(call, self.send, self._forget)
            work = self._call(procedure, frame, stream)
            del frame
            value = await work
            if isinstance(value, Passed):
                passed, answer = value, call.answer_with(len(value.descriptors))
            else:
                answer = call.answer(_packed(procedure, value))
            if len(answer.payload) > PAYLOAD_MAX:
                raise XdrError(f"{len(answer.payload)} bytes are too many")
        except VirtsnapError as error:
            answer = _refusal(call, error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if call.serial not in self._cancelled or task is None or task.uncancel():
                raise
            answer = _refusal(call, Aborted("canceled by client"))
        except XdrError as error:
            logger.warning("client %s: answer to %d: %s", self.peer, call.procedure, error)
            answer = _refusal(call, WireError(RPC, FROM_RPC, "Unable to encode message payload"))
        except UnicodeEncodeError:
            answer = _refusal(call, InvalidArg("a string is not valid UTF-8"))
        except Exception as error:
            logger.exception("client %s: call %d", self.peer, call.procedure)
            answer = _refusal(call, InternalRefused(f"{type(error).__name__}: {error}"))
        self._calls.pop(call.serial, None)  # too late to cancel it
        begun = False
        try:
            await self.send(answer, passed)
            begun = stream is not None and answer.status is Status.OK and stream.start()
        except ConnectionError:
            pass
        finally:
            passed.close()
            if stream is not None and not begun:
                await stream.close()

    def _over(self, serial: int, task: asyncio.Task[None]) -> None:
        self._room.release()
        self._waits.discard(task)
        self._cancelled.discard(serial)
        if self._calls.get(serial) is task:
            del self._calls[serial]

    def _forget(self, stream: Stream) -> None:
        if self._streams.get(_key(stream.call)) is stream:
            del self._streams[_key(stream.call)]

    def _procedure(self, frame: Frame) -> Procedure:
        program = PROGRAMS.get(frame.program)
        if program is None or frame.version != program.version:
            raise WireError(RPC, FROM_RPC, f"Cannot find program {frame.program} version {frame.version}")
        if frame.status is not Status.OK:
            raise WireError(RPC, FROM_RPC, f"Unexpected message status {frame.status}")
        procedure = program.get(frame.procedure)
        if procedure is None or procedure.access == "e":
            raise unknown_procedure(frame.procedure)
        return procedure

    async def _call(self, procedure: Procedure, frame: Frame, stream: Stream | None) -> Any:
        if not self._known and procedure.name != "auth_list":
            raise WireError(RPC, FROM_RPC, "authentication required")
        try:
            arguments = procedure.unpack_arguments(frame.payload)
        except XdrError as error:
            raise WireError(RPC, FROM_RPC, "Unable to decode message payload") from error
        if procedure.name in _GREETINGS:
            return await getattr(self, "_" + procedure.name)(*arguments)
        if self._session is None:
            raise WireError(1, FROM_RPC, "internal error: hypervisor connection not open")
        if procedure.writes and self._session.readonly:
            raise OperationDenied(f"read only access prevents {procedure.api}")
        handler = HANDLERS[procedure.program].get(procedure.number)
        if handler is None:
            raise not_supported(procedure.api)
        if procedure.name in _ONLY_WAIT and (task := asyncio.current_task()) is not None:
            self._waits.add(task)
            if self._closing:
                raise asyncio.CancelledError
        if stream is None:
            return await handler(self._session, *arguments)
        if _key(frame) in self._streams:
            raise InternalRefused(f"serial {frame.serial} is that of an open stream")
        if len(self._streams) >= _STREAMS_MAX:
            raise InternalRefused("too many streams")
        self._streams[_key(frame)] = stream
        return await handler(self._session, stream, *arguments)

    # --- until the connection is open -----------------------------------------------------------------

    async def _auth_list(self) -> list[int]:
        self._known = True
        return [0]  # none: the socket's mode and the peer's uid have decided already

    async def _connect_supports_feature(self, feature: int) -> int:
        if feature == _KEEPALIVE_FEATURE:
            self._keepalive.start(self._loop.time())
        elif self._session is None:
            raise WireError(1, FROM_RPC, "internal error: hypervisor connection not open")
        elif feature == _DESCRIPTORS_FEATURE:
            return int(can_pass(self._writer))
        return _FEATURES.get(feature, 0)

    async def _connect_open(self, name: str | None, flags: int) -> None:
        if self._session is not None:
            raise WireError(1, FROM_RPC, "internal error: connection already open")
        if name is None:
            raise WireError(1, FROM_RPC, "internal error: connection not open")
        readonly = self._readonly or bool(flags & _READ_ONLY)
        uri = _accepted(name) or self._house.default_uri
        service, storage = self._house.service(readonly), self._house.storage(readonly)
        shared = self._house.consoles, self._events, self._house.reboots, self._house.answers
        self._session = Session(service, storage, uri, readonly, *shared)
        self._frames.limit = FRAME_MAX

    async def _connect_close(self) -> None:
        self._loop.call_soon(self._leave)

    def _leave(self) -> None:
        """As if the client had hung up: what it sends from now on is not looked at."""
        self._closing = True
        if not self._writer.is_closing():
            self._writer.transport.pause_reading()  # type: ignore[attr-defined]
        self._reader.feed_eof()

    async def _cancel_call(self, serial: int) -> None:
        """Undo what a call has begun; its answer says so. Quiet when it is over already."""
        task = self._calls.get(serial)
        if task is not None and task is not asyncio.current_task():
            self._cancelled.add(serial)
            task.cancel()

    # --- out ------------------------------------------------------------------------------------------

    async def send(self, frame: Frame, passed: Passed = NOTHING) -> None:
        """Send, and wait until the socket takes it. Raises ConnectionError when the client is gone."""
        data = frame.pack()
        async with self._sending:
            if self._writer.is_closing():
                raise ConnectionResetError
            self._writer.write(data)
            try:
                async with asyncio.timeout(_STALL_SECONDS):
                    await (self._pass(passed) if passed.descriptors else self._writer.drain())
            except TimeoutError as error:
                self._give_up("does not read")
                raise ConnectionResetError from error
            except OSError as error:
                raise ConnectionResetError from error

    async def _pass(self, passed: Passed) -> None:
        self._held = []  # nothing comes between a frame and its descriptors
        try:
            await pass_on(self._writer, passed.descriptors)
        finally:
            held, self._held = self._held, None
            for frame in held:
                self.post(frame)

    def post(self, frame: Frame) -> None:
        """Send without waiting; a client that leaves too much of that unread is given up."""
        if self._closing:
            return
        if self._held is not None:
            self._held.append(frame)
        full = len(self._held or ()) > _HELD_MAX
        if full or self._writer.transport.get_write_buffer_size() > _UNREAD_MAX:
            self._give_up("does not read")
        elif self._held is None and not self._writer.is_closing():
            self._writer.write(frame.pack())

    def _give_up(self, why: str) -> None:
        logger.warning("client %s %s: closed", self.peer, why)
        self._closing = True
        cut_off(self._writer)

    async def _pulse(self) -> None:
        while True:
            await asyncio.sleep(self._keepalive.interval)
            ask, gone = self._keepalive.due(self._loop.time())
            if gone:
                self._give_up("does not answer")
                return
            if ask:
                self.post(PING)


_GREETINGS = frozenset(
    {"auth_list", "connect_open", "connect_close", "connect_supports_feature", "cancel_call"}
)
"""Calls on the connection itself, whose names are nobody else's."""
_ONLY_WAIT = frozenset({"domain_block_job_wait"})
"""Calls that end with their client: they do nothing, and may take forever."""


def _hasty_answer(session: Session, frame: Frame) -> bytes | None:
    """The answer's bytes, or None where it takes more."""
    ours = frame.program == REMOTE.number and frame.version == REMOTE.version
    if not ours or frame.kind is not Kind.CALL or frame.status is not Status.OK:
        return None
    procedure = AT_ONCE.get(frame.procedure)
    if procedure is None:
        return None
    handler = HANDLERS[REMOTE.number][frame.procedure]
    try:
        found = session.service.at_once(handler(session, *procedure.unpack_arguments(frame.payload)))
        return frame.answer(_packed(procedure, found)).pack()
    except (WouldWait, VirtsnapError, XdrError, UnicodeEncodeError):
        return None  # the usual way knows what to say
    except Exception:
        logger.exception("call %d, at once", frame.procedure)
        return None


def _packed(procedure: Procedure, found: object) -> bytes:
    return found if isinstance(found, Packed) else procedure.pack_answer(found)


def _key(frame: Frame) -> tuple[int, int, int]:
    return frame.program, frame.procedure, frame.serial


def _refusal(frame: Frame, error: VirtsnapError) -> Frame:
    return frame.answer(pack(ERROR, info_of(error)), Status.ERROR)


def _accepted(name: str) -> str:
    """The URI that a client opens; empty for any. Raises WireError for one that is not ours."""
    if not name:
        return ""
    try:
        parts = urlsplit(name)
    except ValueError as error:
        raise WireError(NO_CONNECT, FROM_NONE, f"no connection driver available for {name}") from error
    if parts.scheme != "qemu" or parts.netloc:
        raise WireError(NO_CONNECT, FROM_NONE, f"no connection driver available for {name}")
    if parts.path not in _URI_PATHS:
        raise WireError(
            1,
            FROM_NONE,
            f"internal error: unexpected qemu URI path '{parts.path}', try qemu:///system",
        )
    return name
