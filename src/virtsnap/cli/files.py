"""The files that commands read and write, with libvirt's words when that fails."""

from __future__ import annotations

from virtsnap.cli.errors import CliError

LIMIT = 10 * 1024 * 1024
"""Bytes. The same limit as virsh has for an XML file."""


def read_text(path: str) -> str:
    """The whole file as text. Raises CliError."""
    try:
        with open(path, "rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as error:
        verb = "read" if isinstance(error, IsADirectoryError) else "open"
        raise CliError(f"Failed to {verb} file '{path}': {error.strerror}") from error
    if len(data) > LIMIT:
        raise CliError(f"Failed to read file '{path}': File too large")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CliError(f"Failed to read file '{path}': it is not UTF-8 text") from error


def write_bytes(path: str, data: bytes) -> None:
    """Write the whole file, replacing what is there. Raises CliError."""
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise CliError(f"cannot create file {path}: {error.strerror}") from error
