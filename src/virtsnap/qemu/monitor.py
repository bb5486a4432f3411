"""One QMP conversation with one QEMU: commands, events, descriptors sent along.

Built on `qemu.qmp`, QEMU's own client library, which is imported when the first connection is made. This
module adds what the library leaves to its users:

- Paths of any length, and a time limit that names its cause: a QMP socket serves one client at a time and
  the second waits in the listen queue, unseen.
- An end that is noticed. A task watches the session; when QEMU goes away it collects the library's
  exceptions (else asyncio complains that they were never retrieved), and every waiting command and listener
  gets `MonitorLost`.
- Errors of ours: no exception of the library leaves this file.

What is not here: what the commands mean (`qemu.blocks`, `qemu.memory`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from virtsnap.model.errors import ErrorCode, Failed, ResourceBusy
from virtsnap.qemu.events import Event
from virtsnap.qemu.paths import socket_address

if TYPE_CHECKING:
    from qemu.qmp import EventListener, QMPClient

# The library logs every lost connection as an error; without a handler Python prints that on stderr.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())

_BACKLOG_RETRY_SECONDS = 0.02


class QmpCommandFailed(Failed):
    """QEMU understood a command and refused it. `description` is QEMU's own sentence."""

    def __init__(self, command: str, class_: str, description: str) -> None:
        super().__init__(
            f"unable to execute QEMU command '{command}': {description}", code=ErrorCode.INTERNAL_ERROR
        )
        self.command = command
        self.class_ = class_
        """QAPI's QapiErrorClass: 'GenericError', 'CommandNotFound', 'DeviceNotFound'..."""
        self.description = description


class MonitorLost(Failed):
    """The connection ended before the answer came: QEMU died, or closed the monitor."""

    def __init__(self, detail: str = "End of file from qemu monitor") -> None:
        super().__init__(detail, code=ErrorCode.INTERNAL_ERROR)


class Listener:
    """The events of some names since the listener was opened, in order."""

    def __init__(self, source: EventListener, lost: asyncio.Future[None]) -> None:
        self._source = source
        self._lost = lost

    async def get(self) -> Event:
        """The next event. Raises MonitorLost when QEMU is gone and no event is left."""
        if self._source.empty():
            getter = asyncio.create_task(self._source.get())
            waiting: set[asyncio.Future[Any]] = {getter, self._lost}
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                getter.cancel()
                raise
            if not getter.done():
                getter.cancel()
                raise MonitorLost()
            message = getter.result()
        else:
            message = await self._source.get()
        return Event.from_message(message)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return await self.get()


