"""What happens to domains, as libvirt tells it: kinds of events, what each says, and its numbers.

Numbers are libvirt's (libvirt-domain.h: virDomainEventID and the virDomainEvent*Type enums). What QEMU says
becomes these values in `qemu.told`; what operations announce is in their plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import IntEnum

from virtsnap.model.domain import Reason
from virtsnap.model.frozen import dataclass


class EventKind(IntEnum):
    """virDomainEventID."""

    LIFECYCLE = 0
    REBOOT = 1
    RTC_CHANGE = 2
    WATCHDOG = 3
    IO_ERROR = 4
    GRAPHICS = 5
    IO_ERROR_REASON = 6
    CONTROL_ERROR = 7
    BLOCK_JOB = 8
    DISK_CHANGE = 9
    TRAY_CHANGE = 10
    PMWAKEUP = 11
    PMSUSPEND = 12
    BALLOON_CHANGE = 13
    PMSUSPEND_DISK = 14
    DEVICE_REMOVED = 15
    BLOCK_JOB_2 = 16
    TUNABLE = 17
    AGENT_LIFECYCLE = 18
    DEVICE_ADDED = 19
    MIGRATION_ITERATION = 20
    JOB_COMPLETED = 21
    DEVICE_REMOVAL_FAILED = 22
    METADATA_CHANGE = 23
    BLOCK_THRESHOLD = 24
    MEMORY_FAILURE = 25
    MEMORY_DEVICE_SIZE_CHANGE = 26
    NIC_MAC_CHANGE = 27


class Life(IntEnum):
    """virDomainEventType."""

    DEFINED = 0
    UNDEFINED = 1
    STARTED = 2
    SUSPENDED = 3
    RESUMED = 4
    STOPPED = 5
    SHUTDOWN = 6
    PMSUSPENDED = 7
    CRASHED = 8


class Detail(IntEnum):
    """Why, by kind of lifecycle event. Values are unique here: event * 100 + libvirt's number."""

    DEFINED_ADDED = 0
    DEFINED_UPDATED = 1
    DEFINED_RENAMED = 2
    DEFINED_FROM_SNAPSHOT = 3
    UNDEFINED_REMOVED = 100
    UNDEFINED_RENAMED = 101
    STARTED_BOOTED = 200
    STARTED_MIGRATED = 201
    STARTED_RESTORED = 202
    STARTED_FROM_SNAPSHOT = 203
    STARTED_WAKEUP = 204
    STARTED_RECOVERED = 205
    SUSPENDED_PAUSED = 300
    SUSPENDED_MIGRATED = 301
    SUSPENDED_IOERROR = 302
    SUSPENDED_WATCHDOG = 303
    SUSPENDED_RESTORED = 304
    SUSPENDED_FROM_SNAPSHOT = 305
    SUSPENDED_API_ERROR = 306
    RESUMED_UNPAUSED = 400
    RESUMED_MIGRATED = 401
    RESUMED_FROM_SNAPSHOT = 402
    STOPPED_SHUTDOWN = 500
    STOPPED_DESTROYED = 501
    STOPPED_CRASHED = 502
    STOPPED_MIGRATED = 503
    STOPPED_SAVED = 504
    STOPPED_FAILED = 505
    STOPPED_FROM_SNAPSHOT = 506
    STOPPED_RECOVERED = 507
    SHUTDOWN_FINISHED = 600
    SHUTDOWN_GUEST = 601
    SHUTDOWN_HOST = 602
    PMSUSPENDED_MEMORY = 700
    PMSUSPENDED_DISK = 701
    CRASHED_PANICKED = 800
    CRASHED_CRASHLOADED = 801

    @property
    def life(self) -> Life:
        """The event that this is a detail of."""
        return Life(self.value // 100)

    @property
    def number(self) -> int:
        """libvirt's number within the event."""
        return self.value % 100


class BlockJobStatus(IntEnum):
    """virConnectDomainEventBlockJobStatus."""

    COMPLETED = 0
    FAILED = 1
    CANCELED = 2
    READY = 3


class WatchdogAction(IntEnum):
    """virDomainEventWatchdogAction."""

    NONE = 0
    PAUSE = 1
    RESET = 2
    POWEROFF = 3
    SHUTDOWN = 4
    DEBUG = 5
    INJECTNMI = 6


class IoErrorAction(IntEnum):
    """virDomainEventIOErrorAction."""

    NONE = 0
    PAUSE = 1
    REPORT = 2


class TrayChange(IntEnum):
    """virDomainEventTrayChangeReason."""

    OPEN = 0
    CLOSE = 1


class AgentState(IntEnum):
    """virConnectDomainEventAgentLifecycleState."""

    CONNECTED = 1
    DISCONNECTED = 2


class AgentReason(IntEnum):
    """virConnectDomainEventAgentLifecycleReason."""

    UNKNOWN = 0
    DOMAIN_STARTED = 1
    CHANNEL = 2


class GraphicsPhase(IntEnum):
    """virDomainEventGraphicsPhase."""

    CONNECT = 0
    INITIALIZE = 1
    DISCONNECT = 2


class GraphicsFamily(IntEnum):
    """virDomainEventGraphicsAddressType."""

    IPV4 = 0
    IPV6 = 1
    UNIX = 2


Value = str | int | Mapping[str, str | int]


@dataclass(frozen=True)
class Change:
    """What happened: the kind, and its values by name, in the order of libvirt's callback.

    LIFECYCLE has `event` and `detail`; RTC_CHANGE `utcoffset` (seconds); WATCHDOG `action`; IO_ERROR
    `source`, `alias`, `action`, IO_ERROR_REASON also `reason`; GRAPHICS `phase`, and of `local` and `remote`
    each `_family`, `_node`, `_service`, then `auth`; BLOCK_JOB and BLOCK_JOB_2 `disk` (the source's path; the
    target), `type`, `status`; TRAY_CHANGE `alias`, `reason`; BALLOON_CHANGE `actual` (KiB); DEVICE_REMOVED
    `alias`; AGENT_LIFECYCLE `state`, `reason`; MIGRATION_ITERATION `iteration`; JOB_COMPLETED `stats`;
    METADATA_CHANGE `type`, `uri` (empty: none).
    """

    kind: EventKind
    values: Mapping[str, Value] = field(default_factory=dict)

    @classmethod
    def life(cls, detail: Detail) -> Change:
        """A lifecycle event."""
        return cls(EventKind.LIFECYCLE, {"event": int(detail.life), "detail": detail.number})

    def number(self, name: str) -> int:
        """A value that is a number."""
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def text(self, name: str) -> str:
        """A value that is text."""
        value = self.values[name]
        assert isinstance(value, str)
        return value

    def params(self, name: str) -> Mapping[str, str | int]:
        """A value that is a set of named values."""
        value = self.values[name]
        assert isinstance(value, Mapping)
        return value


@dataclass(frozen=True)
class DomainEvent:
    """A change of a domain, as it was then."""

    uuid: str
    name: str
    id: int | None
    """libvirt's id; None when it was not active."""
    change: Change
    at: float
    """Seconds since the epoch."""
    sequence: int = 0
    """Grows from event to event of one root folder."""

    @property
    def kind(self) -> EventKind:
        """What kind of event it is."""
        return self.change.kind


_STOPPED = {
    Reason.SHUTOFF_SHUTDOWN: Detail.STOPPED_SHUTDOWN,
    Reason.SHUTOFF_DESTROYED: Detail.STOPPED_DESTROYED,
    Reason.SHUTOFF_CRASHED: Detail.STOPPED_FAILED,
    Reason.SHUTOFF_FAILED: Detail.STOPPED_FAILED,
    Reason.SHUTOFF_SAVED: Detail.STOPPED_SAVED,
    Reason.SHUTOFF_FROM_SNAPSHOT: Detail.STOPPED_FROM_SNAPSHOT,
}


def ended(reason: Reason, *, by_us: bool = True) -> tuple[Detail, ...]:
    """What is told when a QEMU has ended. `by_us`: an operation ended it, which QEMU takes for its host."""
    stopped = _STOPPED.get(reason, Detail.STOPPED_SHUTDOWN)
    return (Detail.SHUTDOWN_HOST, stopped) if by_us else (stopped,)
