"""The head of a memory image, byte by byte."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtsnap.formats.save_image import SaveFormat, SaveImageHeader, decode, head_length
from virtsnap.model.errors import OperationFailed

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)


def test_layout() -> None:
    head = SaveImageHeader("<domain/>", "<cookie/>", False, SaveFormat.SPARSE).encode(partial=True)
    assert head[:16] == b"LibvirtQemudPart"
    assert struct.unpack_from("=5I", head, 16) == (2, 20 + 65536, 0, 6, 10)
    assert head[36:92] == bytes(56)
    assert head[92:112] == b"<domain/>\0<cookie/>\0"
    assert head[112:] == bytes(65536)


def test_without_a_cookie() -> None:
    head = SaveImageHeader("<domain/>").encode(partial=False)
    assert head[:16] == b"LibvirtQemudSave"
    assert struct.unpack_from("=5I", head, 16) == (2, 10 + 65536, 1, 0, 0)
    assert decode(head).cookie is None


@given(
    xml=TEXT,
    cookie=st.none() | TEXT,
    was_running=st.booleans(),
    format=st.sampled_from(SaveFormat),
    rest=st.binary(),
)
def test_what_is_written_is_read(
    xml: str, cookie: str | None, was_running: bool, format: SaveFormat, rest: bytes
) -> None:
    header = SaveImageHeader(xml, cookie, was_running, format)
    data = header.encode(partial=False)
    assert len(data) == header.stream_offset == head_length(data[:92])
    found = decode(data + rest)
    assert (found.xml, found.cookie, found.was_running, found.format) == (xml, cookie, was_running, format)
    # Rewritten in place, it takes the same room.
    assert found.encode(partial=False) == data


def test_the_other_byte_order_is_read() -> None:
    data = bytearray(SaveImageHeader("<domain/>", "<c/>", True, SaveFormat.SPARSE).encode(partial=False))
    struct.pack_into(">5I", data, 16, *struct.unpack_from("<5I", data, 16))
    found = decode(bytes(data))
    assert (found.xml, found.cookie, found.format) == ("<domain/>", "<c/>", SaveFormat.SPARSE)


def test_a_longer_xml_must_fit() -> None:
    header = SaveImageHeader("<domain/>", data_length=12)
    assert len(header.encode(partial=False)) == 92 + 12
    with pytest.raises(OperationFailed, match="new xml too large to fit in file"):
        SaveImageHeader("<domain>longer</domain>", data_length=12).encode(partial=False)


GOOD = SaveImageHeader("<domain/>", "<c/>").encode(partial=False)


def patched(offset: int, *numbers: int) -> bytes:
    data = bytearray(GOOD)
    struct.pack_into(f"={len(numbers)}I", data, offset, *numbers)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "failed to read qemu header"),
        (GOOD[:91], "failed to read qemu header"),
        (b"QFI\xfb" + GOOD[4:], "image magic is incorrect"),
        (SaveImageHeader("<domain/>").encode(partial=True), "save image is incomplete"),
        (patched(16, 3), "image version is not supported (50331648 > 2)"),
        (patched(20, 0), "invalid header data length: 0"),
        (patched(20, 0xFFFFFFFF), "invalid header data length: 4294967295"),
        (patched(28, 7), "unsupported save image format: 7"),
        (GOOD[:100], "failed to read domain XML"),
        (patched(32, 0x7FFFFFFF), "failed to read domain XML"),
        (GOOD[:92] + b"\xff" + GOOD[93:], "failed to read domain XML"),
    ],
)
def test_what_libvirt_says_of_other_files(data: bytes, message: str) -> None:
    with pytest.raises(OperationFailed) as caught:
        decode(data)
    assert str(caught.value) == f"operation failed: {message}"


def test_version_1_knows_no_formats() -> None:
    assert decode(patched(16, 1, len(GOOD) - 92, 1, 6)).format is SaveFormat.RAW