class Monitor:
    """A QMP session in command mode. Made by `connect`; use as an async context manager, or `close`."""

    def __init__(self, client: QMPClient, sock: socket.socket) -> None:
        """Takes over a connected client; for `connect` only."""
        self._client = client
        self._sock = sock
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._watcher = asyncio.create_task(self._watch())
        self._descriptor_lock = asyncio.Lock()

    @classmethod
    async def connect(cls, path: str, *, timeout: float = 30.0) -> Monitor:
        """Open the QMP socket at `path` and negotiate. `timeout` is in seconds, for all of it.

        Raises ResourceBusy when QEMU does not answer in time (it serves one client at a time, so most likely
        another one is connected), MonitorLost when nobody listens there or QEMU ends meanwhile.
        """
        from qemu.qmp import QMPError

        from virtsnap.qemu.client import Client

        client = Client()
        # The library keeps every event of a session for ever in this default listener.
        client.events.event_filter = lambda event: False
        sock: socket.socket | None = None
        try:
            async with asyncio.timeout(timeout):
                sock = await connect_socket(path)
                await client.connect(sock)
        except TimeoutError as error:
            if sock is not None:
                sock.close()
            raise ResourceBusy(
                f"QEMU does not answer on its monitor socket '{path}': another client is connected to it"
            ) from error
        except OSError as error:
            raise MonitorLost(f"failed to connect to monitor socket: {error.strerror}") from error
        except QMPError as error:
            if sock is not None:
                sock.close()
            raise MonitorLost() from error
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        return cls(client, sock)

    async def __aenter__(self) -> Monitor:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    @property
    def lost(self) -> bool:
        """The session has ended; every further command raises MonitorLost."""
        return self._lost.done()

    @property
    def version(self) -> tuple[int, int, int]:
        """QEMU's version, from the greeting."""
        greeting = self._client.greeting
        if greeting is None:
            raise MonitorLost()
        qemu: Any = greeting.QMP.version["qemu"]
        return int(qemu["major"]), int(qemu["minor"]), int(qemu["micro"])

    async def execute(self, command: str, **arguments: Any) -> Any:
        """Run a QMP command and return what it returns. Dashes in argument names are written as underscores.

        Raises QmpCommandFailed when QEMU refuses, MonitorLost when it is gone. A cancelled call has been sent
        nevertheless; its answer is dropped.
        """
        return await self.execute_raw(
            command, {name.replace("_", "-"): arguments[name] for name in arguments}
        )

    async def execute_raw(self, command: str, arguments: dict[str, Any]) -> Any:
        """As `execute`, with the arguments' names exactly as given (some of QEMU's have underscores)."""
        from qemu.qmp import ExecuteError, QMPError

        if self.lost or self._closing.is_set():
            raise MonitorLost()
        try:
            return await self._client.execute(command, arguments or None)
        except ExecuteError as error:
            raise QmpCommandFailed(command, error.error.error.class_, error.error.error.desc) from error
        except QMPError as error:
            raise MonitorLost() from error

    async def send_fd(
        self,
        descriptor: int,
        *,
        name: str | None = None,
        opaque: str | None = None,
        set_id: int | None = None,
    ) -> int:
        """Give QEMU a duplicate of `descriptor`; the caller keeps its own.

        With `name` QEMU holds it as that (QMP `getfd`), and 0 is returned. Otherwise it becomes a set of
        descriptors (`add-fd`, with `opaque` as its note), or joins the set `set_id`; the answer is N of
        /dev/fdset/N.
        """
        # QEMU keeps the descriptor that came last, so a second one must not slip in before the command.
        async with self._descriptor_lock:
            if self.lost:
                raise MonitorLost()
            try:
                # A blank is white space between QMP messages; a descriptor needs some byte to travel with.
                socket.send_fds(self._sock, [b" "], [descriptor])
            except OSError as error:
                raise MonitorLost() from error
            if name is not None:
                await self.execute("getfd", fdname=name)
                return 0
            given: dict[str, Any] = {"opaque": opaque, "fdset-id": set_id}
            arguments = {key: value for key, value in given.items() if value is not None}
            answer = await self.execute_raw("add-fd", arguments)
            return int(answer["fdset-id"])

    @contextlib.asynccontextmanager
    async def events(self, *names: str) -> AsyncIterator[Listener]:
        """Listen to events (of these names, or all). Open it before the command that causes them."""
        with self._client.listener(names) as source:
            yield Listener(source, self._lost)

    async def wait_lost(self) -> None:
        """Return when the session has ended."""
        await asyncio.wait({self._lost})

    async def close(self) -> None:
        """End the session; QEMU stays. May be called again."""
        self._closing.set()
        await asyncio.wait({self._watcher})

    async def _watch(self) -> None:
        """Live as long as the session, then take it down and collect what it died of."""
        from qemu.qmp import QMPError, Runstate

        closing = asyncio.ensure_future(self._closing.wait())
        try:
            while self._client.runstate is Runstate.RUNNING and not self._closing.is_set():
                changed = asyncio.ensure_future(self._client.runstate_changed())
                await asyncio.wait({changed, closing}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
        finally:
            closing.cancel()
            with contextlib.suppress(EOFError, OSError, QMPError):
                await self._client.disconnect()
            if not self._lost.done():
                self._lost.set_result(None)


async def connect_socket(path: str) -> socket.socket:
    """A connected socket; waits while the listen queue is full."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while True:
            try:
                with socket_address(path) as address:
                    sock.connect(address)
                return sock
            except BlockingIOError:
                # The queue is full, and the kernel tells nobody when that changes: unix(7) has no
                # readiness event for it. So this is the one place that asks again after a while.
                await asyncio.sleep(_BACKLOG_RETRY_SECONDS)
    except BaseException:
        sock.close()
        raise
