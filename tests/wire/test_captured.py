"""Frames that virsh and libvirtd 11.3 have exchanged: understood, and made again byte by byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtsnap.wire.frames import Frame, FrameReader, Kind, Status
from virtsnap.wire.procedures import ERROR, PROGRAMS
from virtsnap.wire.values import ErrorInfo, WireDomain
from virtsnap.wire.xdr import Reader, pack

LINES = [line.split() for line in Path(__file__).with_name("captured.txt").read_text().splitlines()]


def _frame(name: str, kind: str, status: str = "OK") -> Frame:
    data = next(bytes.fromhex(line[3]) for line in LINES if line[:3] == [name, kind, status])
    return next(FrameReader().feed(data))


@pytest.mark.parametrize(("name", "kind", "status", "data"), LINES)
def test_every_frame_is_understood_and_made_again(name: str, kind: str, status: str, data: str) -> None:
    (frame,) = FrameReader().feed(bytes.fromhex(data))
    assert frame.pack() == bytes.fromhex(data)
    assert (frame.kind, frame.status) == (Kind[kind], Status[status])
    procedure = PROGRAMS[frame.program].get(frame.procedure)
    assert procedure is not None
    assert procedure.name == name
    if status == "ERROR":
        assert pack(ERROR, ERROR.unpack(Reader(frame.payload))) == frame.payload
    elif kind in ("CALL", "MESSAGE"):
        assert procedure.pack_arguments(*procedure.unpack_arguments(frame.payload)) == frame.payload
    elif kind == "REPLY":
        assert procedure.pack_answer(procedure.unpack_answer(frame.payload)) == frame.payload
    else:
        assert procedure.streams


def _answer(name: str) -> object:
    frame = _frame(name, "REPLY")
    procedure = PROGRAMS[frame.program].get(frame.procedure)
    assert procedure is not None
    return procedure.unpack_answer(frame.payload)


def test_what_they_say() -> None:
    domain = WireDomain("vm", bytes.fromhex("11111111222233334444555555555555"), -1)
    assert _answer("domain_define_xml") == domain
    assert _answer("connect_list_all_domains") == ([domain], 1)
    assert _answer("domain_get_security_label") == ([0], 0)
    assert _answer("node_get_security_model") == ([*b"none\0"], [*b"0\0"])
    assert _answer("domain_screenshot") == "image/png"
    error = ERROR.unpack(Reader(_frame("domain_snapshot_lookup_by_name", "REPLY", "ERROR").payload))
    assert isinstance(error, ErrorInfo)
    assert (error.code, error.domain, error.level) == (72, 10, 2)
    assert error.message == "Domain snapshot not found: no domain snapshot with matching name 'nope'"
    event = _frame("domain_event_callback_lifecycle", "MESSAGE")
    procedure = PROGRAMS[event.program].get(event.procedure)
    assert procedure is not None
    callback, (who, kind, detail) = procedure.unpack_arguments(event.payload)
    assert (callback, who.name, kind, detail) == (1, "vm", 3, 0)  # suspended: paused
