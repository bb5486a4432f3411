"""Connection URIs: which one is meant when none is given, and what a URI asks for.

Known: `qemu:///embed?root=DIR`, libvirt's form for an embedded driver: everything under DIR, in this process;
`qemu:///system?socket=PATH` (or `qemu+unix:`, or `/session`): a daemon that listens there, by default where
virtsnapd does; `qemu+tls://HOST[:PORT]/system?pkipath=DIR` (or `qemu://HOST/system`): one of another host,
by TLS with certificates; `qemu+ssh://[USER@]HOST[:PORT]/system?socket=PATH&keyfile=FILE`: the same by way of
ssh and netcat. Paths are absolute; percent escapes are decoded.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from virtsnap.client.target import SocketTarget, SshTarget, TlsTarget
from virtsnap.model.errors import InvalidArg
from virtsnap.model.frozen import dataclass

ENVIRONMENT = "VIRTSNAP_DEFAULT_URI"
_TLS_PORT = 16514
_SSH_WORDS = (
    *("keyfile", "command", "netcat", "proxy", "no_tty", "no_verify"),
    *("known_hosts", "known_hosts_verify"),
)
_HOST_KEYS = {
    "normal": [],
    "auto": ["-o", "StrictHostKeyChecking=accept-new"],
    "ignore": ["-o", "StrictHostKeyChecking=no"],
}
_REMOTE = (
    r"qemu(\+(?P<transport>unix|ssh|tls|tcp))?://"
    r"((?P<user>[A-Za-z0-9._-]+)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9a-fA-F:.%]+\])?(:(?P<port>[0-9]{1,5}))?"
    r"/(?P<path>system|session)"
)


@dataclass(frozen=True)
class EmbedTarget:
    """The service inside this process, with its whole state under `root`."""

    root: Path


def default_root() -> Path:
    """The user's data directory: $XDG_DATA_HOME/virtsnap or ~/.local/share/virtsnap."""
    base = os.environ.get("XDG_DATA_HOME", "")
    # The XDG base directory specification: relative values are invalid and to be ignored.
    root = Path(base) if base.startswith("/") else Path.home() / ".local" / "share"
    return root / "virtsnap"


def given_uri(uri: str | None) -> str:
    """The URI that is meant: what is given, else $VIRTSNAP_DEFAULT_URI, else the embedded one."""
    return uri or os.environ.get(ENVIRONMENT) or "qemu:///embed"


def parse_uri(uri: str | None) -> EmbedTarget | SocketTarget | SshTarget | TlsTarget:
    """What to open. None or an empty URI: $VIRTSNAP_DEFAULT_URI, else embedded in `default_root()`.

    Raises InvalidArg for every other scheme, path or parameter, naming it.
    """
    uri = given_uri(uri)
    address, _, query = uri.partition("?")
    if "#" in uri:
        raise InvalidArg(f"URI '{uri}' has a fragment, which means nothing here")
    if ":" not in address:
        raise InvalidArg(f"URI '{uri}' does not include a driver name")
    if address.rstrip("/") == "qemu:///embed":
        return EmbedTarget(_root_of(uri, query))
    match = re.fullmatch(_REMOTE, address)
    if match is None:
        raise InvalidArg(
            f"no connection driver available for {uri}: there are qemu:///embed?root=DIR,"
            " qemu:///system and qemu:///session (also with ?socket=PATH), qemu+ssh://HOST/system,"
            " qemu+tls://HOST/system"
        )
    path = match["path"]
    if match["transport"] == "tcp":
        raise InvalidArg(
            f"URI '{uri}' asks for a connection in clear text; qemu+tls:// and qemu+ssh:// are safe"
        )
    if match["transport"] == "tls" or (match["transport"] is None and match["host"]):
        return _tls(match, uri, query)
    given = _parameters(uri, query, ("socket", *_SSH_WORDS) if match["transport"] == "ssh" else ("socket",))
    socket = given.get("socket") or _default_socket(path)
    if not socket.startswith("/"):
        raise InvalidArg(f"socket of URI '{uri}' is not an absolute path")
    if match["transport"] == "ssh":
        return SshTarget(_ssh(match, uri, given, socket), f"qemu:///{path}")
    if match["host"]:
        raise InvalidArg(f"URI '{uri}' names a host; qemu+ssh:// reaches one")
    return SocketTarget(socket, f"qemu:///{path}", started=path == "session" and "socket" not in given)


