"""Domain: its life, its facts, its snapshots. libvirt's virDomain."""

from __future__ import annotations

import uuid as uuids
from typing import TYPE_CHECKING, Literal, overload

from virtsnap.api.aio.snapshot import DomainSnapshot
from virtsnap.api.listing import select
from virtsnap.api.params import (
    SaveParams,
    copy_params,
    rebase_bandwidth,
    rebase_copy_flags,
    rebase_xml,
)
from virtsnap.model.block_job import BlockJob
from virtsnap.model.errors import NoSnapshot
from virtsnap.model.flags import BlockJobInfoFlags, BlockRebase
from virtsnap.model.libvirt import LibvirtReport
from virtsnap.service.interface import ChainLayer, DomainHandle, PlanReport, ProgressCallback

if TYPE_CHECKING:
    from virtsnap.api.aio.connection import Connection


class Domain:
    """A domain, by its uuid. Raises NoDomain from any call once the domain is undefined."""

    def __init__(self, connection: Connection, handle: DomainHandle) -> None:
        self._connection = connection
        self._service = connection._service
        self._handle = handle

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._handle.name!r} {self._handle.uuid}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Domain):
            return NotImplemented
        return (self._connection, self._handle.uuid) == (other._connection, other._handle.uuid)

    def __hash__(self) -> int:
        return hash(self._handle.uuid)

    # what the object holds

    def connect(self) -> Connection:
        """The connection that the domain was got from."""
        return self._connection

    def name(self) -> str:
        """The name when the object was made."""
        return self._handle.name

    def UUIDString(self) -> str:
        """The uuid as text."""
        return self._handle.uuid

    def UUID(self) -> bytes:
        """The uuid as 16 bytes."""
        return uuids.UUID(self._handle.uuid).bytes

    def ID(self) -> int:
        """The id when the object was made or last started, -1 when it was not active."""
        return -1 if self._handle.id is None else self._handle.id

    # facts

    async def isActive(self) -> bool:
        """The domain has a QEMU process (virDomainIsActive)."""
        return (await self._service.domain_info(self._handle.uuid)).id is not None

    async def isPersistent(self) -> bool:
        """The domain stays when it is not running (virDomainIsPersistent)."""
        return (await self._service.domain_info(self._handle.uuid)).persistent

    async def state(self, flags: int = 0) -> tuple[int, int]:
        """virDomainState and the number of the reason within it (virDomainGetState)."""
        state, reason = await self._service.domain_state(self._handle.uuid)
        return int(state), reason.number

    async def info(self) -> tuple[int, int, int, int, int]:
        """State, maximum memory in KiB, memory in KiB, number of CPUs, CPU time in ns
        (virDomainGetInfo)."""
        facts = await self._service.domain_info(self._handle.uuid)
        memory = (facts.max_memory_kib, facts.used_memory_kib)
        return int(facts.state), *memory, facts.vcpus, facts.cpu_time_ns or 0

    async def OSType(self) -> str:
        """'hvm' (virDomainGetOSType)."""
        return (await self._service.domain_info(self._handle.uuid)).os_type

    async def maxMemory(self) -> int:
        """Memory in KiB (virDomainGetMaxMemory)."""
        return (await self._service.domain_info(self._handle.uuid)).max_memory_kib

    async def maxVcpus(self) -> int:
        """Number of CPUs (virDomainGetMaxVcpus)."""
        return (await self._service.domain_info(self._handle.uuid)).vcpus

    async def autostart(self) -> bool:
        """Starts with the host (virDomainGetAutostart)."""
        return (await self._service.domain_info(self._handle.uuid)).autostart

    async def hasManagedSaveImage(self, flags: int = 0) -> bool:
        """The next start resumes a saved state (virDomainHasManagedSaveImage)."""
        return (await self._service.domain_info(self._handle.uuid)).managed_save

    async def XMLDesc(self, flags: int = 0) -> str:
        """The domain's XML. Flags: `DomainXml` (virDomainGetXMLDesc)."""
        return await self._service.domain_xml(self._handle.uuid, flags)

    async def blockInfo(self, path: str, flags: int = 0) -> tuple[int, int, int]:
        """Capacity, allocation and physical size in bytes of a disk, named by target or source
        (virDomainGetBlockInfo). Raises InvalidArg for an unknown one."""
        facts = await self._service.block_info(self._handle.uuid, path)
        return facts.capacity, facts.allocation, facts.physical

    async def screenshot(self, screen: int = 0, flags: int = 0) -> tuple[str, bytes]:
        """MIME type and picture. Unlike libvirt-python's there is no stream to read it from."""
        return await self._service.screenshot(self._handle.uuid, screen)

    # chains of images

    async def blockChains(self, inactive: bool = False) -> dict[str, tuple[ChainLayer, ...]]:
        """By disk target, the images that its content is read from, the one written to first."""
        return await self._service.block_chains(self._handle.uuid, inactive)

    async def flatten(
        self,
        disks: list[str] | None = None,
        *,
        copy: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> PlanReport | None:
        """Let disks (default: all that can) take in what they stand on, so that nothing below is read any
        more; `copy`: also what snapshots need, which keep it. With `dry_run` returns the plan.

        libvirt's nearest is virDomainBlockPull. Raises OperationUnsupported for what snapshots need.
        """
        return await self._service.flatten(
            self._handle.uuid, disks or (), copy=copy, dry_run=dry_run, progress=progress
        )

    # block jobs: QEMU's from their start on, whoever began them

    async def blockCommit(
        self, disk: str, base: str | None, top: str | None, bandwidth: int = 0, flags: int = 0
    ) -> int:
        """Begin to merge the images from `top` (None: the active one) down into `base` (None: the last).
        `bandwidth` in MiB/s. Flags: `BlockCommit` (virDomainBlockCommit). Returns 0 at once.

        Raises OperationUnsupported when that would change what a snapshot or somebody else needs, or when the
        disk has a job; InvalidArg for what is not in the chain.
        """
        await self._service.block_commit(self._handle.uuid, disk, base, top, bandwidth, flags)
        return 0

    async def blockPull(self, disk: str, bandwidth: int = 0, flags: int = 0) -> int:
        """Begin to take in all that the disk stands on. Flags: `BlockPull` (virDomainBlockPull)."""
        await self._service.block_pull(self._handle.uuid, disk, None, bandwidth, flags)
        return 0

    async def blockRebase(self, disk: str, base: str | None, bandwidth: int = 0, flags: int = 0) -> int:
        """Begin to take in what is above `base`. Flags: `BlockRebase` (virDomainBlockRebase). Returns 0.
        With COPY `base` is the destination of a copy."""
        if flags & BlockRebase.COPY:
            params = {} if not bandwidth else {"bandwidth": rebase_bandwidth(bandwidth, flags)}
            return await self.blockCopy(disk, rebase_xml(base, flags), params, rebase_copy_flags(flags))
        await self._service.block_pull(self._handle.uuid, disk, base, bandwidth, flags)
        return 0

    async def blockCopy(
        self, disk: str, destxml: str, params: dict[str, int] | None = None, flags: int = 0
    ) -> int:
        """Begin to copy the disk to the image that a `<disk>` describes, and keep it equal. `params`: the
        VIR_DOMAIN_BLOCK_COPY_ keys bandwidth (bytes/s), granularity and buf-size (bytes). Flags: `BlockCopy`
        (virDomainBlockCopy). Returns 0 at once."""
        sizes = copy_params(params or {})
        await self._service.block_copy(self._handle.uuid, disk, destxml, flags, **sizes)
        return 0

    async def blockJobInfo(self, disk: str, flags: int = 0) -> dict[str, int]:
        """type, bandwidth, cur and end of the disk's job; empty when it has none (virDomainGetBlockJobInfo).
        Bandwidth is in MiB/s, with `BlockJobInfoFlags.BANDWIDTH_BYTES` in bytes/s."""
        job = await self._service.block_job_info(self._handle.uuid, disk, flags)
        if job is None:
            return {}
        speed = job.bandwidth if flags & BlockJobInfoFlags.BANDWIDTH_BYTES else -(-job.bandwidth >> 20)
        return {"type": int(job.type), "bandwidth": speed, "cur": job.cur, "end": job.end}

    async def blockJobSetSpeed(self, disk: str, bandwidth: int, flags: int = 0) -> int:
        """Limit the disk's job, in MiB/s. Flags: `BlockJobSetSpeed` (virDomainBlockJobSetSpeed)."""
        await self._service.block_job_set_speed(self._handle.uuid, disk, bandwidth, flags)
        return 0

    async def blockJobAbort(self, disk: str, flags: int = 0) -> int:
        """End the disk's job, with PIVOT by letting the disk go over to the job's other end. Flags:
        `BlockJobAbort` (virDomainBlockJobAbort). Raises BlockCopyActive when it is not ready to."""
        await self._service.block_job_abort(self._handle.uuid, disk, flags)
        return 0

    async def blockJobWait(self, disk: str, *, progress: ProgressCallback | None = None) -> BlockJob | None:
        """Return when the disk's last job is ready or over, with what is written down of it. libvirt has
        events for that."""
        return await self._service.block_job_wait(self._handle.uuid, disk, progress=progress)

    async def blockResize(self, disk: str, size: int, flags: int = 0) -> int:
        """Give a running domain's disk another size, in KiB. Flags: `BlockResize` (virDomainBlockResize)."""
        await self._service.block_resize(self._handle.uuid, disk, size, flags)
        return 0

    async def blockStats(self, path: str) -> tuple[int, int, int, int, int]:
        """Reads, bytes read, writes, bytes written, errors (-1: not known) (virDomainBlockStats)."""
        stats = await self._service.block_stats(self._handle.uuid, path)
        names = ("rd_operations", "rd_bytes", "wr_operations", "wr_bytes")
        reads, read, writes, written = (stats[name] for name in names)
        return reads, read, writes, written, -1

    async def blockStatsFlags(self, path: str, flags: int = 0) -> dict[str, int]:
        """The same and more by name; path '' of all disks together (virDomainBlockStatsFlags)."""
        return await self._service.block_stats(self._handle.uuid, path)

    async def diskErrors(self, flags: int = 0) -> dict[str, int]:
        """virDomainDiskErrorCode by target, of disks that have one (virDomainGetDiskErrors)."""
        return await self._service.disk_errors(self._handle.uuid)

    # words passed on: libvirt_qemu's

    async def qemuMonitorCommand(self, cmd: str, flags: int = 0) -> str:
        """Say something to QEMU's monitor; its answer. Flags: `QemuMonitorCommand`
        (virDomainQemuMonitorCommand)."""
        return await self._service.qemu_monitor_command(self._handle.uuid, cmd, flags)

    async def qemuAgentCommand(self, command: str, timeout: int = -2, flags: int = 0) -> str | None:
        """Say something to the guest's agent; its answer. `timeout` in seconds; -2: none, -1: five, 0: do not
        wait (virDomainQemuAgentCommand)."""
        return await self._service.qemu_agent_command(self._handle.uuid, command, timeout, flags)

    async def discard(self) -> int:
        """End and undefine a clone, and delete all its files. Returns 0.

        Raises OperationInvalid for a domain that writes to images which no clone, snapshot or revert made.
        """
        await self._service.discard(self._handle.uuid)
        return 0

    # what another process does with it

    async def jobInfo(self) -> list[int]:
        """The job under way: its type, milliseconds elapsed and remaining, then bytes in all, processed and
        remaining of all data, of memory, of files (virDomainGetJobInfo)."""
        job = await self._service.job_info(self._handle.uuid)
        amounts = [(one.total, one.processed, one.remaining) for one in (job.data, job.memory, job.disk)]
        return [int(job.type), job.elapsed_ms, 0, *(figure for one in amounts for figure in one)]

    async def jobStats(self, flags: int = 0) -> dict[str, int | str]:
        """The job under way, or the last completed, by names. Flags: `JobStats` (virDomainGetJobStats).

        Beyond libvirt: `memory_mode` and `memory_reason` of a snapshot (`DomainSnapshot.memoryMode`).
        """
        job = await self._service.job_info(self._handle.uuid, flags)
        return {"type": int(job.type), **job.stats()}

    async def abortJob(self) -> int:
        """Ask whoever works on the domain to undo it (virDomainAbortJob). Returns 0 without waiting for it.
        Raises OperationInvalid when nobody does."""
        return await self.abortJobFlags(0)

    async def abortJobFlags(self, flags: int = 0) -> int:
        """The same. Flags: `AbortJob` (virDomainAbortJobFlags)."""
        await self._service.abort_job(self._handle.uuid, flags)
        return 0

    # life

    async def create(self) -> int:
        """Start the domain (virDomainCreate). Returns 0. See `createWithFlags`."""
        return await self.createWithFlags(0)

    async def createWithFlags(self, flags: int = 0) -> int:
        """Start the domain. Flags: `DomainStart`. Returns 0.

        Raises OperationInvalid when it is running, ConfigUnsupported for what QEMU cannot do.
        """
        self._handle = await self._service.create(self._handle.uuid, flags)
        return 0

    async def shutdown(self) -> int:
        """Ask the guest to shut down (virDomainShutdown). Returns 0 without waiting for it."""
        return await self.shutdownFlags(0)

    async def shutdownFlags(self, flags: int = 0) -> int:
        """Ask the guest to shut down. Flags: `ShutdownMethod`. Returns 0."""
        await self._service.shutdown(self._handle.uuid, flags)
        return 0

    async def reboot(self, flags: int = 0) -> int:
        """Ask the guest to reboot (virDomainReboot). Flags: `ShutdownMethod`. Returns 0."""
        await self._service.reboot(self._handle.uuid, flags)
        return 0

    async def reset(self, flags: int = 0) -> int:
        """Reset as by the button (virDomainReset). Returns 0."""
        await self._service.reset(self._handle.uuid)
        return 0

    async def destroy(self) -> int:
        """End the QEMU process at once (virDomainDestroy). Returns 0. See `destroyFlags`."""
        return await self.destroyFlags(0)

    async def destroyFlags(self, flags: int = 0) -> int:
        """End the QEMU process. Flags: `DomainDestroy`. Returns 0. Raises OperationInvalid when it is
        not running."""
        await self._service.destroy(self._handle.uuid, flags)
        self._handle = DomainHandle(self._handle.uuid, self._handle.name, None)
        return 0

    async def save(self, to: str) -> int:
        """Save the state into a file and end the domain (virDomainSave). Returns 0. See `saveParams`."""
        return await self.saveFlags(to)

    async def saveFlags(self, to: str, dxml: str | None = None, flags: int = 0) -> int:
        """Save the state into a file (virDomainSaveFlags). `dxml`: what the file shall say of the domain.
        Flags: `DomainSaveRestore`. Returns 0."""
        params: dict[str, str | int] = {"file": to}
        if dxml is not None:
            params["dxml"] = dxml
        return await self.saveParams(params, flags)

    async def saveParams(
        self, params: dict[str, str | int], flags: int = 0, *, progress: ProgressCallback | None = None
    ) -> int:
        """Save the state (virDomainSaveParams): the VIR_DOMAIN_SAVE_PARAM_ keys file, dxml, image_format and
        parallel.channels. Without a file it is a managed save. Flags: `DomainSaveRestore`. Returns 0.

        Cancelling lets the guest run on, and leaves no file. Raises Refused before anything is touched,
        Failed for what went wrong midway.
        """
        given = SaveParams.of(params)
        if given.file is None:
            given.refuse_all_but_file()
            return await self.managedSave(flags, progress=progress)
        await self._service.save(
            self._handle.uuid,
            given.file,
            given.dxml,
            flags,
            image_format=given.image_format,
            channels=given.channels,
            progress=progress,
        )
        self._handle = DomainHandle(self._handle.uuid, self._handle.name, None)
        return 0

    async def managedSave(self, flags: int = 0, *, progress: ProgressCallback | None = None) -> int:
        """Save the state for the next start to resume (virDomainManagedSave). Flags: `DomainSaveRestore`.
        Returns 0."""
        await self._service.managed_save(self._handle.uuid, flags, progress=progress)
        self._handle = DomainHandle(self._handle.uuid, self._handle.name, None)
        return 0

    async def managedSaveRemove(self, flags: int = 0) -> int:
        """Give the managed save up (virDomainManagedSaveRemove). Returns 0."""
        await self._service.managed_save_remove(self._handle.uuid, flags)
        return 0

    async def managedSaveGetXMLDesc(self, flags: int = 0) -> str:
        """The XML in the managed save. Flags: `DomainXml.SECURE` (virDomainManagedSaveGetXMLDesc)."""
        return await self._service.managed_save_xml(self._handle.uuid, flags)

    async def managedSaveDefineXML(self, dxml: str, flags: int = 0) -> int:
        """Change the XML in the managed save (virDomainManagedSaveDefineXML). Flags: `DomainSaveRestore`.
        Returns 0."""
        await self._service.managed_save_define_xml(self._handle.uuid, dxml, flags)
        return 0

    async def setAutostart(self, autostart: bool) -> int:
        """Start it with the host, where virtsnapd runs (virDomainSetAutostart). Returns 0."""
        await self._service.set_autostart(self._handle.uuid, bool(autostart))
        return 0

    async def metadata(self, type: int, uri: str | None = None, flags: int = 0) -> str:
        """Description (type 0), title (1) or the element of a namespace (2). Flags: `DomainModification`
        (virDomainGetMetadata). Raises NoMetadata."""
        return await self._service.metadata(self._handle.uuid, type, uri, flags)

    async def setMetadata(
        self,
        type: int,
        metadata: str | None,
        key: str | None = None,
        uri: str | None = None,
        flags: int = 0,
    ) -> int:
        """Set one of them; None takes it away. `key`: the element's prefix (virDomainSetMetadata).
        Returns 0."""
        await self._service.set_metadata(self._handle.uuid, type, metadata, key, uri, flags)
        return 0

    async def sendKey(
        self, codeset: int, holdtime: int, keycodes: list[int], nkeycodes: int = 0, flags: int = 0
    ) -> int:
        """Press keys together, for `holdtime` ms. `codeset` 0: Linux's (virDomainSendKey). Returns 0."""
        await self._service.send_key(self._handle.uuid, codeset, holdtime, keycodes)
        return 0

    async def suspend(self) -> int:
        """Stop the CPUs (virDomainSuspend). Returns 0."""
        await self._service.suspend(self._handle.uuid)
        return 0

    async def resume(self) -> int:
        """Let the CPUs go on (virDomainResume). Returns 0."""
        await self._service.resume(self._handle.uuid)
        return 0

    async def rename(self, new_name: str, flags: int = 0) -> int:
        """Give it another name, snapshots and all (virDomainRename). Returns 0.

        Raises OperationInvalid while it runs or is saved, or when another domain has the name.
        """
        self._handle = await self._service.rename(self._handle.uuid, new_name, flags)
        return 0

    async def undefine(self) -> int:
        """Forget the definition (virDomainUndefine). Returns 0. See `undefineFlags`."""
        return await self.undefineFlags(0)

    async def undefineFlags(self, flags: int = 0) -> int:
        """Forget the definition. Flags: `DomainUndefine`. Returns 0. Raises OperationInvalid when
        snapshots stand in the way."""
        await self._service.undefine(self._handle.uuid, flags)
        return 0

    async def exportLibvirt(
        self,
        *,
        dir: str | None = None,
        definitions: str | None = None,
        run_dir: str | None = None,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> LibvirtReport:
        """Write the domain and its snapshots as a real libvirt keeps them.

        libvirtd reads them at its next start. Folders: see `Connection.importLibvirt`. The domain must be
        shut off, and stays defined here.

        Raises OperationInvalid with every reason; with `dry_run` they are the report's `problems`.
        """
        return await self._service.export_libvirt(
            self._handle.uuid,
            dir=dir,
            definitions=definitions,
            run_dir=run_dir,
            dry_run=dry_run,
            progress=progress,
        )

    # snapshots

    @overload
    async def snapshotCreateXML(
        self,
        xmlDesc: str,
        flags: int = 0,
        *,
        dry_run: Literal[False] = False,
        progress: ProgressCallback | None = None,
    ) -> DomainSnapshot: ...

    @overload
    async def snapshotCreateXML(
        self,
        xmlDesc: str,
        flags: int = 0,
        *,
        dry_run: Literal[True],
        progress: ProgressCallback | None = None,
    ) -> PlanReport: ...

    @overload
    async def snapshotCreateXML(
        self,
        xmlDesc: str,
        flags: int = 0,
        *,
        dry_run: bool,
        progress: ProgressCallback | None = None,
    ) -> DomainSnapshot | PlanReport: ...

    async def snapshotCreateXML(
        self,
        xmlDesc: str,
        flags: int = 0,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> DomainSnapshot | PlanReport:
        """Take a snapshot (virDomainSnapshotCreateXML). Flags: `SnapshotCreate`.

        Beyond libvirt: `dry_run` returns what would be done and does nothing; `progress` is called as the
        long steps go on. Cancelling undoes what was begun. Raises Refused before anything is touched,
        Failed for what went wrong midway.
        """
        result = await self._service.snapshot_create_xml(
            self._handle.uuid, xmlDesc, flags, dry_run=dry_run, progress=progress
        )
        return DomainSnapshot(self, result) if isinstance(result, str) else result

    async def listAllSnapshots(self, flags: int = 0) -> list[DomainSnapshot]:
        """Snapshots that pass the filters of `SnapshotList`, parents before children
        (virDomainListAllSnapshots)."""
        return [DomainSnapshot(self, name) for name in await self.snapshotListNames(flags)]

    async def snapshotListNames(self, flags: int = 0) -> list[str]:
        """Their names (virDomainSnapshotListNames)."""
        tree = await self._service.snapshot_tree(self._handle.uuid)
        return [snapshot.name for snapshot in select(tree, flags)]

    async def snapshotNum(self, flags: int = 0) -> int:
        """How many they are (virDomainSnapshotNum)."""
        return len(await self.snapshotListNames(flags))

    async def snapshotLookupByName(self, name: str, flags: int = 0) -> DomainSnapshot:
        """The snapshot of that name. Raises NoSnapshot."""
        tree = await self._service.snapshot_tree(self._handle.uuid)
        return DomainSnapshot(self, tree.lookup(name).name)

    async def hasCurrentSnapshot(self, flags: int = 0) -> bool:
        """The domain's present state descends from a snapshot (virDomainHasCurrentSnapshot)."""
        return (await self._service.snapshot_tree(self._handle.uuid)).current is not None

    async def snapshotCurrent(self, flags: int = 0) -> DomainSnapshot:
        """The snapshot that the present state descends from. Raises NoSnapshot when there is none."""
        tree = await self._service.snapshot_tree(self._handle.uuid)
        if tree.current is None:
            raise NoSnapshot("the domain does not have a current snapshot")
        return DomainSnapshot(self, tree.current)

    @overload
    async def revertToSnapshot(
        self,
        snap: DomainSnapshot,
        flags: int = 0,
        *,
        dry_run: Literal[False] = False,
        progress: ProgressCallback | None = None,
    ) -> int: ...

    @overload
    async def revertToSnapshot(
        self,
        snap: DomainSnapshot,
        flags: int = 0,
        *,
        dry_run: Literal[True],
        progress: ProgressCallback | None = None,
    ) -> PlanReport: ...

    @overload
    async def revertToSnapshot(
        self,
        snap: DomainSnapshot,
        flags: int = 0,
        *,
        dry_run: bool,
        progress: ProgressCallback | None = None,
    ) -> int | PlanReport: ...

    async def revertToSnapshot(
        self,
        snap: DomainSnapshot,
        flags: int = 0,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> int | PlanReport:
        """Go back to a snapshot of this domain (virDomainRevertToSnapshot). Flags: `SnapshotRevert`.

        Returns 0, with `dry_run` the plan. Raises RevertRisky for what needs `FORCE`.
        """
        report = await self._service.snapshot_revert(
            self._handle.uuid, snap.getName(), flags, dry_run=dry_run, progress=progress
        )
        await self._refresh()
        return 0 if report is None else report

    async def _refresh(self) -> None:
        """A revert starts or ends the QEMU process: take the id that is now true."""
        self._handle = await self._service.lookup_by_uuid(self._handle.uuid)
