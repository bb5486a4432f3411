"""The head of a memory image: libvirt's save-image layout, so that either side reads the other's files.

    0        magic, 16 bytes: LibvirtQemudPart while the image is written, LibvirtQemudSave when it is whole
    16       version = 2, data length, was running, format, cookie offset: five uint32 in host byte order
    36       56 unused bytes
    92       domain XML and NUL, cookie XML and NUL (when there is one), zeros up to the data length
    92 + len QEMU's stream; format `sparse` addresses its pages by offset in the file

An image from a host of the other byte order is read as well. What is not here: files (`qemu.memory`), the
stream itself, and the domain inside the XML (`formats.domain_xml`). Source: libvirt's save-image format.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from virtsnap.model.errors import OperationFailed
from virtsnap.model.frozen import dataclass

FIXED_BYTES = 92
"""Length of the head before the XML."""
MAGIC = b"LibvirtQemudSave"
PARTIAL_MAGIC = b"LibvirtQemudPart"

_VERSION = 2
_SLACK_BYTES = 65536
"""Room that is left after the XML, so that it can be edited in place later; libvirt leaves the same."""
_MAX_DATA_BYTES = 64 << 20
"""No domain XML is that long; a number beyond it is garbage, not a length to allocate."""


class NoImage(OperationFailed):
    """The file is no memory image at all, or one that was never finished: nothing of it can be used."""


class SaveFormat(IntEnum):
    """How the stream after the head is kept (libvirt's image format numbers)."""

    RAW = 0
    GZIP = 1
    BZIP2 = 2
    XZ = 3
    LZOP = 4
    ZSTD = 5
    SPARSE = 6
    """Pages at fixed offsets: QEMU's mapped-ram."""


@dataclass(frozen=True)
class SaveImageHeader:
    """The head of one image. `data_length` 0 means: as long as the XML needs, with room for edits."""

    xml: str
    cookie: str | None = None
    was_running: bool = True
    format: SaveFormat = SaveFormat.RAW
    data_length: int = 0

    @property
    def stream_offset(self) -> int:
        """Where QEMU's stream begins in the file."""
        return FIXED_BYTES + (self.data_length or len(self._data()) + _SLACK_BYTES)

    def encode(self, *, partial: bool) -> bytes:
        """All bytes up to the stream. `partial`: with the magic of an image that is not yet whole.

        Raises OperationFailed when the XML does not fit the data length given.
        """
        data = self._data()
        length = self.stream_offset - FIXED_BYTES
        if len(data) > length:
            raise OperationFailed("new xml too large to fit in file")
        cookie_offset = len(self.xml.encode()) + 1 if self.cookie is not None else 0
        numbers = struct.pack("=5I", _VERSION, length, self.was_running, self.format, cookie_offset)
        head = (PARTIAL_MAGIC if partial else MAGIC) + numbers
        return head.ljust(FIXED_BYTES, b"\0") + data.ljust(length, b"\0")

    def _data(self) -> bytes:
        return b"".join(text.encode() + b"\0" for text in (self.xml, self.cookie) if text is not None)


def head_length(fixed: bytes) -> int:
    """How many bytes of the file the head takes, told by its first `FIXED_BYTES`.

    Raises OperationFailed in libvirt's words when this is no image, or not a whole one.
    """
    return FIXED_BYTES + _numbers(fixed)[0]


def decode(data: bytes) -> SaveImageHeader:
    """The head at the start of `data`; what follows it is not looked at.

    Raises OperationFailed in libvirt's words when this is no image, or not a whole one.
    """
    length, was_running, format, cookie_offset = _numbers(data[:FIXED_BYTES])
    area = data[FIXED_BYTES : FIXED_BYTES + length]
    if len(area) < (cookie_offset or length) or cookie_offset >= length:
        raise OperationFailed("failed to read domain XML")
    if len(area) < length:
        raise OperationFailed("failed to read cookie")
    xml_area = area[:cookie_offset] if cookie_offset else area
    cookie = _text(area[cookie_offset:]) if cookie_offset else None
    return SaveImageHeader(_text(xml_area), cookie, bool(was_running), SaveFormat(format), length)


def _numbers(fixed: bytes) -> tuple[int, int, int, int]:
    """(data length, was running, format, cookie offset), checked."""
    if len(fixed) < FIXED_BYTES:
        raise NoImage("failed to read qemu header")
    magic = fixed[:16]
    if magic == PARTIAL_MAGIC:
        raise NoImage("save image is incomplete")
    if magic != MAGIC:
        raise NoImage("image magic is incorrect")
    version, *numbers = struct.unpack_from("<5I", fixed, 16)
    if version > _VERSION:
        swapped, *numbers = struct.unpack_from(">5I", fixed, 16)
        if swapped > _VERSION:
            raise OperationFailed(f"image version is not supported ({swapped} > {_VERSION})")
        version = swapped
    length, was_running, format, cookie_offset = numbers
    if length == 0 or length > _MAX_DATA_BYTES:
        raise OperationFailed(f"invalid header data length: {length}")
    if version < _VERSION:
        # Version 1 had no say on compression.
        format = SaveFormat.RAW
    if format > max(SaveFormat):
        raise OperationFailed(f"unsupported save image format: {format}")
    return length, was_running, format, cookie_offset


def _text(area: bytes) -> str:
    """The text up to the first NUL."""
    try:
        return area.split(b"\0", 1)[0].decode()
    except UnicodeDecodeError as error:
        raise OperationFailed("failed to read domain XML") from error
