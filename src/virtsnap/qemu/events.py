"""What a QEMU did while nobody was connected: the log of its own events, and what they say of its state.

Each QEMU of ours has one more QMP monitor whose character device is a pair of plain files: QEMU reads the
handshake from one and writes every event to the other, so that the log outlives QEMU and needs no reader.
That is `-chardev file,path=LOG,input-path=HELLO` from QEMU 8.1 on; before, `-chardev pipe,path=P` does the
same where P.in and P.out are plain files that exist already. Events of the running conversation are
`qemu.monitor`'s.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import field
from typing import Any

from virtsnap.model.domain import Reason
from virtsnap.model.frozen import dataclass


@dataclass(frozen=True)
class Event:
    """An event as QMP sends it (qmp-spec, "Asynchronous events")."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    seconds: int = -1
    """QEMU's clock since the epoch; -1 when it had none."""
    microseconds: int = 0

    @classmethod
    def from_message(cls, message: Any) -> Event:
        """The event in a decoded QMP message."""
        stamp = message.get("timestamp", {})
        return cls(
            str(message["event"]),
            dict(message.get("data", {})),
            int(stamp.get("seconds", -1)),
            int(stamp.get("microseconds", 0)),
        )


_EXIT = {
    "guest-shutdown": Reason.SHUTOFF_SHUTDOWN,
    "guest-reset": Reason.SHUTOFF_SHUTDOWN,
    "guest-panic": Reason.SHUTOFF_CRASHED,
    "host-error": Reason.SHUTOFF_FAILED,
    "host-qmp-quit": Reason.SHUTOFF_DESTROYED,
    "host-qmp-system-reset": Reason.SHUTOFF_DESTROYED,
    "host-signal": Reason.SHUTOFF_DESTROYED,
    "host-ui": Reason.SHUTOFF_DESTROYED,
    "subsystem-reset": Reason.SHUTOFF_SHUTDOWN,
    "snapshot-load": Reason.SHUTOFF_SHUTDOWN,
}
"""QAPI's ShutdownCause to libvirt's reason."""


def read_events(path: str) -> tuple[Event, ...]:
    """All events of the log, in order; none when there is no log.

    A last line that QEMU has not finished, or could not (full disk), is left out, as are the greeting and the
    answer to the handshake. Raises OSError when the log is there and cannot be read.
    """
    return read_events_from(path, 0, unfinished=True)[0]


def read_events_from(path: str, position: int, *, unfinished: bool = False) -> tuple[tuple[Event, ...], int]:
    """The events behind `position`, in bytes, and where the next ones will be.

    Without `unfinished` a last line that has no end yet is left for the next time. Raises OSError as
    `read_events` does.
    """
    try:
        with open(path, "rb") as file:
            file.seek(position)
            text = file.read()
    except FileNotFoundError:
        return (), position
    if not unfinished:
        text = text[: text.rfind(b"\n") + 1]
    found = []
    for line in text.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict) and "event" in message:
            found.append(Event.from_message(message))
    return tuple(found), position + len(text)


def exit_reason(events: Sequence[Event]) -> Reason:
    """Why a QEMU that is gone has ended. One that announced nothing has crashed, or was killed."""
    announced: Event | None = None
    for event in events:
        if event.name == "SHUTDOWN":
            announced = event
        elif event.name in ("RESET", "RESUME"):
            # A guest that powered off under -no-shutdown was started anew.
            announced = None
    if announced is None:
        return Reason.SHUTOFF_CRASHED
    cause = announced.data.get("reason", "")
    guest = bool(announced.data.get("guest", False))
    return _EXIT.get(cause, Reason.SHUTOFF_SHUTDOWN if guest else Reason.SHUTOFF_DESTROYED)


def panicked(events: Sequence[Event]) -> bool:
    """The guest's kernel said so."""
    return any(event.name == "GUEST_PANICKED" for event in events)


def last_pause_reason(events: Sequence[Event]) -> Reason:
    """Why a QEMU that stands still does, as far as it knows itself; PAUSED_UNKNOWN when it was told to."""
    for event in reversed(events):
        if event.name == "RESUME":
            break
        action = event.data.get("action")
        if event.name == "WATCHDOG" and action == "pause":
            return Reason.PAUSED_WATCHDOG
        if event.name == "BLOCK_IO_ERROR" and action == "stop":
            return Reason.PAUSED_IOERROR
        if event.name == "GUEST_PANICKED" and action == "pause":
            return Reason.CRASHED_PANICKED
    return Reason.PAUSED_UNKNOWN
