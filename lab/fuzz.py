"""Mutated frames against the wire layer, read as a server reads them and as a client does.

Seeds are captured frames and frames with random values of every procedure. A mutation knows what the bytes
mean: it lies about lengths and counts, asks for other procedures, kinds and types, cuts, repeats, flips bits.
Only ProtocolError and XdrError may come out; whatever is understood can be packed again, and means the same.

Left out: sockets. Clients that do everything wrong to a running daemon: tests/server, script/soak.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from virtsnap.wire.errors import error_of, info_of
from virtsnap.wire.events import event_of, message
from virtsnap.wire.frames import Frame, FrameReader, Kind, ProtocolError, Status, whole
from virtsnap.wire.keepalive import PING, PONG, Keepalive
from virtsnap.wire.procedures import ERROR, HOLE, KEEPALIVE, PROGRAMS, Procedure
from virtsnap.wire.values import Param, Value
from virtsnap.wire.xdr import (
    STRING_MAX,
    Array,
    Bytes,
    Codec,
    FixedBytes,
    Number,
    Optional,
    Reader,
    Record,
    Text,
    TypedParam,
    Vector,
    XdrError,
    pack,
)

CAPTURED = Path(__file__).parents[1] / "tests" / "wire" / "captured.txt"
_WORDS: tuple[int, ...] = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    20,
    255,
    256,
    4096,
    16384,
    STRING_MAX,
    STRING_MAX + 1,
    2**31 - 1,
)
_WORDS += (2**31, 2**32 - 4, 2**32 - 1)
_PARAMS: list[tuple[int, Value]] = [(1, 1), (2, 7), (3, 5), (4, 2**64 - 1), (5, 0.5), (6, True), (7, "x")]
_PROCEDURES = [one for program in PROGRAMS.values() for one in program]
_SECONDS = 5.0


def value(codec: Codec, dice: random.Random) -> object:
    """A random value of the codec's type."""
    match codec:
        case Text():
            return dice.choice(["", "vm", "a/b", "ü\udcff", "%s%n", "<x/>", "x" * dice.randrange(40)])
        case Bytes():
            return dice.randbytes(dice.randrange(9))
        case FixedBytes():
            return dice.randbytes(codec.length)
        case Number():
            return codec.unpack(Reader(dice.choice([bytes(8), dice.randbytes(8), bytes(7) + b"\3"])))
        case Optional():
            return dice.choice([None, value(codec.element, dice)])
        case Array():
            return [value(codec.element, dice) for _ in range(dice.randrange(min(codec.limit, 3) + 1))]
        case Vector():
            return [value(codec.element, dice) for _ in range(codec.length)]
        case TypedParam():
            type, one = dice.choice(_PARAMS)
            return Param(dice.choice(["", "state.state", "file"]), type, one)
        case Record():
            return codec.unpack(
                Reader(b"".join(pack(one, value(one, dice)) for one in codec.codecs)),
            )
    raise TypeError(codec)


def seeds(dice: random.Random) -> list[bytes]:
    """Frames that are right: captured ones, and for each procedure call, answer, error, event and stream."""
    found = [bytes.fromhex(line.split()[3]) for line in CAPTURED.read_text().splitlines()]
    found += [PING.pack(), PONG.pack()]
    for procedure in _PROCEDURES:
        for _ in range(3):
            kind = Kind.MESSAGE if procedure.access == "e" else Kind.CALL
            frame = Frame(procedure.program, 1, procedure.number, kind, dice.randrange(9))
            arguments = pack(procedure.arguments, value(procedure.arguments, dice))
            found.append(
                Frame(frame.program, 1, frame.procedure, kind, frame.serial, payload=arguments).pack()
            )
            if kind is Kind.CALL:
                found.append(frame.answer(pack(procedure.answer, value(procedure.answer, dice))).pack())
        found.append(frame.answer(pack(ERROR, value(ERROR, dice)), Status.ERROR).pack())
        if procedure.streams:
            found.append(frame.stream(dice.randbytes(9)).pack())
            hole = pack(HOLE, value(HOLE, dice))
            found.append(
                Frame(frame.program, 1, frame.procedure, Kind.STREAM_HOLE, payload=hole).pack(),
            )
    return found


def mutated(frame: bytes, others: list[bytes], dice: random.Random) -> bytes:
    """The frame with one to four things wrong; its length is mostly made right again."""
    data = bytearray(frame)
    for _ in range(dice.choice([1, 1, 1, 2, 3, 4])):
        _wrong(data, others, dice)
    if dice.random() < 0.9:
        data[:4] = len(data).to_bytes(4, "big")
    return bytes(data)


