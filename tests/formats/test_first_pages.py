"""`formats.first_pages`: every page that was touched is in the record, and a garbled record is none."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtsnap.formats import first_pages
from virtsnap.formats.first_pages import MOST_BYTES, UNIT, FirstPages, decode, encode, touched, worth_noting
from virtsnap.model.errors import Damaged

PAGE = 4096
RECORD = FirstPages(3 << 30, 1_700_000_000_123_456_789, 2.004, ((0, UNIT), (5 * UNIT, 9 * UNIT)))


def test_pages_that_are_mapped_or_swapped_out_were_touched() -> None:
    kinds = [0x80, 0x40, 0xA1, 0x00, 0x01, 0x20]  # present, swapped, of the file; none, and bits alone
    assert first_pages.marks(b"".join(bytes(7) + bytes([kind]) for kind in kinds)) == b"\1\1\1\0\0\0"


def test_units_with_a_page_in_them() -> None:
    marks = bytearray(100)
    marks[0] = marks[17] = marks[63] = marks[99] = 1
    assert touched(bytes(marks), PAGE) == ((0, 32 * PAGE), (48 * PAGE, 64 * PAGE), (96 * PAGE, 112 * PAGE))
    assert touched(b"", PAGE) == touched(bytes(100), PAGE) == ()
    assert touched(b"\0\1\1\0", 2 * UNIT) == ((2 * UNIT, 6 * UNIT),)


@given(st.sets(st.integers(0, (64 << 30) // UNIT - 1), min_size=1, max_size=1200))
def test_no_page_is_lost_on_the_way(units: set[int]) -> None:
    marks = bytearray(max(units) + 1)
    for unit in units:
        marks[unit] = 1
    ranges = touched(bytes(marks), UNIT)
    assert {at // UNIT for start, end in ranges for at in range(start, end, UNIT)} == units
    assert all(end < start for (_, end), (start, _) in pairwise(ranges))
    value = encode(FirstPages(1, 2, 3.0, ranges))
    assert (value is None) == (len(units) * UNIT > MOST_BYTES)
    if value is not None:
        assert decode(value) == FirstPages(1, 2, 3.0, ranges)
        assert len(value) < 3300


def test_there_and_back() -> None:
    value = encode(RECORD)
    assert value is not None
    assert decode(value) == RECORD


def test_nothing_and_too_much_are_not_kept() -> None:
    assert encode(FirstPages(1, 2, 3, ())) is None
    assert encode(FirstPages(1, 2, 3, ((0, MOST_BYTES),))) is not None
    assert encode(FirstPages(1, 2, 3, ((0, MOST_BYTES), (MOST_BYTES + UNIT, MOST_BYTES + 2 * UNIT)))) is None


def test_a_garbled_record_is_none() -> None:
    value = encode(RECORD) or b""
    for at in range(len(value)):
        with pytest.raises(Damaged):
            decode(value[:at] + bytes([value[at] ^ 0x10]) + value[at + 1 :])
        with pytest.raises(Damaged):
            decode(value[:at])


@given(st.binary(max_size=40))
def test_nor_is_any_other_value(body: bytes) -> None:
    with pytest.raises(Damaged):
        decode(b"VSF2" + body)
    whole = b"VSF1" + struct.pack(">I", zlib.crc32(body)) + body
    try:
        found = decode(whole)
    except Damaged:
        return
    assert all(start <= end for start, end in found.ranges)


def test_the_look_nearest_to_two_seconds_counts() -> None:
    assert worth_noting(0.3, None)
    assert worth_noting(9000, None)
    assert not worth_noting(0, None)
    assert not worth_noting(-3, None)  # the clock was set back
    assert worth_noting(9000, 0)  # whatever is better than somebody else's
    assert worth_noting(2.0, 0.3)
    assert worth_noting(2.0, 60)
    assert not worth_noting(60, 2.0)
    assert not worth_noting(2.0, 2.1)
    assert not worth_noting(0.3, 2.1)
