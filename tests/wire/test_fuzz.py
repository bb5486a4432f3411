"""Mutated frames: see lab/fuzz.py. More of them: script/fuzz."""

from __future__ import annotations

import random

import pytest

from lab import fuzz
from virtsnap.wire.frames import FRAME_MAX
from virtsnap.wire.xdr import Text, XdrError


def test_no_frame_surprises() -> None:
    tried, understood = fuzz.run(seed=20, count=20_000, seconds=0)
    assert tried == 20_000
    assert 0.1 < understood / tried < 0.9  # neither did all of them stay right, nor all go wrong at the door


def test_what_surprises_is_told_with_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def trips(frame: object, at: float) -> object:
        raise KeyError("x")

    monkeypatch.setattr(fuzz, "event_of", trips)
    with pytest.raises(AssertionError, match=r"KeyError: 'x': [0-9a-f]{8}"):
        fuzz.run(seed=1, count=2000, seconds=0)


def test_seeds_are_right() -> None:
    dice = random.Random(0)
    for data in fuzz.seeds(dice):
        assert fuzz.try_bytes(data, dice), data.hex()
        assert len(data) < FRAME_MAX


@pytest.mark.parametrize("text", ["\ud800", "\0", "a\udc80\udfff"])
def test_text_that_cannot_travel(text: str) -> None:
    with pytest.raises(XdrError):
        Text().pack(bytearray(), text)