def _default_socket(path: str) -> str:
    if path == "system":
        return "/run/virtsnap/virtsnap-sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return f"{runtime}/virtsnap/virtsnap-sock"


def _tls(match: re.Match[str], uri: str, query: str) -> TlsTarget:
    given = _parameters(uri, query, ("pkipath", "no_verify", "no_sanity"))
    if not match["host"]:
        raise InvalidArg("qemu+tls:// needs a host")
    folder = given.get("pkipath")
    if folder is not None and not folder.startswith("/"):
        raise InvalidArg(f"pkipath of URI '{uri}' is not an absolute path")
    port = int(match["port"] or _TLS_PORT)
    return TlsTarget(
        match["host"].strip("[]"),
        port,
        f"qemu:///{match['path']}",
        folder,
        verify=not _number(uri, given, "no_verify"),
        sanity=not _number(uri, given, "no_sanity"),
    )


def _number(uri: str, given: dict[str, str], name: str) -> int:
    text = given.get(name, "0")
    if not text.isascii() or not text.isdecimal():
        raise InvalidArg(f"{name} of URI '{uri}' is not a number")
    return int(text)


def _ssh(match: re.Match[str], uri: str, given: dict[str, str], socket: str) -> tuple[str, ...]:
    """As libvirt's client asks ssh. `known_hosts` counts, too, which that leaves to other transports."""
    import shlex

    if not match["host"]:
        raise InvalidArg("qemu+ssh:// needs a host")
    words = [given.get("command") or "ssh"]
    words += ["-p", match["port"]] if match["port"] else []
    words += ["-l", match["user"]] if match["user"] else []
    words += ["-i", given["keyfile"]] if "keyfile" in given else []
    words += ["-T", "-e", "none"]
    words += ["-o", "BatchMode=yes"] if _number(uri, given, "no_tty") else []
    verify = "ignore" if _number(uri, given, "no_verify") else given.get("known_hosts_verify", "normal")
    if verify not in _HOST_KEYS:
        raise InvalidArg(f"Invalid value of known_hosts_verify: '{verify}'")
    words += _HOST_KEYS[verify]
    words += ["-o", f"UserKnownHostsFile={given['known_hosts']}"] if "known_hosts" in given else []
    script = _far_end(given, match["path"], socket)
    return (*words, "--", match["host"].strip("[]"), f"sh -c {shlex.quote(script)}")


def _far_end(given: dict[str, str], path: str, socket: str) -> str:
    """What goes from ssh to the daemon's socket: netcat, or the program that libvirt has for it."""
    import shlex
    from urllib.parse import quote

    netcat = shlex.quote(given.get("netcat", "nc"))
    # One that does not end by itself when ssh has gone is told to, where it knows how.
    by_netcat = (
        f'if {netcat} -q 2>&1 | grep "requires an argument" >/dev/null 2>&1; then ARG=-q0; else ARG=; fi; '
        f"exec {netcat} $ARG -U {shlex.quote(socket)}"
    )
    helper = "virt-ssh-helper " + shlex.quote(f"qemu:///{path}?socket={quote(socket, safe='')}")
    proxy = given.get("proxy", "netcat")
    ways = {
        "netcat": by_netcat,
        "native": f"exec {helper}",
        "auto": f"if command -v virt-ssh-helper >/dev/null 2>&1; then exec {helper}; fi; {by_netcat}",
    }
    if proxy not in ways:
        raise InvalidArg(f"Invalid value of proxy: '{proxy}'")
    return ways[proxy]


def _root_of(uri: str, query: str) -> Path:
    root = _parameters(uri, query, ("root",)).get("root")
    if root is None:
        return default_root()
    if not root.startswith("/"):
        raise InvalidArg(f"root of URI '{uri}' is not an absolute path")
    return Path(root)


def _parameters(uri: str, query: str, known: tuple[str, ...]) -> dict[str, str]:
    from urllib.parse import unquote

    found: dict[str, str] = {}
    for part in filter(None, query.replace(";", "&").split("&")):
        name, _, value = (unquote(word) for word in part.partition("="))
        if name not in known:
            raise InvalidArg(f"unknown parameter '{name}' in URI '{uri}'")
        if name in found:
            raise InvalidArg(f"parameter '{name}' is given twice in URI '{uri}'")
        if "\0" in value:
            raise InvalidArg(f"{name} of URI '{uri}' contains a NUL character")
        found[name] = value
    return found
