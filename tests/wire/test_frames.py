"""A byte stream cut into frames."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from virtsnap.wire.frames import DESCRIPTORS_MAX, FRAME_MAX, Frame, FrameReader, Kind, ProtocolError, Status
from virtsnap.wire.keepalive import PING, PONG, Keepalive

CALL = Frame(0x20008086, 1, 23, Kind.CALL, 7, Status.OK, b"\0\0\0\2vm\0\0")
FRAMES = st.builds(
    Frame,
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(-(2**31), 2**31 - 1),
    st.sampled_from([kind for kind in Kind if "FDS" not in kind.name]),
    st.integers(0, 2**32 - 1),
    st.sampled_from(Status),
    st.binary(max_size=40),
)
PASSING = st.builds(
    replace,
    FRAMES,
    kind=st.sampled_from([Kind.CALL_WITH_FDS, Kind.REPLY_WITH_FDS]),
    descriptors=st.integers(0, DESCRIPTORS_MAX),
)


def test_a_call_as_virsh_sends_it() -> None:
    data = "00000024 20008086 00000001 00000017 00000000 00000007 00000000 00000002 766d0000"
    assert CALL.pack() == bytes.fromhex(data)
    assert list(FrameReader().feed(bytes.fromhex(data))) == [CALL]


def test_answers_and_streams_keep_what_ties_them_to_the_call() -> None:
    answer, data = CALL.answer(b"abcd"), CALL.stream(b"xyz")
    assert (answer.kind, answer.serial, answer.procedure, answer.status) == (Kind.REPLY, 7, 23, Status.OK)
    assert (data.kind, data.serial, data.procedure, data.status) == (Kind.STREAM, 7, 23, Status.CONTINUE)


@given(st.lists(FRAMES | PASSING, max_size=5), st.data())
def test_frames_come_out_however_the_stream_is_cut(frames: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(frame.pack() + bytes(frame.descriptors) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader, found = FrameReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert found == frames
    assert reader.waiting == 0


@given(st.binary(max_size=300))
def test_noise_is_frames_or_an_error_of_the_protocol(noise: bytes) -> None:
    reader = FrameReader()
    try:
        found = list(reader.feed(noise))
    except ProtocolError:
        return
    framed = sum(len(frame.pack()) for frame in found) + reader.waiting
    passed = sum(frame.descriptors for frame in found)
    assert framed <= len(noise) <= framed + passed


@pytest.mark.parametrize("length", [0, 3, 4, 27, FRAME_MAX + 1, 2**32 - 1])
def test_a_length_that_no_frame_has(length: int) -> None:
    with pytest.raises(ProtocolError, match=str(length)):
        list(FrameReader().feed(length.to_bytes(4, "big")))


def test_a_reader_with_a_limit() -> None:
    assert list(FrameReader(limit=36).feed(CALL.pack())) == [CALL]
    with pytest.raises(ProtocolError):
        list(FrameReader(limit=35).feed(CALL.pack()))


@pytest.mark.parametrize(("word", "value"), [(4, 9), (6, 3)])
def test_kinds_and_statuses_that_are_not_for_us(word: int, value: int) -> None:
    data = bytearray(CALL.pack())
    data[word * 4 : word * 4 + 4] = value.to_bytes(4, "big")
    with pytest.raises(ProtocolError):
        list(FrameReader().feed(bytes(data)))


@pytest.mark.parametrize("payload", [b"", b"\0\0\0", (DESCRIPTORS_MAX + 1).to_bytes(4, "big")])
def test_a_number_of_descriptors_that_no_frame_has(payload: bytes) -> None:
    data = bytearray(Frame(1, 1, 1, Kind.CALL, payload=payload).pack())
    data[16:20] = Kind.CALL_WITH_FDS.to_bytes(4, "big")
    with pytest.raises(ProtocolError, match="descriptors"):
        list(FrameReader().feed(bytes(data)))


def test_a_frame_that_is_too_large_is_not_packed() -> None:
    with pytest.raises(ProtocolError):
        Frame(1, 1, 1, Kind.REPLY, payload=bytes(FRAME_MAX)).pack()


def test_keepalive_asks_the_silent_and_gives_up_those_who_stay_so() -> None:
    peer = Keepalive(interval=5, count=2)
    assert peer.due(100) == (False, False)  # off
    peer.start(0)
    assert peer.due(4.9) == (False, False)
    assert peer.due(5) == (True, False)
    assert peer.due(9) == (False, False)
    assert peer.due(10) == (True, False)
    assert peer.due(15) == (False, True)
    peer.heard(15)
    assert peer.due(16) == (False, False)
    assert peer.due(20) == (True, False)
    assert peer.answer(PING) == PONG
    assert peer.answer(PONG) is None
