"""The daemon's sockets and clients, from the first to the clean end. Guests are not its: they stay."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Coroutine
from pathlib import Path

from virtsnap.client.tls import cut_off
from virtsnap.model.errors import SystemRefused, VirtsnapError
from virtsnap.model.frozen import dataclass
from virtsnap.qemu.paths import socket_address
from virtsnap.server.answers import Answers
from virtsnap.server.at_once import HastyReader
from virtsnap.server.client import Client, NetworkPeer, Peer
from virtsnap.server.consoles import Consoles
from virtsnap.server.events import Events, PoolEvents
from virtsnap.server.reboots import Reboots
from virtsnap.server.tls import Met, TlsDoor, TlsListener, distinguished_name
from virtsnap.service.interface import ServedService
from virtsnap.service.storage import Storage

logger = logging.getLogger("virtsnap.server")
_UCRED = struct.Struct("3i")
_END_SECONDS = 30.0
_BACKLOG = 128


@dataclass(frozen=True)
class Door:
    """A listening socket and what whoever comes by it may do."""

    socket: socket.socket
    readonly: bool = False
    tls: TlsDoor | None = None


@dataclass(frozen=True)
class Limits:
    """How much is too much."""

    clients: int = 5000


_LIMITS = Limits()


def listen(path: Path, *, mode: int, group: int | None = None) -> socket.socket:
    """A socket at `path`, made with `mode`; one that a dead daemon has left is replaced.

    Raises SystemRefused when it cannot be made, or when a living daemon has it.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        path.parent.mkdir(parents=True, exist_ok=True)
        with socket_address(str(path)) as address:
            if _answers(address):
                raise SystemRefused(f"Failed to bind socket to '{path}': another daemon listens there")
            path.unlink(missing_ok=True)
            before = os.umask(0o777)  # nobody comes in before mode and group are set
            try:
                sock.bind(address)
            finally:
                os.umask(before)
        if group is not None:
            os.chown(path, -1, group)
        os.chmod(path, mode)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise SystemRefused(f"Failed to bind socket to '{path}': {error.strerror}") from error
    except SystemRefused:
        sock.close()
        raise
    return sock


def _answers(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except BlockingIOError:
            return True
        return True


class Daemon:
    """Serves `service` and `storage` (and the others to those who may only look) to whoever may come in.

    `users`: only these may come; None: whoever the socket's mode lets in.
    """

    def __init__(
        self,
        service: ServedService,
        readonly_service: ServedService,
        storage: Storage,
        readonly_storage: Storage,
        *,
        default_uri: str = "qemu:///system",
        users: frozenset[int] | None = None,
        limits: Limits = _LIMITS,
    ) -> None:
        self._services = (service, readonly_service)
        self._storages = (storage, readonly_storage)
        self.default_uri = default_uri
        self._users = users
        self._limits = limits
        self.answers = Answers()
        self.consoles = Consoles()
        self.events = Events(service)
        self.pool_events = PoolEvents()
        self.busy_until = asyncio.get_running_loop().time()
        """When the last client left, by the event loop's clock."""
        self._servers: list[asyncio.Server | TlsListener] = []
        self._clients: dict[Client, asyncio.Task[None]] = {}
        self.reboots = Reboots(self.start)
        self._calls: set[asyncio.Task[None]] = set()

    @property
    def listens_tls(self) -> bool:
        """Clients of other hosts may come."""
        return any(isinstance(server, TlsListener) for server in self._servers)

    def renew_tls(self, door: TlsDoor) -> None:
        """Whoever comes by TLS from now on is asked for this; who is in stays."""
        for server in self._servers:
            if isinstance(server, TlsListener):
                server.door = door

    async def open(self, doors: list[Door]) -> None:
        """Begin to serve."""
        for door in doors:

            async def met(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, readonly: bool = door.readonly
            ) -> None:
                await self._met(reader, writer, readonly)

            if door.tls is not None:
                self._servers.append(TlsListener(door.socket, door.tls, met))
                continue
            self._servers.append(await _serve(met, door.socket))

    async def close(self) -> None:
        """Let nobody in, end what is under way (it undoes what it has begun), let everybody go."""
        for server in self._servers:
            server.close()
        calls = set(self._calls)
        for call in calls:
            call.cancel()
        if calls:
            _, left = await asyncio.wait(calls, timeout=_END_SECONDS)
            if left:
                logger.warning("%d calls did not end; the next start brings them to their end", len(left))
        clients = set(self._clients.values())
        for client in clients:
            client.cancel()
        if clients:
            await asyncio.wait(clients, timeout=_END_SECONDS)
        await self.events.close()
        for service in self._services:
            await service.close()
        for storage in self._storages:
            storage.close()

    @property
    def idle(self) -> bool:
        """Nobody is here and nothing is done."""
        return not self._clients and not self._calls

    @property
    def clients(self) -> int:
        """How many are here."""
        return len(self._clients)

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, readonly: bool) -> None:
        peer = _peer(writer)
        refusal = self._refusal(peer)
        if refusal is not None:
            logger.warning("client %s: %s", peer, refusal)
            cut_off(writer)
            return
        client = Client(self, reader, writer, peer, readonly=readonly)
        task = asyncio.current_task()
        assert task is not None
        self._clients[client] = task
        try:
            await client.run()
        finally:
            del self._clients[client]
            self.busy_until = asyncio.get_running_loop().time()

    def _refusal(self, peer: Peer | NetworkPeer) -> str | None:
        if self._users is not None and isinstance(peer, Peer) and peer.uid not in self._users:
            return "not allowed"
        if len(self._clients) >= self._limits.clients:
            return f"there are {self._limits.clients} already"
        return None

    # --- for clients ----------------------------------------------------------------------------------

    def service(self, readonly: bool) -> ServedService:
        """The service, which all clients share."""
        return self._services[readonly]

    def storage(self, readonly: bool) -> Storage:
        """The pools, likewise."""
        return self._storages[readonly]

    def start(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Run a call. It goes on when its client has gone, and is cancelled when the daemon ends."""
        task = asyncio.create_task(work, name=name)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task


async def _serve(met: Met, sock: socket.socket) -> asyncio.Server:
    """asyncio.start_unix_server, with readers of ours."""
    loop = asyncio.get_running_loop()

    def protocol() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(HastyReader(loop=loop), met, loop=loop)

    return await loop.create_unix_server(protocol, sock=sock)


async def awake(service: ServedService) -> None:
    """Look at every domain once: what a crash has left unfinished is brought to its end."""
    try:
        handles = await service.list_domains()
    except VirtsnapError as error:
        logger.warning("%s", error)
        return
    for handle in handles:
        with contextlib.suppress(VirtsnapError):
            await service.lookup_by_uuid(handle.uuid)


def _peer(writer: asyncio.StreamWriter) -> Peer | NetworkPeer:
    sock = writer.get_extra_info("socket")
    if sock.family != socket.AF_UNIX:
        name = distinguished_name(writer.get_extra_info("peercert") or {})
        return NetworkPeer(writer.get_extra_info("peername")[0], name)
    return Peer(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))
