"""Where a daemon is reached."""

from __future__ import annotations

from virtsnap.model.frozen import dataclass


@dataclass(frozen=True)
class SocketTarget:
    """A unix socket of this host."""

    path: str
    name: str
    """The URI that the daemon is asked to open."""
    started: bool = False
    """The user's own daemon, at its usual place: it is started when it does not run."""


@dataclass(frozen=True)
class TlsTarget:
    """A port of a host, and where the certificates are: None for libvirt's usual places."""

    host: str
    port: int
    name: str
    folder: str | None = None
    verify: bool = True
    sanity: bool = True
    """Look at our own certificate, too."""


@dataclass(frozen=True)
class SshTarget:
    """A program whose input and output are the connection: ssh, and netcat at the other end."""

    command: tuple[str, ...]
    name: str
