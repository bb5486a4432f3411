"""What every way into virtsnap offers: one coroutine per libvirt API call, over plain values.

`service.local` implements it inside the process. A client of a daemon implements the same, so that
`api` and `cli` cannot tell which they talk to. Domains are addressed by uuid and snapshots by
(uuid, name): handles hold nothing that could go stale in a way that is not an error.

All coroutines raise `virtsnap.model.errors.VirtsnapError` and nothing else that a caller must expect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from virtsnap.model.block_job import BlockJob, BlockJobInfo
from virtsnap.model.domain import BlockInfo, DomainInfo, DomainState, Reason
from virtsnap.model.event import DomainEvent
from virtsnap.model.frozen import dataclass
from virtsnap.model.host import NodeInfo
from virtsnap.model.job import JobInfo
from virtsnap.model.snapshot import SnapshotTree

if TYPE_CHECKING:
    from virtsnap.formats.domain_summary import DomainSummary
    from virtsnap.formats.domain_xml import DiskLayer
    from virtsnap.model.libvirt import LibvirtReport
    from virtsnap.service.figures import Figures
    from virtsnap.service.hardware import IoThread, Vcpu


T = TypeVar("T")


@dataclass(frozen=True)
class DomainHandle:
    """What a client keeps of a domain. `id` is None while it is not active."""

    uuid: str
    name: str
    id: int | None


@dataclass(frozen=True)
class Progress:
    """How far a long step is. `total` is 0 while it is not known. Units: bytes."""

    label: str
    done: int
    total: int


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True)
class PlanReport:
    """What --dry-run prints: everything a plan would do, nothing of it done."""

    operation: str
    """create, revert, delete or flatten."""
    subject: str
    """The snapshot's name; what is flattened: the disks."""
    makes: tuple[str, ...]
    removes: tuple[str, ...]
    merges: tuple[str, ...]
    """Sentences such as 'vda: /a/b.s1 into /a/b.qcow2 (12 MiB)'."""
    pause: str
    """The pause expected, in words: 'none', 'while the memory is written (about 400 MiB)'..."""
    steps: tuple[str, ...]
    """Every step in order, as the journal will hold it."""


class MadeSnapshot(str):
    """A new snapshot's name, and how its memory was written, where that is known."""

    memory_mode: str = ""
    """background, in-place, paused or stream (docs/memory.md); empty: without memory, or not told."""
    memory_reason: str = ""
    """Why not in a way that the guest would have noticed less; empty: there is none."""

    @classmethod
    def of(cls, name: str, memory_mode: str, memory_reason: str) -> Self:
        made = cls(name)
        made.memory_mode, made.memory_reason = memory_mode, memory_reason
        return made


@dataclass(frozen=True)
class BlockDevice:
    """A row of domblklist. `source` is None for an empty drive."""

    type: str
    device: str
    target: str
    source: str | None


@dataclass(frozen=True)
class ChainLayer:
    """One image of those that a disk's content is read from."""

    path: str
    format: str
    allocation: int
    """Bytes that it takes on the host."""
    snapshots: tuple[str, ...] = ()
    """Those whose content of the disk it holds."""
    missing: bool = False


class WouldWait(Exception):
    """A call has to wait for something: see `Service.at_once`."""


