"""Connection URIs: which one is meant when none is given, and what a URI asks for.

Known: `qemu:///embed?root=DIR`, libvirt's form for an embedded driver: everything under DIR, in this
process. DIR is absolute; percent escapes are decoded. What is not here: URIs of a daemon.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from virtsnap.model.errors import InvalidArg

ENVIRONMENT = "VIRTSNAP_DEFAULT_URI"


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


def parse_uri(uri: str | None) -> EmbedTarget:
    """What to open. None or an empty URI: $VIRTSNAP_DEFAULT_URI, else embedded in `default_root()`.

    Raises InvalidArg for every other scheme, path or parameter, naming it.
    """
    if not uri:
        uri = os.environ.get(ENVIRONMENT) or None
    if uri is None:
        return EmbedTarget(default_root())
    address, _, query = uri.partition("?")
    if "#" in uri:
        raise InvalidArg(f"URI '{uri}' has a fragment, which means nothing here")
    if ":" not in address:
        raise InvalidArg(f"URI '{uri}' does not include a driver name")
    if address.rstrip("/") != "qemu:///embed":
        raise InvalidArg(
            f"no connection driver available for {uri}: this version opens qemu:///embed?root=DIR only"
        )
    return EmbedTarget(_root_of(uri, query))


def _root_of(uri: str, query: str) -> Path:
    from urllib.parse import unquote

    root: str | None = None
    for part in filter(None, query.replace(";", "&").split("&")):
        name, _, value = part.partition("=")
        if unquote(name) != "root":
            raise InvalidArg(f"unknown parameter '{unquote(name)}' in URI '{uri}'")
        if root is not None:
            raise InvalidArg(f"parameter 'root' is given twice in URI '{uri}'")
        root = unquote(value)
    if root is None:
        return default_root()
    if not root.startswith("/"):
        raise InvalidArg(f"root of URI '{uri}' is not an absolute path")
    if "\0" in root:
        raise InvalidArg(f"root of URI '{uri}' contains a NUL character")
    return Path(root)
