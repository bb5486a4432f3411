"""libvirt's flag words, with libvirt's numbers and without the `VIR_DOMAIN_` prefix.

Source: libvirt-domain.h and libvirt-domain-snapshot.h of libvirt 11.3.
"""

from __future__ import annotations

from enum import IntFlag


class SnapshotCreate(IntFlag):
    """virDomainSnapshotCreateFlags."""

    REDEFINE = 1
    CURRENT = 2
    NO_METADATA = 4
    HALT = 8
    DISK_ONLY = 16
    REUSE_EXT = 32
    QUIESCE = 64
    ATOMIC = 128
    LIVE = 256
    VALIDATE = 512


class SnapshotList(IntFlag):
    """virDomainSnapshotListFlags. Bit 1 is ROOTS for a domain and DESCENDANTS for a snapshot."""

    ROOTS = 1
    DESCENDANTS = 1
    METADATA = 2
    LEAVES = 4
    NO_LEAVES = 8
    NO_METADATA = 16
    INACTIVE = 32
    ACTIVE = 64
    DISK_ONLY = 128
    INTERNAL = 256
    EXTERNAL = 512
    TOPOLOGICAL = 1024


class SnapshotRevert(IntFlag):
    """virDomainSnapshotRevertFlags."""

    RUNNING = 1
    PAUSED = 2
    FORCE = 4
    RESET_NVRAM = 8


class SnapshotDelete(IntFlag):
    """virDomainSnapshotDeleteFlags."""

    CHILDREN = 1
    METADATA_ONLY = 2
    CHILDREN_ONLY = 4


class DomainStart(IntFlag):
    """virDomainCreateFlags."""

    PAUSED = 1
    AUTODESTROY = 2
    BYPASS_CACHE = 4
    FORCE_BOOT = 8
    VALIDATE = 16
    RESET_NVRAM = 32


class DomainSaveRestore(IntFlag):
    """virDomainSaveRestoreFlags."""

    BYPASS_CACHE = 1
    RUNNING = 2
    PAUSED = 4
    RESET_NVRAM = 8


class DomainDefine(IntFlag):
    """virDomainDefineFlags."""

    VALIDATE = 1


class DomainUndefine(IntFlag):
    """virDomainUndefineFlagsValues."""

    MANAGED_SAVE = 1
    SNAPSHOTS_METADATA = 2
    NVRAM = 4
    KEEP_NVRAM = 8
    CHECKPOINTS_METADATA = 16
    TPM = 32
    KEEP_TPM = 64


class DomainDestroy(IntFlag):
    """virDomainDestroyFlagsValues."""

    GRACEFUL = 1
    REMOVE_LOGS = 2


class DomainOpenGraphics(IntFlag):
    """virDomainOpenGraphicsFlags."""

    SKIPAUTH = 1


class DomainModification(IntFlag):
    """virDomainModificationImpact."""

    LIVE = 1
    CONFIG = 2


class DomainXml(IntFlag):
    """virDomainXMLFlags."""

    SECURE = 1
    INACTIVE = 2
    UPDATE_CPU = 4
    MIGRATABLE = 8


class DomainList(IntFlag):
    """virConnectListAllDomainsFlags."""

    ACTIVE = 1
    INACTIVE = 2
    PERSISTENT = 4
    TRANSIENT = 8
    RUNNING = 16
    PAUSED = 32
    SHUTOFF = 64
    OTHER = 128
    MANAGEDSAVE = 256
    NO_MANAGEDSAVE = 512
    AUTOSTART = 1024
    NO_AUTOSTART = 2048
    HAS_SNAPSHOT = 4096
    NO_SNAPSHOT = 8192
    HAS_CHECKPOINT = 16384
    NO_CHECKPOINT = 32768


class ShutdownMethod(IntFlag):
    """virDomainShutdownFlagValues and virDomainRebootFlagValues (the same numbers)."""

    ACPI_POWER_BTN = 1
    GUEST_AGENT = 2
    INITCTL = 4
    SIGNAL = 8
    PARAVIRT = 16


class BlockJobAbort(IntFlag):
    """virDomainBlockJobAbortFlags."""

    ASYNC = 1
    PIVOT = 2


class BlockJobInfoFlags(IntFlag):
    """virDomainBlockJobInfoFlags."""

    BANDWIDTH_BYTES = 1


class BlockJobSetSpeed(IntFlag):
    """virDomainBlockJobSetSpeedFlags."""

    BANDWIDTH_BYTES = 1


class BlockPull(IntFlag):
    """virDomainBlockPullFlags."""

    BANDWIDTH_BYTES = 64


class BlockRebase(IntFlag):
    """virDomainBlockRebaseFlags."""

    SHALLOW = 1
    REUSE_EXT = 2
    COPY_RAW = 4
    COPY = 8
    RELATIVE = 16
    COPY_DEV = 32
    BANDWIDTH_BYTES = 64


class BlockCommit(IntFlag):
    """virDomainBlockCommitFlags."""

    SHALLOW = 1
    DELETE = 2
    ACTIVE = 4
    RELATIVE = 8
    BANDWIDTH_BYTES = 16


class BlockCopy(IntFlag):
    """virDomainBlockCopyFlags."""

    SHALLOW = 1
    REUSE_EXT = 2
    TRANSIENT_JOB = 4
    SYNCHRONOUS_WRITES = 8


class BlockResize(IntFlag):
    """virDomainBlockResizeFlags."""

    BYTES = 1
    CAPACITY = 2


class QemuMonitorCommand(IntFlag):
    """virDomainQemuMonitorCommandFlags."""

    DEFAULT = 0
    HMP = 1
