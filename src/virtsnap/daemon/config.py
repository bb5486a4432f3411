"""virtsnapd's one configuration file: TOML, every key optional, every mistake named.

root = "/var/lib/virtsnap"             where everything is kept
socket = "/run/virtsnap/virtsnap-sock" the read-only socket stands beside it, with -ro behind its name
unix_sock_group = "virtsnap"           who may use the sockets, beside root
unix_sock_rw_perms = "0660"
unix_sock_ro_perms = "0660"
max_clients = 5000

For clients of other hosts, under the names of libvirtd.conf:

listen_tls = false                     only with certificates; never by a user's own daemon
listen_addr = "192.0.2.1"              default: every address of the host
tls_port = "16514"
key_file, cert_file, ca_file           all three, or libvirt's own places
crl_file = "/etc/pki/CA/cacrl.pem"     if it is there
tls_allowed_dn_list = ["O=Lab,CN=*"]   default: whoever has a certificate of the CA
tls_no_verify_certificate = false      true: whoever comes is let in
tls_no_sanity_certificate = false      true: the daemon's own certificate is not looked at
max_anonymous_clients = 20             more wait until a certificate was looked at
"""

from __future__ import annotations

import grp
import os
import tomllib
from dataclasses import fields, replace
from pathlib import Path

from virtsnap.client.tls import Credentials, server_context, server_credentials
from virtsnap.model.errors import SystemRefused
from virtsnap.model.frozen import dataclass
from virtsnap.server.tls import TlsDoor

_SWITCHES = ("listen_tls", "listen_tcp", "tls_no_verify_certificate", "tls_no_sanity_certificate")
_NUMBERS = ("max_clients", "max_anonymous_clients")
_PATHS = ("root", "socket", "key_file", "cert_file", "ca_file", "crl_file")


class BadConfig(Exception):
    """The file cannot be used; the text says why, and where."""


@dataclass(frozen=True)
class Config:
    """See the module's text. Modes are numbers here."""

    root: Path
    socket: Path
    unix_sock_group: str | None = None
    unix_sock_rw_perms: int = 0o600
    unix_sock_ro_perms: int = 0o600
    max_clients: int = 5000
    listen_tls: bool = False
    listen_tcp: bool = False
    listen_addr: str | None = None
    tls_port: str = "16514"
    key_file: Path | None = None
    cert_file: Path | None = None
    ca_file: Path | None = None
    crl_file: Path | None = None
    tls_allowed_dn_list: tuple[str, ...] | None = None
    tls_no_verify_certificate: bool = False
    tls_no_sanity_certificate: bool = False
    max_anonymous_clients: int = 20

    @property
    def readonly_socket(self) -> Path:
        """The other socket."""
        return self.socket.with_name(self.socket.name + "-ro")

    @property
    def group(self) -> int | None:
        """The group's number. Raises BadConfig when there is no such group."""
        if self.unix_sock_group is None:
            return None
        try:
            return grp.getgrnam(self.unix_sock_group).gr_gid
        except KeyError as error:
            raise BadConfig(f"unix_sock_group: there is no group '{self.unix_sock_group}'") from error

    @property
    def tls_door(self) -> TlsDoor:
        """What clients of other hosts have to show. Raises BadConfig when our own files cannot be used."""
        try:
            context = server_context(
                self._credentials(),
                verify=not self.tls_no_verify_certificate,
                sanity=not self.tls_no_sanity_certificate,
            )
        except SystemRefused as error:
            raise BadConfig(str(error)) from error
        return TlsDoor(context, self.tls_allowed_dn_list, self.max_anonymous_clients)

    def _credentials(self) -> Credentials:
        usual = server_credentials()
        crl = self.crl_file or usual.crl
        if self.ca_file is None and self.cert_file is None and self.key_file is None:
            return replace(usual, crl=crl)
        if self.ca_file is None:
            raise BadConfig("No CA certificate path set to match server key/cert")
        if self.cert_file is None:
            raise BadConfig("No server certificate path set to match server key")
        if self.key_file is None:
            raise BadConfig("No server key path set to match server cert")
        return Credentials(self.ca_file, self.cert_file, self.key_file, crl)

    def check(self, *, session: bool) -> None:
        """What can be known before anything listens. `session`: for one user. Raises BadConfig."""
        if self.listen_tcp:
            raise BadConfig("listen_tcp: nothing is said in clear text; listen_tls or ssh reach other hosts")
        if self.tls_no_verify_certificate and self.tls_allowed_dn_list is not None:
            raise BadConfig("tls_allowed_dn_list: nobody's name is known with tls_no_verify_certificate")
        if not self.listen_tls:
            return
        if session:
            raise BadConfig("listen_tls: a user's own daemon does not listen on the network")
        self.tls_door  # noqa: B018 its files must be there


def default(*, session: bool) -> Config:
    """What holds without a file. `session`: for one user."""
    if not session:
        return Config(Path("/var/lib/virtsnap"), Path("/run/virtsnap/virtsnap-sock"))
    from virtsnap.api.uri import default_root

    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return Config(default_root(), Path(runtime, "virtsnap", "virtsnap-sock"))


def load(path: Path, base: Config) -> Config:
    """`base` with what the file says. Raises BadConfig."""
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: {error}") from error
    known = {field.name for field in fields(Config)}
    changes: dict[str, object] = {}
    for key, value in values.items():
        if key not in known:
            raise BadConfig(f"{path}: there is no setting '{key}'")
        try:
            changes[key] = _value(key, value)
        except ValueError as error:
            raise BadConfig(f"{path}: {key}: {error}") from error
    config = replace(base, **changes)  # type: ignore[arg-type]
    config.group  # noqa: B018 it must exist
    return config


def _value(key: str, value: object) -> object:
    if key in _SWITCHES:
        if value not in (False, True):  # 0 and 1, too, as libvirtd.conf has it
            raise ValueError("true or false is expected")
        return bool(value)
    if key in _NUMBERS:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError("a number from 1 is expected")
        return value
    if key == "tls_allowed_dn_list":
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ValueError("a list of strings is expected")
        return tuple(value)
    if key == "tls_port":
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.isdecimal() or int(value) > 65535:
            raise ValueError("a port is expected")
        return value
    if not isinstance(value, str):
        raise ValueError("a string is expected")
    if key in _PATHS:
        if not value.startswith("/"):
            raise ValueError("an absolute path is expected")
        return Path(value)
    if key.endswith("_perms"):
        try:
            mode = int(value, 8)
        except ValueError as error:
            raise ValueError('a mode such as "0660" is expected') from error
        if not 0 <= mode <= 0o777:
            raise ValueError('a mode such as "0660" is expected')
        return mode
    return value
