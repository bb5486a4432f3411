"""Writes an initramfs archive (cpio, "newc" format), so that no root, cpio or mknod is needed.

Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst. Times and inodes are fixed:
the same input gives the same archive, byte for byte.
"""

from __future__ import annotations

import stat
from pathlib import Path


class Archive:
    """Collects files and folders in order; `write` puts them into a file."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._inode = 0

    def folder(self, path: str, mode: int = 0o755) -> None:
        """Add a folder. `path` has no leading slash."""
        self._entry(path, stat.S_IFDIR | mode, b"")

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self._entry(path, stat.S_IFREG | mode, data)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self._entry(path, stat.S_IFLNK | 0o777, target.encode())

    def char_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a character device: the kernel opens /dev/console before devtmpfs is there."""
        self._entry(path, stat.S_IFCHR | mode, b"", major, minor)

    def write(self, target: Path) -> None:
        """Write the archive, closed with its trailer."""
        self._entry("TRAILER!!!", 0, b"")
        target.write_bytes(b"".join(self._parts))

    def _entry(self, path: str, mode: int, data: bytes, major: int = 0, minor: int = 0) -> None:
        self._inode += 1
        name = path.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (self._inode, mode, 0, 0, links, 0, len(data), 0, 0, major, minor, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
        self._parts.append(_padded(head))
        self._parts.append(_padded(data))


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
