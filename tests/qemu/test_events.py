"""What the events of a QEMU say of its end and of its pause."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtsnap.model.domain import Reason
from virtsnap.qemu.events import Event, exit_reason, last_pause_reason, read_events


def shutdown(reason: str, guest: bool) -> Event:
    return Event("SHUTDOWN", {"reason": reason, "guest": guest})


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([], Reason.SHUTOFF_CRASHED),
        ([Event("STOP")], Reason.SHUTOFF_CRASHED),
        ([shutdown("guest-shutdown", True)], Reason.SHUTOFF_SHUTDOWN),
        ([shutdown("guest-reset", True)], Reason.SHUTOFF_SHUTDOWN),
        ([shutdown("host-signal", False)], Reason.SHUTOFF_DESTROYED),
        ([shutdown("host-qmp-quit", False)], Reason.SHUTOFF_DESTROYED),
        ([Event("GUEST_PANICKED", {"action": "pause"})], Reason.SHUTOFF_CRASHED),
        ([shutdown("guest-panic", True)], Reason.SHUTOFF_CRASHED),
        ([shutdown("something-new", True)], Reason.SHUTOFF_SHUTDOWN),
        ([shutdown("something-new", False)], Reason.SHUTOFF_DESTROYED),
        ([shutdown("guest-shutdown", True), shutdown("host-signal", False)], Reason.SHUTOFF_DESTROYED),
        ([shutdown("guest-shutdown", True), Event("RESET"), Event("STOP")], Reason.SHUTOFF_CRASHED),
    ],
)
def test_exit(events: list[Event], reason: Reason) -> None:
    assert exit_reason(events) is reason


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([], Reason.PAUSED_UNKNOWN),
        ([Event("STOP")], Reason.PAUSED_UNKNOWN),
        ([Event("WATCHDOG", {"action": "pause"}), Event("STOP")], Reason.PAUSED_WATCHDOG),
        ([Event("WATCHDOG", {"action": "none"}), Event("STOP")], Reason.PAUSED_UNKNOWN),
        ([Event("BLOCK_IO_ERROR", {"action": "stop"}), Event("STOP")], Reason.PAUSED_IOERROR),
        ([Event("BLOCK_IO_ERROR", {"action": "report"}), Event("STOP")], Reason.PAUSED_UNKNOWN),
        ([Event("GUEST_PANICKED", {"action": "pause"}), Event("STOP")], Reason.CRASHED_PANICKED),
        (
            [Event("WATCHDOG", {"action": "pause"}), Event("STOP"), Event("RESUME"), Event("STOP")],
            Reason.PAUSED_UNKNOWN,
        ),
    ],
)
def test_pause(events: list[Event], reason: Reason) -> None:
    assert last_pause_reason(events) is reason


def test_log_with_a_torn_end(tmp_path: Path) -> None:
    log = tmp_path / "events"
    assert read_events(str(log)) == ()
    log.write_bytes(
        b'{"QMP": {"version": {}, "capabilities": []}}\r\n{"return": {}}\r\n'
        b'{"timestamp": {"seconds": 7, "microseconds": 9}, "event": "STOP"}\r\n'
        b'{"event": "RESET", "data": {"guest": false}}\r\n{"timestamp": {"seco'
    )
    assert read_events(str(log)) == (Event("STOP", {}, 7, 9), Event("RESET", {"guest": False}))
