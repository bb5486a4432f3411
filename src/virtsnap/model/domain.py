"""What a domain is at one moment: its state, why it is in it, and the process that runs it.

Numbers are libvirt's (libvirt-domain.h: virDomainState and the virDomain*Reason enums). The XML of a
domain is `formats.domain_xml`; what a guest sees of it is `machine`.
"""

from __future__ import annotations

from enum import IntEnum

from virtsnap.model.frozen import dataclass


class DomainState(IntEnum):
    """virDomainState."""

    NOSTATE = 0
    RUNNING = 1
    BLOCKED = 2
    PAUSED = 3
    SHUTDOWN = 4
    SHUTOFF = 5
    CRASHED = 6
    PMSUSPENDED = 7


class Reason(IntEnum):
    """Why a domain is in its state. Values are unique here: state * 100 + libvirt's reason number."""

    RUNNING_UNKNOWN = 100
    RUNNING_BOOTED = 101
    RUNNING_MIGRATED = 102
    RUNNING_RESTORED = 103
    RUNNING_FROM_SNAPSHOT = 104
    RUNNING_UNPAUSED = 105
    RUNNING_MIGRATION_CANCELED = 106
    RUNNING_SAVE_CANCELED = 107
    RUNNING_WAKEUP = 108
    RUNNING_CRASHED = 109
    PAUSED_UNKNOWN = 300
    PAUSED_USER = 301
    PAUSED_MIGRATION = 302
    PAUSED_SAVE = 303
    PAUSED_DUMP = 304
    PAUSED_IOERROR = 305
    PAUSED_WATCHDOG = 306
    PAUSED_FROM_SNAPSHOT = 307
    PAUSED_SHUTTING_DOWN = 308
    PAUSED_SNAPSHOT = 309
    PAUSED_CRASHED = 310
    PAUSED_STARTING_UP = 311
    SHUTDOWN_UNKNOWN = 400
    SHUTDOWN_USER = 401
    SHUTOFF_UNKNOWN = 500
    SHUTOFF_SHUTDOWN = 501
    SHUTOFF_DESTROYED = 502
    SHUTOFF_CRASHED = 503
    SHUTOFF_MIGRATED = 504
    SHUTOFF_SAVED = 505
    SHUTOFF_FAILED = 506
    SHUTOFF_FROM_SNAPSHOT = 507
    SHUTOFF_DAEMON = 508
    CRASHED_UNKNOWN = 600
    CRASHED_PANICKED = 601
    PMSUSPENDED_UNKNOWN = 700

    @property
    def state(self) -> DomainState:
        """The state this reason belongs to."""
        return DomainState(self.value // 100)

    @property
    def number(self) -> int:
        """libvirt's number within the state."""
        return self.value % 100


@dataclass(frozen=True)
class Instance:
    """The QEMU process that runs a domain, precise enough never to be taken for another one."""

    id: int
    """libvirt's domain id: counts starts in this root, never used twice."""
    pid: int
    start_ticks: int
    """Field 22 of /proc/PID/stat: with the pid it names one process for ever."""
    boot_id: str
    """/proc/sys/kernel/random/boot_id of the host boot the pid belongs to."""
    run_dir: str
    """Folder of this instance's sockets and log."""


@dataclass(frozen=True)
class DomainRecord:
    """A domain as the store holds it. `live_xml` and `instance` are set while it is active."""

    uuid: str
    name: str
    config_xml: str
    persistent: bool = True
    autostart: bool = False
    reason: Reason = Reason.SHUTOFF_UNKNOWN
    live_xml: str | None = None
    instance: Instance | None = None

    @property
    def active(self) -> bool:
        """Has a QEMU process, as far as the store knows."""
        return self.instance is not None

    @property
    def state(self) -> DomainState:
        """The state the reason belongs to."""
        return self.reason.state


@dataclass(frozen=True)
class DomainHead:
    """What of a `DomainRecord` is no text."""

    uuid: str
    name: str
    persistent: bool
    autostart: bool
    reason: Reason
    instance: Instance | None

    @property
    def active(self) -> bool:
        """Has a QEMU process, as far as the store knows."""
        return self.instance is not None

    @property
    def state(self) -> DomainState:
        """The state the reason belongs to."""
        return self.reason.state


@dataclass(frozen=True)
class DomainInfo:
    """virDomainGetInfo and what `dominfo` shows beside it. Memory in KiB, CPU time in nanoseconds."""

    id: int | None
    name: str
    uuid: str
    os_type: str
    state: DomainState
    vcpus: int
    cpu_time_ns: int | None
    max_memory_kib: int
    used_memory_kib: int
    persistent: bool
    autostart: bool
    managed_save: bool = False


@dataclass(frozen=True)
class BlockInfo:
    """virDomainGetBlockInfo: bytes the guest sees, bytes allocated on the host, bytes of the host file."""

    capacity: int
    allocation: int
    physical: int
