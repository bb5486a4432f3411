"""Mutated frames against everything that reads bytes: `python -m tests.wire.fuzz [COUNT]`.

Frames that real clients and daemons have exchanged, with bytes changed, cut, doubled and moved. Nothing but
an error of the protocol may come of it.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from virtsnap.wire.events import event_of
from virtsnap.wire.frames import Frame, FrameReader, Kind, ProtocolError, Status
from virtsnap.wire.procedures import ERROR, PROGRAMS
from virtsnap.wire.xdr import Reader, XdrError

FRAMES = [
    bytes.fromhex(line.split()[3])
    for line in Path(__file__).with_name("captured.txt").read_text().splitlines()
]


def mutated(dice: random.Random) -> bytes:
    """Some frames one after the other, spoilt."""
    data = bytearray(b"".join(dice.choices(FRAMES, k=dice.randrange(1, 4))))
    for _ in range(dice.randrange(1, 6)):
        at = dice.randrange(len(data))
        match dice.randrange(5):
            case 0:
                data[at] = dice.randrange(256)
            case 1:
                data[at : at + 4] = dice.choice((0, 1, 255, 2**31, 2**32 - 1, 28)).to_bytes(4, "big")
            case 2:
                del data[at : at + dice.randrange(1, 9)]
            case 3:
                data[at:at] = data[at : at + dice.randrange(1, 33)]
            case 4:
                data[at] ^= 1 << dice.randrange(8)
        if not data:
            return b"\0"
    return bytes(data)


def read(data: bytes) -> int:
    """Read them as a daemon and as a client would; how many frames there were."""
    count = 0
    try:
        for frame in FrameReader().feed(data):
            count += 1
            try:
                _understand(frame)
            except XdrError:
                continue
    except ProtocolError:
        pass
    return count


def _understand(frame: Frame) -> None:
    program = PROGRAMS.get(frame.program)
    procedure = program.get(frame.procedure) if program is not None else None
    if procedure is None:
        return
    if frame.status is Status.ERROR:
        ERROR.unpack(Reader(frame.payload))
    elif frame.kind is Kind.REPLY:
        procedure.unpack_answer(frame.payload)
    elif frame.kind is Kind.MESSAGE:
        event_of(frame, 0.0)
    else:
        procedure.unpack_arguments(frame.payload)


def run(count: int, seed: int = 1) -> int:
    """Frames that came out of `count` spoilt pieces."""
    dice = random.Random(seed)
    return sum(read(mutated(dice)) for _ in range(count))


if __name__ == "__main__":
    pieces = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print(f"{pieces} spoilt pieces, {run(pieces)} frames read, nothing but errors of the protocol")
