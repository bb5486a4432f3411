"""A job that QEMU does on a disk for as long as it takes: commit, pull and copy.

The job belongs to QEMU and outlives whoever asked for it. What is noted of it here, before it can change
anything, is all that a later process needs to know what the end of the job means for the definition and for
the images. Numbers are libvirt's (libvirt-domain.h: virDomainBlockJobType).
"""

from __future__ import annotations

from enum import Enum, IntEnum

from virtsnap.model.frozen import dataclass


class BlockJobType(IntEnum):
    """virDomainBlockJobType."""

    UNKNOWN = 0
    PULL = 1
    COPY = 2
    COMMIT = 3
    ACTIVE_COMMIT = 4
    BACKUP = 5

    @property
    def mirrors(self) -> bool:
        """It goes on, ready, until somebody says which of its two ends the disk shall have."""
        return self in (BlockJobType.COPY, BlockJobType.ACTIVE_COMMIT)


class BlockJobState(Enum):
    """How far a job is, as far as it was written down."""

    RUNNING = "running"
    """QEMU works on it, has it ready, or waits to be told to conclude it."""
    PIVOTING = "pivoting"
    """Somebody wants the disk on the job's other end: from now on QEMU may switch."""
    ABORTING = "aborting"
    """Somebody wants it to end where it is."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def ended(self) -> bool:
        """Over: the definition and the images are as the job left them."""
        return self in (BlockJobState.COMPLETED, BlockJobState.FAILED, BlockJobState.CANCELED)


@dataclass(frozen=True)
class BlockLayer:
    """An image of a disk, as its definition names it."""

    path: str
    format: str
    type: str = "file"
    """'file' or 'block'."""


@dataclass(frozen=True)
class BlockJob:
    """One job on one disk of one QEMU."""

    name: str
    """QEMU's id of the job; never used twice in a store."""
    type: BlockJobType
    target: str
    """The disk."""
    run_dir: str
    """The run folder of the QEMU that does it."""
    source: str
    """The image that the disk wrote to when the job began."""
    gone: tuple[str, ...] = ()
    """The images that leave the disk's chain when the job does its work, from the top."""
    writes: str | None = None
    """An image below the top whose own content the job changes."""
    result: BlockLayer | None = None
    """The image that the disk writes to afterwards; None: the same as before."""
    node: int = 0
    """A copy: the N of the destination's node libvirt-N-format."""
    delete: bool = False
    """The files of `gone` are deleted afterwards, as far as nobody needs them."""
    state: BlockJobState = BlockJobState.RUNNING
    begun: int = 0
    """Seconds since the epoch."""
    ended: int | None = None
    error: str | None = None
    """Why it failed, in QEMU's words."""

    @property
    def active(self) -> bool:
        """Not over yet."""
        return not self.state.ended


@dataclass(frozen=True)
class BlockJobInfo:
    """virDomainBlockJobInfo: a job at one moment. Bytes; bandwidth in bytes per second, 0 without a limit."""

    type: BlockJobType
    bandwidth: int
    cur: int
    end: int
    ready: bool = False
    """A copy or an active commit has copied everything and follows the guest's writes."""