def _wrong(data: bytearray, others: list[bytes], dice: random.Random) -> None:
    words = len(data) // 4
    match dice.randrange(10):
        case 0 | 1 if words > 7:  # a count, a length, an enum or a number of the payload
            at = 4 * dice.randrange(7, words)
            data[at : at + 4] = _word(len(data) - at - 4, dice)
        case 2 if words:  # the same anywhere
            at = 4 * dice.randrange(words)
            data[at : at + 4] = _word(len(data) - at - 4, dice)
        case 3 if words > 3:  # another procedure
            other = dice.choice(_PROCEDURES)
            data[4:8] = other.program.to_bytes(4, "big")
            data[12:16] = other.number.to_bytes(4, "big")
        case 4 if words > 6:  # another kind or status
            at = dice.choice([16, 24])
            data[at : at + 4] = dice.randrange(8 if at == 16 else 4).to_bytes(4, "big")
        case 5:  # cut
            del data[dice.randrange(4, len(data) + 1) if len(data) > 4 else 0 :]
        case 6:  # more
            data += dice.randbytes(dice.randrange(1, 40))
        case 7 if words > 1:  # a part of another, or of itself, in the middle
            part = dice.choice([*dice.choices(others, k=2), bytes(data)])
            start, at = 4 * dice.randrange(len(part) // 4), 4 * dice.randrange(1, words)
            data[at : at + 4 * dice.randrange(2)] = part[start : start + 4 * dice.randrange(1, 12)]
        case _ if data:  # bits
            for _ in range(dice.randrange(1, 4)):
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _word(left: int, dice: random.Random) -> bytes:
    word = dice.choice([*_WORDS, left, left + 1, left - 4, left // 4, dice.randrange(2**32)])
    return (word % 2**32).to_bytes(4, "big")


def try_bytes(data: bytes, dice: random.Random) -> bool:
    """Read it as both sides do. False: refused. Raises whatever should not have come."""
    reader, cut = FrameReader(), dice.randrange(len(data) + 1)
    try:
        frames = [*reader.feed(data[:cut]), *reader.feed(data[cut:])]
    except ProtocolError:
        return False
    alone = whole(data)
    assert alone is None or [alone] == frames
    understood = [_try_frame(frame) for frame in frames]
    return all(understood) and bool(frames)


def _try_frame(frame: Frame) -> bool:
    assert next(FrameReader().feed(frame.pack())) == frame
    if frame.program == KEEPALIVE:
        Keepalive().answer(frame)
        return True
    program = PROGRAMS.get(frame.program)
    procedure = program.get(frame.procedure) if program is not None else None
    if procedure is None:
        return False
    try:
        _try_payload(frame, procedure)
    except XdrError:
        return False
    return True


def _try_payload(frame: Frame, procedure: Procedure) -> None:
    match frame.kind:
        case Kind.CALL:
            procedure.unpack_arguments(frame.payload)
            _again(procedure.arguments, frame.payload)
        case Kind.REPLY if frame.status is Status.ERROR:
            error = error_of(ERROR.unpack(Reader(frame.payload)))
            assert isinstance(pack(ERROR, info_of(error)), bytes)
            _again(ERROR, frame.payload)
        case Kind.REPLY:
            answer = procedure.unpack_answer(frame.payload)
            assert isinstance(procedure.pack_answer(answer), bytes)
            _again(procedure.answer, frame.payload)
        case Kind.MESSAGE:
            told = event_of(frame, 0.0)
            if told is not None:
                assert message(told[1], told[0]) is not None
        case Kind.STREAM if frame.status is Status.ERROR:
            error_of(ERROR.unpack(Reader(frame.payload)))
        case Kind.STREAM_HOLE:
            _again(HOLE, frame.payload)


def _again(record: Record, payload: bytes) -> None:
    """What was understood is packed, understood and packed: the same bytes both times (but padding)."""
    once = pack(record, record.unpack(Reader(payload)))
    assert pack(record, record.unpack(Reader(once))) == once


def run(seed: int, count: int | None, seconds: float) -> tuple[int, int]:
    """How many were tried, and how many of them understood. `count` None: as many as `seconds` allow.

    Raises AssertionError with the bytes when something else than a refusal comes out.
    """
    dice = random.Random(seed)
    known = seeds(dice)
    end, tried, understood = time.monotonic() + seconds, 0, 0
    while (tried < count) if count is not None else (time.monotonic() < end):
        for _ in range(1000 if count is None else min(1000, count - tried)):
            data = mutated(dice.choice(known), known, dice)
            try:
                understood += try_bytes(data, dice)
            except Exception as error:
                raise AssertionError(f"{type(error).__name__}: {error}: {data.hex()}") from error
            tried += 1
    return tried, understood


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="script/fuzz", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--count", type=int, help="so many frames, whatever it takes")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help=f"how long (default: {_SECONDS:g})")
    parser.add_argument("--seed", type=int, default=1, help="other dice (default: 1)")
    options = parser.parse_args()
    began = time.monotonic()
    try:
        tried, understood = run(options.seed, options.count, options.seconds)
    except AssertionError as error:
        print(error, file=sys.stderr)
        return 1
    took = time.monotonic() - began
    print(
        f"{tried} frames in {took:.1f} s ({tried / took:.0f}/s), {understood} of them understood; no surprise"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