class Service(Protocol):
    """See the module's text. Flags are the values of `virtsnap.model.flags` classes."""

    uri: str

    async def close(self) -> None: ...

    def at_once(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of one of the calls that only look, here and now, without an event loop's help.

        For who has many clients, to whom a task for each call is most of the work. Raises WouldWait where the
        result is not to be had without waiting, and what the call raises.
        """
        ...

    # connection
    async def list_domains(self, flags: int = 0) -> Sequence[DomainHandle]: ...
    async def lookup_by_name(self, name: str) -> DomainHandle: ...
    async def lookup_by_uuid(self, uuid: str) -> DomainHandle: ...
    async def lookup_by_id(self, id: int) -> DomainHandle: ...
    async def define_xml(self, xml: str, flags: int = 0) -> DomainHandle: ...
    async def create_xml(self, xml: str, flags: int = 0) -> DomainHandle:
        """Start a domain that is forgotten when it ends, or once by another XML (virDomainCreateXML)."""
        ...

    async def node_info(self) -> NodeInfo: ...
    async def capabilities_xml(self) -> str:
        """What the host is and can run (virConnectGetCapabilities)."""
        ...

    async def domain_capabilities_xml(
        self,
        emulator: str | None = None,
        arch: str | None = None,
        machine: str | None = None,
        virttype: str | None = None,
    ) -> str:
        """What a domain of that kind may have (virConnectGetDomainCapabilities)."""
        ...

    async def hypervisor_version(self) -> int:
        """QEMU's version as libvirt counts: major * 1,000,000 + minor * 1,000 + micro."""
        ...

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[DomainEvent]]:
        """What happens to any domain from the moment the block is entered, whoever does it."""
        ...

    # domain
    async def undefine(self, uuid: str, flags: int = 0) -> None: ...
    async def rename(self, uuid: str, name: str, flags: int = 0) -> DomainHandle: ...
    async def create(self, uuid: str, flags: int = 0) -> DomainHandle:
        """Start the domain (virDomainCreateWithFlags)."""
        ...

    async def shutdown(self, uuid: str, flags: int = 0) -> None: ...
    async def reboot(self, uuid: str, flags: int = 0) -> None: ...
    async def reset(self, uuid: str) -> None: ...
    async def destroy(self, uuid: str, flags: int = 0) -> None: ...
    async def suspend(self, uuid: str) -> None: ...
    async def set_autostart(self, uuid: str, autostart: bool) -> None:
        """Start it with the host, as soon as the daemon runs there (virDomainSetAutostart)."""
        ...

    async def send_key(self, uuid: str, codeset: int, holdtime: int, keycodes: Sequence[int]) -> None:
        """Press keys together for `holdtime` ms. `codeset`: virKeycodeSet (virDomainSendKey)."""
        ...

    async def metadata(self, uuid: str, type: int, uri: str | None = None, flags: int = 0) -> str:
        """`type`: virDomainMetadataType. Flags: DomainModification (virDomainGetMetadata)."""
        ...

    async def set_metadata(
        self,
        uuid: str,
        type: int,
        text: str | None,
        key: str | None = None,
        uri: str | None = None,
        flags: int = 0,
    ) -> None:
        """`text` None: take it away (virDomainSetMetadata)."""
        ...

    async def resume(self, uuid: str) -> None: ...
    async def domain_info(self, uuid: str) -> DomainInfo: ...
    async def domain_state(self, uuid: str) -> tuple[DomainState, Reason]: ...
    async def domain_xml(self, uuid: str, flags: int = 0) -> str: ...
    async def block_devices(self, uuid: str, inactive: bool = False) -> list[BlockDevice]: ...
    async def block_chains(self, uuid: str, inactive: bool = False) -> dict[str, tuple[ChainLayer, ...]]:
        """By disk target, the images from the one written to down to the one that stands on nothing."""
        ...

    async def flatten(
        self,
        uuid: str,
        targets: Sequence[str] = (),
        *,
        copy: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> PlanReport | None:
        """Let disks (default: all that can) take in what they stand on, as far as no snapshot needs it.

        `copy`: also what snapshots need, which keep it.
        """
        ...

    async def block_info(self, uuid: str, path: str) -> BlockInfo:
        """`path`: a disk target, or the path of its source."""
        ...

    # block jobs: QEMU's from their start on. `path`: a disk's target or source; bandwidth in MiB/s.
    async def block_commit(
        self,
        uuid: str,
        path: str,
        base: str | None = None,
        top: str | None = None,
        bandwidth: int = 0,
        flags: int = 0,
    ) -> None:
        """Begin to merge images down (virDomainBlockCommit). Flags: BlockCommit."""
        ...

    async def block_pull(
        self, uuid: str, path: str, base: str | None = None, bandwidth: int = 0, flags: int = 0
    ) -> None:
        """Begin to merge images up (virDomainBlockRebase). Flags: BlockRebase's RELATIVE, BANDWIDTH_BYTES."""
        ...

    async def block_copy(
        self,
        uuid: str,
        path: str,
        destination_xml: str,
        flags: int = 0,
        *,
        bandwidth: int = 0,
        granularity: int = 0,
        buf_size: int = 0,
    ) -> None:
        """Begin to copy a disk (virDomainBlockCopy): bytes, and bytes per second. Flags: BlockCopy."""
        ...

    async def block_job_info(self, uuid: str, path: str, flags: int = 0) -> BlockJobInfo | None:
        """How far the disk's job is, or None without one (virDomainGetBlockJobInfo)."""
        ...

    async def block_job_set_speed(self, uuid: str, path: str, bandwidth: int, flags: int = 0) -> None: ...
    async def block_job_abort(self, uuid: str, path: str, flags: int = 0) -> None:
        """End the disk's job, or with BlockJobAbort.PIVOT let the disk go over (virDomainBlockJobAbort)."""
        ...

    async def block_job_wait(
        self, uuid: str, path: str, *, progress: ProgressCallback | None = None
    ) -> BlockJob | None:
        """Return when the disk's last job is ready or over. None: it never had one."""
        ...

    async def block_resize(self, uuid: str, path: str, size: int, flags: int = 0) -> None:
        """`size` in KiB. Flags: BlockResize (virDomainBlockResize)."""
        ...

    async def block_stats(self, uuid: str, path: str) -> dict[str, int]:
        """virDomainBlockStatsFlags by its names; `path` empty: of all disks together."""
        ...

    def unchanged(self, uuid: str) -> object | None:
        """As long as this is equal, everything that is told of a domain that is shut off is what it was.

        Its images' sizes too. None where that cannot be said.
        """
        ...

    async def disk_errors(self, uuid: str) -> dict[str, int]:
        """virDomainDiskErrorCode by target, of disks that have one (virDomainGetDiskErrors)."""
        ...

    async def qemu_monitor_command(self, uuid: str, command: str, flags: int = 0) -> str:
        """Say something to QEMU's monitor; its answer. Flags: QemuMonitorCommand."""
        ...

    async def qemu_agent_command(
        self, uuid: str, command: str, timeout: int = -2, flags: int = 0
    ) -> str | None:
        """Say something to the guest's agent; its answer (virDomainQemuAgentCommand)."""
        ...

    async def job_info(self, uuid: str, flags: int = 0) -> JobInfo:
        """What a process works on now for the domain (virDomainGetJobStats). `flags`: JobStats."""
        ...

    async def abort_job(self, uuid: str, flags: int = 0) -> None:
        """Ask that process to undo it (virDomainAbortJobFlags). Returns without waiting for that."""
        ...

    async def screenshot(self, uuid: str, screen: int = 0) -> tuple[str, bytes]:
        """MIME type and picture."""
        ...

    async def console_path(self, uuid: str, device: str | None = None) -> str:
        """Where to reach a console or serial device of a running domain: the pty's path, or
        `unix:PATH`. `device`: an alias such as 'serial0'; None: the primary console."""
        ...

    async def open_graphics(self, uuid: str, index: int = 0, flags: int = 0) -> int:
        """A connected socket to the screen of a running domain, which the caller closes
        (virDomainOpenGraphicsFD). Flags: DomainOpenGraphics."""
        ...

    # saved states. Flags: DomainSaveRestore; `image_format` None: raw; `channels` None: not parallel.
    async def save(
        self,
        uuid: str,
        path: str,
        xml: str | None = None,
        flags: int = 0,
        *,
        image_format: str | None = None,
        channels: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Save the state into a file and end the domain (virDomainSaveParams)."""
        ...

    async def restore(
        self,
        path: str,
        xml: str | None = None,
        flags: int = 0,
        *,
        channels: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> DomainHandle:
        """Bring back what a file holds (virDomainRestoreParams)."""
        ...

    async def save_image_xml(self, path: str, flags: int = 0) -> str: ...
    async def save_image_define_xml(self, path: str, xml: str, flags: int = 0) -> None: ...
    async def managed_save(
        self, uuid: str, flags: int = 0, *, progress: ProgressCallback | None = None
    ) -> None:
        """Save the state where the next `create` finds and resumes it."""
        ...

    async def managed_save_remove(self, uuid: str, flags: int = 0) -> None: ...
    async def managed_save_xml(self, uuid: str, flags: int = 0) -> str: ...
    async def managed_save_define_xml(self, uuid: str, xml: str, flags: int = 0) -> None: ...

    # snapshots
    async def snapshot_tree(self, uuid: str) -> SnapshotTree: ...
    async def snapshot_create_xml(
        self,
        uuid: str,
        xml: str,
        flags: int = 0,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> str | PlanReport:
        """The new snapshot's name, a `MadeSnapshot` where its memory was written; with dry_run the plan."""
        ...

    async def snapshot_xml(self, uuid: str, name: str, flags: int = 0) -> str: ...
    async def snapshot_revert(
        self,
        uuid: str,
        name: str,
        flags: int = 0,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> PlanReport | None: ...
    async def snapshot_clone(
        self,
        uuid: str,
        snapshot: str,
        names: Sequence[str],
        start: bool = False,
        paused: bool = False,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> tuple[DomainHandle, ...] | PlanReport:
        """New domains that begin as the snapshot, all of them or none; with dry_run the plan.

        libvirt has no such call.
        """
        ...

    async def discard(self, uuid: str) -> None:
        """End and forget a domain, and delete every file that snapshots, reverts or cloning made for it.

        Refused for a domain whose disks are the user's own images.
        """
        ...

    async def snapshot_delete(
        self,
        uuid: str,
        name: str,
        flags: int = 0,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> PlanReport | None: ...

    # A real libvirt's domains, by its files. Folders: see `qemu.libvirt_dir.places` for what None means.
    async def import_libvirt(
        self,
        name: str,
        *,
        dir: str | None = None,
        definitions: str | None = None,
        run_dir: str | None = None,
        leave_save: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> LibvirtReport:
        """Take a domain over with its whole tree. With dry_run the report has the reasons not to; without,
        they are raised, all at once."""
        ...

    async def export_libvirt(
        self,
        uuid: str,
        *,
        dir: str | None = None,
        definitions: str | None = None,
        run_dir: str | None = None,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> LibvirtReport:
        """Write a domain and its tree as libvirt keeps them. Reasons not to: as `import_libvirt`."""
        ...


class ServedService(Service, Protocol):
    """What the daemon's clients ask beside that, of the machine: `service.hardware`, `devices`, `figures`."""

    async def vcpu_threads(self, uuid: str) -> list[Vcpu]: ...
    async def vcpu_count(self, uuid: str, flags: int = 0) -> int: ...
    async def set_vcpus(self, uuid: str, count: int, flags: int) -> None: ...
    async def iothreads(self, uuid: str, flags: int = 0) -> list[IoThread]: ...
    async def set_memory(self, uuid: str, kib: int, flags: int) -> None: ...
    async def memory_stats(self, uuid: str) -> list[tuple[int, int]]: ...
    async def set_memory_stats_period(self, uuid: str, seconds: int, flags: int) -> None: ...
    async def inject_nmi(self, uuid: str) -> None: ...
    async def pm_wakeup(self, uuid: str) -> None: ...
    async def io_errors(self, uuid: str) -> list[str]: ...
    async def figures(self, uuid: str, wanted: Collection[str]) -> Figures: ...
    async def summary(self, uuid: str) -> DomainSummary: ...
    async def layer_info(self, layer: DiskLayer) -> BlockInfo: ...
    async def attach_device(self, uuid: str, xml: str, flags: int) -> None: ...
    async def detach_device(self, uuid: str, xml: str, flags: int) -> None: ...
    async def detach_device_alias(self, uuid: str, alias: str, flags: int) -> None: ...
    async def update_device(self, uuid: str, xml: str, flags: int) -> None: ...
