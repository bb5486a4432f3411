"""TCP with TLS: who comes shows a certificate, and waits outside until it was looked at.

Those outside are few and have little time; while there are too many nobody else is let in, as with libvirtd.
Without TLS nothing listens on the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from virtsnap.client.tls import HANDSHAKE_SECONDS, VERIFIED, why
from virtsnap.model.errors import SystemRefused
from virtsnap.model.frozen import dataclass

logger = logging.getLogger("virtsnap.server")
_BACKLOG = 128
_BREATH_SECONDS = 1.0
_SHUTDOWN_SECONDS = 5.0
_LAST_SECONDS = 2.0
_LAST_BYTES = 64 * 1024

Met = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_ATTRIBUTES = {
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "commonName": "CN",
    "domainComponent": "DC",
    "userId": "UID",
    "streetAddress": "STREET",
    "emailAddress": "EMAIL",
    "serialNumber": "serialNumber",
    "title": "title",
    "surname": "surName",
    "givenName": "givenName",
    "initials": "initials",
    "pseudonym": "pseudonym",
    "dnQualifier": "dnQualifier",
    "generationQualifier": "generationQualifier",
    "postalCode": "postalCode",
    "name": "name",
}
"""OpenSSL's names for what a distinguished name is made of, and those that libvirt (GnuTLS) writes."""


@dataclass(frozen=True)
class TlsDoor:
    """What a listening socket asks of who comes by it.

    `allowed`: patterns of distinguished names (* and ?), None for every certificate of the CA.
    """

    context: ssl.SSLContext
    allowed: tuple[str, ...] | None = None
    waiting_max: int = 20


def listen_tcp(address: str | None, port: str) -> list[socket.socket]:
    """Listening sockets, one for each address that the name stands for (None: every address).

    Raises SystemRefused.
    """
    try:
        found = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
    except socket.gaierror as error:
        where = f"address '{address}' service '{port}'"
        raise SystemRefused(f"Unable to resolve {where}: {error.strerror}") from error
    made: list[socket.socket] = []
    for family, kind, protocol, _, where_to in found:
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            if not made:
                raise SystemRefused(f"Unable to create socket: {error.strerror}") from error
            continue  # an address family that the kernel does not have
        made.append(sock)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(where_to)
            sock.listen(_BACKLOG)
        except OSError as error:
            for one in made:
                one.close()
            raise SystemRefused(f"Unable to bind to port: {error.strerror}") from error
    return made


class TlsListener:
    """Lets clients in by one socket until it is closed; `met` gets those that may come in."""

    def __init__(self, sock: socket.socket, door: TlsDoor, met: Met) -> None:
        self._socket = sock
        self.door = door
        """May be another one from now on, but for `waiting_max`."""
        self._met = met
        self._room = asyncio.Semaphore(door.waiting_max)
        self._guests: set[asyncio.Task[None]] = set()
        self._task = asyncio.create_task(self._listen())

    def close(self) -> None:
        """Let nobody in any more; those outside go away."""
        self._task.cancel()
        for guest in self._guests:
            guest.cancel()
        self._socket.close()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                sock, address = await loop.sock_accept(self._socket)
            except OSError as error:
                logger.warning("cannot let a client in: %s", error.strerror)
                self._room.release()
                await asyncio.sleep(_BREATH_SECONDS)  # no descriptors, no memory: others may give some back
                continue
            guest = asyncio.create_task(self._receive(sock, address[0]))
            self._guests.add(guest)
            guest.add_done_callback(self._guests.discard)

    async def _receive(self, sock: socket.socket, address: str) -> None:
        """From the first byte to the one that tells the client that it is in."""
        outside = True
        try:
            opened = await self._looked_at(sock, address)
            if opened is not None:
                outside = False
                self._room.release()
                self._guests.discard(asyncio.current_task())
                opened[1].write(VERIFIED)
                await self._met(*opened)
        finally:
            if outside:
                self._room.release()

    async def _looked_at(
        self, sock: socket.socket, address: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """The connection, if its client may come in. Else it is closed, and the log says why."""
        try:
            line = sock.dup()
        except OSError as error:
            logger.warning("client %s: %s", address, error.strerror)
            sock.close()
            return None
        with line:
            try:
                reader, writer = await self._shake_hands(sock)
            except OSError as error:
                logger.warning("client %s: TLS handshake failed: %s", address, why(error))
                await _hear_out(line)
                return None
        refusal = self._refusal(writer)
        if refusal is not None:
            logger.warning("client %s: %s", address, refusal)
            writer.close()
            return None
        return reader, writer

    async def _shake_hands(self, sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                sock,
                ssl=self.door.context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
            )
        except BaseException:
            sock.close()
            raise
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def _refusal(self, writer: asyncio.StreamWriter) -> str | None:
        if self.door.allowed is None:
            return None
        name = distinguished_name(writer.get_extra_info("peercert") or {})
        if name is not None and any(_matches(pattern, name) for pattern in self.door.allowed):
            return None
        return f"its distinguished name is not in tls_allowed_dn_list: {name}"


async def _hear_out(line: socket.socket) -> None:
    """Until the other side has said what it was about to: virsh dies of writing to a closed socket."""
    loop = asyncio.get_running_loop()
    left = _LAST_BYTES
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(_LAST_SECONDS):
            while left > 0 and (data := await loop.sock_recv(line, left)):
                left -= len(data)


def distinguished_name(certificate: dict[str, Any]) -> str | None:
    """The subject of what `ssl` calls a peer's certificate, as virt-pki-query-dn shows it.

    None when there is none, or something in it that has no name.
    """
    parts = []
    for attributes in certificate.get("subject", ()):
        if any(key not in _ATTRIBUTES for key, _ in attributes):
            return None
        parts.append("+".join(f"{_ATTRIBUTES[key]}={_escaped(value)}" for key, value in attributes))
    return ",".join(parts) or None


def _escaped(value: str) -> str:
    """RFC 4514, so that no value looks like the next attribute."""
    text = re.sub(r'([,+"\\<>;\0])', lambda found: "\\00" if found[0] == "\0" else "\\" + found[0], value)
    if text.startswith((" ", "#")):
        text = "\\" + text
    if text.endswith(" ") and len(value) > 1:
        text = text[:-1] + "\\ "
    return text


def _matches(pattern: str, name: str) -> bool:
    words = {"*": ".*", "?": "."}
    regex = "".join(words.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(regex, name, re.DOTALL) is not None
