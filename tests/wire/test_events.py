"""Events to messages and back."""

from __future__ import annotations

import pytest

from virtsnap.model.event import Change, Detail, DomainEvent, EventKind
from virtsnap.wire.events import event_of, has_old_form, message
from virtsnap.wire.procedures import REMOTE

UUID = "11111111-2222-3333-4444-555555555555"
GRAPHICS = {
    "phase": 1,
    "local_family": 0,
    "local_node": "127.0.0.1",
    "local_service": "5900",
    "remote_family": 2,
    "remote_node": "",
    "remote_service": "/s",
    "auth": "none",
}
CHANGES = [
    Change.life(Detail.SUSPENDED_WATCHDOG),
    Change(EventKind.REBOOT),
    Change(EventKind.RTC_CHANGE, {"utcoffset": -3600}),
    Change(EventKind.WATCHDOG, {"action": 2}),
    Change(EventKind.IO_ERROR, {"source": "/a", "alias": "virtio-disk0", "action": 1}),
    Change(EventKind.GRAPHICS, GRAPHICS),
    Change(EventKind.IO_ERROR_REASON, {"source": "/a", "alias": "d", "action": 1, "reason": "enospc"}),
    Change(EventKind.BLOCK_JOB, {"disk": "/a", "type": 4, "status": 3}),
    Change(EventKind.TRAY_CHANGE, {"alias": "cd", "reason": 1}),
    Change(EventKind.PMWAKEUP),
    Change(EventKind.PMSUSPEND),
    Change(EventKind.BALLOON_CHANGE, {"actual": 65536}),
    Change(EventKind.PMSUSPEND_DISK),
    Change(EventKind.DEVICE_REMOVED, {"alias": "net0"}),
    Change(EventKind.BLOCK_JOB_2, {"disk": "vda", "type": 1, "status": 0}),
    Change(EventKind.AGENT_LIFECYCLE, {"state": 1, "reason": 2}),
    Change(EventKind.MIGRATION_ITERATION, {"iteration": 3}),
    Change(EventKind.METADATA_CHANGE, {"type": 2, "uri": "http://example.org/x"}),
    Change(EventKind.METADATA_CHANGE, {"type": 0, "uri": ""}),
    Change(EventKind.JOB_COMPLETED, {"stats": {"operation": 2, "time_elapsed": 5}}),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.kind.name)
@pytest.mark.parametrize("id", [None, 7])
def test_there_and_back(change: Change, id: int | None) -> None:
    event = DomainEvent(UUID, "vm", id, change, at=5.0)
    frame = message(event, 42)
    assert frame is not None
    assert event_of(frame, 5.0) == (42, event)
    old = message(event, None)
    assert (old is not None) == has_old_form(change.kind)
    if old is not None:
        procedure = REMOTE.get(old.procedure)
        assert procedure is not None
        assert procedure.unpack_arguments(old.payload)[0].name == "vm"


def test_kinds_without_a_message() -> None:
    nothing = DomainEvent(UUID, "vm", None, Change(EventKind.NIC_MAC_CHANGE), at=0.0)
    assert message(nothing, 1) is None
