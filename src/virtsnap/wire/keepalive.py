"""Keepalive: who is silent is asked, who stays silent is gone. Times are the caller's clock, in seconds."""

from __future__ import annotations

from virtsnap.wire.frames import Frame, Kind
from virtsnap.wire.procedures import KEEPALIVE

PING = Frame(KEEPALIVE, 1, 1, Kind.MESSAGE)
PONG = Frame(KEEPALIVE, 1, 2, Kind.MESSAGE)


class Keepalive:
    """One side of it. Off until `interval` is set."""

    def __init__(self, interval: float = 5.0, count: int = 5) -> None:
        self.interval = interval
        self.count = count
        self.on = False
        self._heard = 0.0
        self._asked = 0

    def start(self, now: float) -> None:
        """Ask from now on."""
        self.on = True
        self._heard = now
        self._asked = 0

    def heard(self, now: float) -> None:
        """Something came in: any frame is a sign of life."""
        self._heard = now
        self._asked = 0

    def answer(self, frame: Frame) -> Frame | None:
        """What a keepalive frame is answered with."""
        return PONG if frame.procedure == PING.procedure else None

    def due(self, now: float) -> tuple[bool, bool]:
        """Is a PING to be sent now; is the peer to be given up."""
        if not self.on or now < self._heard + self.interval * (self._asked + 1):
            return False, False
        if self._asked >= self.count:
            return False, True
        self._asked += 1
        return True, False
