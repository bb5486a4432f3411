"""virtsnapd's one configuration file: TOML, every key optional, every mistake named.

root = "/var/lib/virtsnap"             where everything is kept
socket = "/run/virtsnap/virtsnap-sock" the read-only socket stands beside it, with -ro behind its name
unix_sock_group = "virtsnap"           who may use the sockets, beside root
unix_sock_rw_perms = "0660"
unix_sock_ro_perms = "0660"
max_clients = 5000
"""

from __future__ import annotations

import grp
import os
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path


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
    if key == "max_clients":
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError("a number from 1 is expected")
        return value
    if not isinstance(value, str):
        raise ValueError("a string is expected")
    if key in ("root", "socket"):
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
