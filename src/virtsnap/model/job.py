"""An operation under way, or the last that ended, as virDomainGetJobInfo and -GetJobStats tell of it.

Numbers are libvirt's (libvirt-domain.h: virDomainJobType, virDomainJobOperation).
"""

from __future__ import annotations

from dataclasses import field
from enum import Enum, IntEnum, IntFlag

from virtsnap.model.frozen import dataclass


class JobType(IntEnum):
    """virDomainJobType. UNBOUNDED: nobody can say how long it will take."""

    NONE = 0
    BOUNDED = 1
    UNBOUNDED = 2
    COMPLETED = 3
    FAILED = 4
    CANCELLED = 5


class JobOperation(Enum):
    """What is done: virDomainJobOperation's number, and virsh's word."""

    UNKNOWN = (0, "Unknown")
    FLATTEN = (0, "Flatten")
    """Ours; libvirt has no number for it."""
    SAVE = (2, "Save")
    RESTORE = (3, "Restore")
    SNAPSHOT = (6, "Snapshot")
    SNAPSHOT_REVERT = (7, "Snapshot revert")
    SNAPSHOT_DELETE = (10, "Snapshot delete")

    @property
    def number(self) -> int:
        """The virDomainJobOperation."""
        return self.value[0]

    @property
    def word(self) -> str:
        """What virsh shows."""
        return self.value[1]


class JobStats(IntFlag):
    """virDomainGetJobStatsFlags."""

    COMPLETED = 1
    KEEP_COMPLETED = 2


class AbortJob(IntFlag):
    """virDomainAbortJobFlagsValues."""

    POSTCOPY = 1


@dataclass(frozen=True)
class Amount:
    """Bytes copied, of how many as far as is known; the total is 0 while nothing is."""

    processed: int = 0
    total: int = 0

    @property
    def remaining(self) -> int:
        """Bytes still to copy; 0 also when a guest made more of them than were expected."""
        return max(self.total - self.processed, 0)


@dataclass(frozen=True)
class JobInfo:
    """A job at one moment. The default is no job at all."""

    type: JobType = JobType.NONE
    operation: JobOperation = JobOperation.UNKNOWN
    elapsed_ms: int = 0
    memory: Amount = field(default_factory=Amount)
    disk: Amount = field(default_factory=Amount)
    memory_mode: str = ""
    """How a snapshot's memory is written (`MemoryMode`); empty: it has none."""
    memory_reason: str = ""
    """Why not in a way that the guest would notice less; empty: there is none."""

    @property
    def data(self) -> Amount:
        """Memory and disk together."""
        return Amount(self.memory.processed + self.disk.processed, self.memory.total + self.disk.total)

    def stats(self) -> dict[str, int | str]:
        """The typed parameters of virDomainGetJobStats by their names, without the type.

        `memory_mode` and `memory_reason` are ours.
        """
        if self.type is JobType.NONE:
            return {}
        found: dict[str, int | str] = {"operation": self.operation.number, "time_elapsed": self.elapsed_ms}
        for name, amount in (("data", self.data), ("memory", self.memory), ("disk", self.disk)):
            if amount.total or amount.processed:
                found[f"{name}_total"] = amount.total
                found[f"{name}_processed"] = amount.processed
                found[f"{name}_remaining"] = amount.remaining
        for name, text in (("memory_mode", self.memory_mode), ("memory_reason", self.memory_reason)):
            if text:
                found[name] = text
        return found
