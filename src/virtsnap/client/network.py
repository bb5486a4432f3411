"""To a daemon of another host by TCP and TLS."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from virtsnap.client.target import TlsTarget
from virtsnap.client.tls import (
    HANDSHAKE_SECONDS,
    VERIFIED,
    client_context,
    client_credentials,
    cut_off,
    handshake_error,
    why,
)
from virtsnap.model.errors import SystemRefused
from virtsnap.wire.errors import FROM_RPC, RPC, WireError


async def connect_tls(target: TlsTarget) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return when both sides have looked at the other's certificate.

    Raises SystemRefused and WireError, in the words of libvirt's client.
    """
    folder = None if target.folder is None else Path(target.folder)
    context = client_context(client_credentials(folder), verify=target.verify, sanity=target.sanity)
    sock = await _connected(target)
    try:
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=context, server_hostname=target.host, ssl_handshake_timeout=HANDSHAKE_SECONDS
        )
    except OSError as error:
        sock.close()
        raise handshake_error(error, target.host) from error
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            said = await reader.read(1)
    except OSError as error:
        cut_off(writer)
        raise SystemRefused(f"Unable to read TLS confirmation: {why(error)}") from error
    if said != VERIFIED:
        cut_off(writer)
        message = "server verification (of our certificate or IP address) failed"
        raise WireError(RPC, FROM_RPC, message)
    return reader, writer


async def _connected(target: TlsTarget) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        where = f"address '{target.host}' service '{target.port}'"
        raise SystemRefused(f"Unable to resolve {where}: {error.strerror}") from error
    reason: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            reason = error
            continue
        except BaseException:
            sock.close()
            raise
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return sock
    said = os.strerror(reason.errno) if reason is not None and reason.errno else "Connection refused"
    raise SystemRefused(f"unable to connect to server at '{target.host}:{target.port}': {said}") from reason
