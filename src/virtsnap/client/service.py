"""The service over a connection: each call is the procedure of libvirt's that does the same.

What libvirt has no procedure for (plans, chains, flatten) is asked of virtsnapd in a program of its own; a
libvirtd says that it does not have that. Cancelling a call asks the daemon to abort the job, and waits.

Where libvirt has two procedures the one without flags is used when there are none, as virsh does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar
from uuid import UUID

from virtsnap.client.channel import Channel
from virtsnap.model.block_job import BlockJob, BlockJobInfo, BlockJobState, BlockJobType
from virtsnap.model.domain import BlockInfo, DomainInfo, DomainState, Reason
from virtsnap.model.errors import NoSnapshot, NoSupport, OperationInvalid, VirtsnapError
from virtsnap.model.event import DomainEvent, EventKind
from virtsnap.model.flags import BlockJobInfoFlags, BlockRebase
from virtsnap.model.host import NodeInfo
from virtsnap.model.job import Amount, JobInfo, JobOperation, JobType
from virtsnap.model.libvirt import LibvirtReport
from virtsnap.model.snapshot import SnapshotTree
from virtsnap.service.interface import (
    BlockDevice,
    ChainLayer,
    DomainHandle,
    MadeSnapshot,
    PlanReport,
    Progress,
    ProgressCallback,
    WouldWait,
)
from virtsnap.wire.procedures import QEMU, VIRTSNAP
from virtsnap.wire.values import INT, STRING, UINT, Param, WireDomain, WireSnapshot, params_of, values_of

T = TypeVar("T")
_POLL_SECONDS = 0.5
_OPERATIONS = {operation.number: operation for operation in JobOperation if operation.number}


class RemoteService:
    """`service.interface.Service` over a `Channel`."""

    def __init__(self, channel: Channel, uri: str) -> None:
        self._channel = channel
        self._call = channel.call
        self.uri = uri

    async def close(self) -> None:
        """Let go of the connection. Domains run on."""
        await self._channel.close()

    def at_once(self, work: Coroutine[Any, Any, T]) -> T:
        """Never: every answer has to be waited for."""
        work.close()
        raise WouldWait

    # --- connection ------------------------------------------------------------------------------------

    async def list_domains(self, flags: int = 0) -> Sequence[DomainHandle]:
        domains, _ = await self._call("connect_list_all_domains", 1, flags)
        return sorted((_handle(one) for one in domains), key=lambda handle: handle.name)

    async def lookup_by_name(self, name: str) -> DomainHandle:
        return _handle(await self._call("domain_lookup_by_name", name))

    async def lookup_by_uuid(self, uuid: str) -> DomainHandle:
        return _handle(await self._call("domain_lookup_by_uuid", UUID(uuid).bytes))

    async def lookup_by_id(self, id: int) -> DomainHandle:
        return _handle(await self._call("domain_lookup_by_id", id))

    async def define_xml(self, xml: str, flags: int = 0) -> DomainHandle:
        if not flags:
            return _handle(await self._call("domain_define_xml", xml))
        return _handle(await self._call("domain_define_xml_flags", xml, flags))

    async def create_xml(self, xml: str, flags: int = 0) -> DomainHandle:
        return _handle(await self._call("domain_create_xml", xml, flags))

    async def hypervisor_version(self) -> int:
        version: int = await self._call("connect_get_version")
        return version

    async def node_info(self) -> NodeInfo:
        model, *rest = await self._call("node_get_info")
        return NodeInfo(bytes(model).partition(b"\0")[0].decode(), *rest)

    async def capabilities_xml(self) -> str:
        xml: str = await self._call("connect_get_capabilities")
        return xml

    async def domain_capabilities_xml(
        self,
        emulator: str | None = None,
        arch: str | None = None,
        machine: str | None = None,
        virttype: str | None = None,
    ) -> str:
        arguments = (emulator, arch, machine, virttype, 0)
        xml: str = await self._call("connect_get_domain_capabilities", *arguments)
        return xml

    @contextlib.asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[DomainEvent]]:
        """Of all kinds that the daemon tells of."""
        queue: asyncio.Queue[DomainEvent | None] = asyncio.Queue()
        numbers: list[int] = []
        self._channel.told = lambda callback, event: queue.put_nowait(event)
        self._channel.ended = lambda: queue.put_nowait(None)
        try:
            for kind in EventKind:
                register = "connect_domain_event_callback_register_any"
                numbers.append(await self._call(register, int(kind), None))
            yield _until_none(queue)
        finally:
            self._channel.told = lambda callback, event: None
            with contextlib.suppress(VirtsnapError):
                for number in numbers:
                    await self._call("connect_domain_event_callback_deregister_any", number)

    # --- domain ----------------------------------------------------------------------------------------

    async def undefine(self, uuid: str, flags: int = 0) -> None:
        await self._with_flags("domain_undefine", uuid, flags)

    async def create(self, uuid: str, flags: int = 0) -> DomainHandle:
        if flags:
            return _handle(await self._abortable(uuid, "domain_create_with_flags", _dom(uuid), flags))
        await self._abortable(uuid, "domain_create", _dom(uuid))
        return await self.lookup_by_uuid(uuid)

    async def rename(self, uuid: str, name: str, flags: int = 0) -> DomainHandle:
        await self._call("domain_rename", _dom(uuid), name, flags)
        return await self.lookup_by_uuid(uuid)

    async def shutdown(self, uuid: str, flags: int = 0) -> None:
        await self._with_flags("domain_shutdown", uuid, flags)

    async def reboot(self, uuid: str, flags: int = 0) -> None:
        await self._call("domain_reboot", _dom(uuid), flags)

    async def reset(self, uuid: str) -> None:
        await self._call("domain_reset", _dom(uuid), 0)

    async def destroy(self, uuid: str, flags: int = 0) -> None:
        await self._with_flags("domain_destroy", uuid, flags)

    async def suspend(self, uuid: str) -> None:
        await self._call("domain_suspend", _dom(uuid))

    async def resume(self, uuid: str) -> None:
        await self._call("domain_resume", _dom(uuid))

    async def set_autostart(self, uuid: str, autostart: bool) -> None:
        await self._call("domain_set_autostart", _dom(uuid), int(autostart))

    async def send_key(self, uuid: str, codeset: int, holdtime: int, keycodes: Sequence[int]) -> None:
        await self._call("domain_send_key", _dom(uuid), codeset, holdtime, list(keycodes), 0)

    async def metadata(self, uuid: str, type: int, uri: str | None = None, flags: int = 0) -> str:
        text: str = await self._call("domain_get_metadata", _dom(uuid), type, uri, flags)
        return text

    async def set_metadata(
        self,
        uuid: str,
        type: int,
        text: str | None,
        key: str | None = None,
        uri: str | None = None,
        flags: int = 0,
    ) -> None:
        await self._call("domain_set_metadata", _dom(uuid), type, text, key, uri, flags)

    async def domain_info(self, uuid: str) -> DomainInfo:
        dom = _dom(uuid)
        who, os_type, facts, persistent, autostart, saved = await asyncio.gather(
            self.lookup_by_uuid(uuid),
            self._call("domain_get_os_type", dom),
            self._call("domain_get_info", dom),
            self._call("domain_is_persistent", dom),
            self._call("domain_get_autostart", dom),
            self._call("domain_has_managed_save_image", dom, 0),
        )
        state, most, used, vcpus, cpu_time = facts
        return DomainInfo(
            id=who.id,
            name=who.name,
            uuid=uuid,
            os_type=os_type,
            state=DomainState(state),
            vcpus=vcpus,
            cpu_time_ns=cpu_time if who.id is not None else None,
            max_memory_kib=most,
            used_memory_kib=used,
            persistent=bool(persistent),
            autostart=bool(autostart),
            managed_save=bool(saved),
        )

    async def domain_state(self, uuid: str) -> tuple[DomainState, Reason]:
        state, number = await self._call("domain_get_state", _dom(uuid), 0)
        try:
            return DomainState(state), Reason(state * 100 + number)
        except ValueError:
            return DomainState(state), Reason(state * 100)  # one that only a newer libvirt knows

    async def domain_xml(self, uuid: str, flags: int = 0) -> str:
        xml: str = await self._call("domain_get_xml_desc", _dom(uuid), flags)
        return xml

    async def block_devices(self, uuid: str, inactive: bool = False) -> list[BlockDevice]:
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.model.flags import DomainXml

        xml = await self.domain_xml(uuid, DomainXml.INACTIVE if inactive else 0)
        disks = DomainDefinition.parse(xml).disks
        return [BlockDevice(disk.type, disk.device, disk.target, disk.source) for disk in disks]

    async def block_chains(self, uuid: str, inactive: bool = False) -> dict[str, tuple[ChainLayer, ...]]:
        chains = await self._call("domain_block_chains", _dom(uuid), int(inactive), program=VIRTSNAP)
        return {
            target: tuple(
                ChainLayer(path, format, size, tuple(snapshots), bool(missing))
                for path, format, size, snapshots, missing in layers
            )
            for target, layers in chains
        }

    async def flatten(
        self,
        uuid: str,
        targets: Sequence[str] = (),
        *,
        copy: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> PlanReport | None:
        arguments = _dom(uuid), list(targets), int(copy)
        if dry_run:
            return _report(await self._call("domain_plan_flatten", *arguments, program=VIRTSNAP))
        await self._watched(uuid, progress, "domain_flatten", *arguments, program=VIRTSNAP)
        return None

    async def block_info(self, uuid: str, path: str) -> BlockInfo:
        allocation, capacity, physical = await self._call("domain_get_block_info", _dom(uuid), path, 0)
        return BlockInfo(capacity, allocation, physical)

    async def job_info(self, uuid: str, flags: int = 0) -> JobInfo:
        type, params = await self._call("domain_get_job_stats", _dom(uuid), flags)
        found = values_of(params)

        def amount(name: str) -> Amount:
            return Amount(int(found.get(f"{name}_processed", 0)), int(found.get(f"{name}_total", 0)))

        operation = _OPERATIONS.get(int(found.get("operation", 0)), JobOperation.UNKNOWN)
        elapsed = int(found.get("time_elapsed", 0))
        return JobInfo(
            *(JobType(type), operation, elapsed, amount("memory"), amount("disk")),
            memory_mode=str(found.get("memory_mode", "")),
            memory_reason=str(found.get("memory_reason", "")),
        )

    async def abort_job(self, uuid: str, flags: int = 0) -> None:
        await self._with_flags("domain_abort_job", uuid, flags)

    async def screenshot(self, uuid: str, screen: int = 0) -> tuple[str, bytes]:
        mime, picture = await self._channel.read("domain_screenshot", _dom(uuid), screen, 0)
        return mime or "application/octet-stream", picture

    async def console_path(self, uuid: str, device: str | None = None) -> str:
        """As the live definition says: it leads to the console only on the host that the domain runs on."""
        from virtsnap.formats.console_device import console_path
        from virtsnap.formats.domain_xml import DomainDefinition

        if (await self.lookup_by_uuid(uuid)).id is None:
            raise OperationInvalid("domain is not running")
        return console_path(DomainDefinition.parse(await self.domain_xml(uuid)), device)

    async def open_graphics(self, uuid: str, index: int = 0, flags: int = 0) -> int:
        """Not here: the client takes no descriptors. Raises NoSupport."""
        raise NoSupport("a screen is opened where the domain runs, by its port or socket in the definition")

    # --- saved states ----------------------------------------------------------------------------------

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
        path = os.path.abspath(path)
        if image_format is None and channels is None:
            await self._watched(uuid, progress, "domain_save_flags", _dom(uuid), path, xml, flags)
            return
        params = _save_params(path, xml, image_format, channels)
        await self._watched(uuid, progress, "domain_save_params", _dom(uuid), params, flags)

    async def restore(
        self,
        path: str,
        xml: str | None = None,
        flags: int = 0,
        *,
        channels: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> DomainHandle:
        from virtsnap.formats.domain_xml import DomainDefinition

        path = os.path.abspath(path)
        if channels is None:
            await self._call("domain_restore_flags", path, xml, flags)
        else:
            await self._call("domain_restore_params", _save_params(path, xml, None, channels), flags)
        saved = DomainDefinition.parse(xml or await self.save_image_xml(path))
        return await self.lookup_by_name(saved.name)

    async def save_image_xml(self, path: str, flags: int = 0) -> str:
        xml: str = await self._call("domain_save_image_get_xml_desc", os.path.abspath(path), flags)
        return xml

    async def save_image_define_xml(self, path: str, xml: str, flags: int = 0) -> None:
        await self._call("domain_save_image_define_xml", os.path.abspath(path), xml, flags)

    async def managed_save(
        self, uuid: str, flags: int = 0, *, progress: ProgressCallback | None = None
    ) -> None:
        await self._watched(uuid, progress, "domain_managed_save", _dom(uuid), flags)

    async def managed_save_remove(self, uuid: str, flags: int = 0) -> None:
        await self._call("domain_managed_save_remove", _dom(uuid), flags)

    async def managed_save_xml(self, uuid: str, flags: int = 0) -> str:
        xml: str = await self._call("domain_managed_save_get_xml_desc", _dom(uuid), flags)
        return xml

    async def managed_save_define_xml(self, uuid: str, xml: str, flags: int = 0) -> None:
        await self._call("domain_managed_save_define_xml", _dom(uuid), xml, flags)

    # --- snapshots -------------------------------------------------------------------------------------

    async def snapshot_tree(self, uuid: str) -> SnapshotTree:
        from virtsnap.formats.snapshot_xml import parse_snapshot

        found, _ = await self._call("domain_list_all_snapshots", _dom(uuid), 1, 0)
        names = [snapshot.name for snapshot in found]
        texts = await asyncio.gather(*(self.snapshot_xml(uuid, name) for name in names))
        now = int(time.time())
        snapshots = [parse_snapshot(text, redefine=True, offline=False, now=now) for text in texts]
        return SnapshotTree.of(snapshots, await self._current(uuid) if names else None)

    async def _current(self, uuid: str) -> str | None:
        try:
            name: str = (await self._call("domain_snapshot_current", _dom(uuid), 0)).name
        except NoSnapshot:
            return None
        return name

    async def snapshot_create_xml(
        self,
        uuid: str,
        xml: str,
        flags: int = 0,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> str | PlanReport:
        if dry_run:
            return _report(await self._call("domain_plan_create", _dom(uuid), xml, flags, program=VIRTSNAP))
        arguments = _dom(uuid), xml, flags
        try:
            made, mode, reason = await self._watched(
                uuid, progress, "domain_snapshot_create", *arguments, program=VIRTSNAP
            )
        except NoSupport:
            # A libvirtd, whose answer is the snapshot alone.
            made = await self._watched(uuid, progress, "domain_snapshot_create_xml", *arguments)
            mode = reason = ""
        return MadeSnapshot.of(made.name, mode, reason)

    async def snapshot_xml(self, uuid: str, name: str, flags: int = 0) -> str:
        xml: str = await self._call("domain_snapshot_get_xml_desc", _snap(uuid, name), flags)
        return xml

    async def snapshot_revert(
        self,
        uuid: str,
        name: str,
        flags: int = 0,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> PlanReport | None:
        arguments = _snap(uuid, name), flags
        if dry_run:
            return _report(await self._call("domain_plan_revert", *arguments, program=VIRTSNAP))
        await self._watched(uuid, progress, "domain_revert_to_snapshot", *arguments)
        return None

    async def snapshot_delete(
        self,
        uuid: str,
        name: str,
        flags: int = 0,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> PlanReport | None:
        arguments = _snap(uuid, name), flags
        if dry_run:
            return _report(await self._call("domain_plan_delete", *arguments, program=VIRTSNAP))
        await self._watched(uuid, progress, "domain_snapshot_delete", *arguments)
        return None

    # --- block jobs ------------------------------------------------------------------------------------

    async def block_commit(
        self,
        uuid: str,
        path: str,
        base: str | None = None,
        top: str | None = None,
        bandwidth: int = 0,
        flags: int = 0,
    ) -> None:
        await self._call("domain_block_commit", _dom(uuid), path, base, top, bandwidth, flags)

    async def block_pull(
        self, uuid: str, path: str, base: str | None = None, bandwidth: int = 0, flags: int = 0
    ) -> None:
        if base is None and not flags & BlockRebase.RELATIVE:  # which the other procedure does not know
            await self._call("domain_block_pull", _dom(uuid), path, bandwidth, flags)
        else:
            await self._call("domain_block_rebase", _dom(uuid), path, base, bandwidth, flags)

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
        figures = {"bandwidth": bandwidth, "granularity": granularity, "buf-size": buf_size}
        given = {name: value for name, value in figures.items() if value}
        params = params_of(given, {"granularity": UINT})
        await self._call("domain_block_copy", _dom(uuid), path, destination_xml, params, flags)

    async def block_job_info(self, uuid: str, path: str, flags: int = 0) -> BlockJobInfo | None:
        """The bandwidth is in bytes per second whatever the flags."""
        in_bytes = flags | BlockJobInfoFlags.BANDWIDTH_BYTES
        answer = await self._call("domain_get_block_job_info", _dom(uuid), path, in_bytes)
        found, type, bandwidth, cur, end = answer
        if not found:
            return None
        kind = BlockJobType(type)
        return BlockJobInfo(kind, bandwidth, cur, end, ready=kind.mirrors and cur == end > 0)

    async def block_job_set_speed(self, uuid: str, path: str, bandwidth: int, flags: int = 0) -> None:
        await self._call("domain_block_job_set_speed", _dom(uuid), path, bandwidth, flags)

    async def block_job_abort(self, uuid: str, path: str, flags: int = 0) -> None:
        await self._call("domain_block_job_abort", _dom(uuid), path, flags)

    async def block_job_wait(
        self, uuid: str, path: str, *, progress: ProgressCallback | None = None
    ) -> BlockJob | None:
        """Looks again and again: a call that waits would keep others from QEMU's monitor."""
        last: BlockJobInfo | None = None
        while (info := await self._show_block_job(uuid, path, progress)) is not None:
            last = info
            if info.ready:
                return BlockJob("", info.type, path, "", "")
            await asyncio.sleep(_POLL_SECONDS)
        try:
            answer = await self._call("domain_block_job_wait", _dom(uuid), path, program=VIRTSNAP)
        except NoSupport:
            # A libvirtd tells nobody how a job ended who did not listen.
            kind = last.type if last is not None else BlockJobType.UNKNOWN
            return BlockJob("", kind, path, "", "", state=BlockJobState.COMPLETED)
        if answer is None:
            return None
        type, target, source, state, error = answer
        job = BlockJob("", BlockJobType(type), target, "", source, state=BlockJobState(state), error=error)
        if progress is not None and job.state is BlockJobState.COMPLETED:
            progress(Progress(_BLOCK_LABELS[job.type], 1, 1))
        return job

    async def _show_block_job(
        self, uuid: str, path: str, progress: ProgressCallback | None
    ) -> BlockJobInfo | None:
        info = await self.block_job_info(uuid, path)
        if info is not None and progress is not None:
            progress(Progress(_BLOCK_LABELS[info.type], info.cur, info.end))
        return info

    async def block_resize(self, uuid: str, path: str, size: int, flags: int = 0) -> None:
        await self._call("domain_block_resize", _dom(uuid), path, size, flags)

    async def block_stats(self, uuid: str, path: str) -> dict[str, int]:
        call = "domain_block_stats_flags"
        _, count = await self._call(call, _dom(uuid), path, 0, 0)
        params, _ = await self._call(call, _dom(uuid), path, count, 0)
        return {param.field: int(param.value) for param in params}

    def unchanged(self, uuid: str) -> object | None:
        return None

    async def disk_errors(self, uuid: str) -> dict[str, int]:
        _, most = await self._call("domain_get_disk_errors", _dom(uuid), 0, 0)
        errors, _ = await self._call("domain_get_disk_errors", _dom(uuid), most, 0) if most else ([], 0)
        return dict(errors)

    async def qemu_monitor_command(self, uuid: str, command: str, flags: int = 0) -> str:
        answer: str = await self._call("domain_monitor_command", _dom(uuid), command, flags, program=QEMU)
        return answer

    async def qemu_agent_command(
        self, uuid: str, command: str, timeout: int = -2, flags: int = 0
    ) -> str | None:
        arguments = _dom(uuid), command, timeout, flags
        answer: str | None = await self._call("domain_agent_command", *arguments, program=QEMU)
        return answer

    # --- clones: a program of our own ------------------------------------------------------------------

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
        arguments = _snap(uuid, snapshot), list(names), int(start), int(paused)
        if dry_run:
            return _report(await self._call("domain_plan_clone", *arguments, program=VIRTSNAP))
        made = await self._watched(uuid, progress, "domain_snapshot_clone", *arguments, program=VIRTSNAP)
        return tuple(_handle(one) for one in made)

    async def discard(self, uuid: str) -> None:
        await self._abortable(uuid, "domain_discard", _dom(uuid), program=VIRTSNAP)

    # --- a libvirt's files: they are on the daemon's host, and its business ----------------------------

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
        raise NoSupport("import-libvirt works in the daemon's root folder itself: -c qemu:///embed?root=DIR")

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
        raise NoSupport("export-libvirt works in the daemon's root folder itself: -c qemu:///embed?root=DIR")

    async def _with_flags(self, name: str, uuid: str, flags: int) -> None:
        if flags:
            await self._call(name + "_flags", _dom(uuid), flags)
        else:
            await self._call(name, _dom(uuid))

    # --- calls that take their time --------------------------------------------------------------------

    async def _watched(
        self, uuid: str, progress: ProgressCallback | None, name: str, *arguments: object, **how: Any
    ) -> Any:
        """A call whose job can be looked at meanwhile, and aborted."""
        if progress is None:
            return await self._abortable(uuid, name, *arguments, **how)
        call = asyncio.ensure_future(self._abortable(uuid, name, *arguments, **how))
        shown = False
        try:
            while not (await asyncio.wait({call}, timeout=_POLL_SECONDS))[0]:
                shown = await self._show(uuid, progress) or shown
        except asyncio.CancelledError:
            call.cancel()
            await asyncio.wait({call})
            raise
        answer = call.result()
        if shown:
            progress(Progress(_LABELS.get(name, ""), 1, 1))
        return answer

    async def _show(self, uuid: str, progress: ProgressCallback) -> bool:
        try:
            job = await self.job_info(uuid)
        except VirtsnapError:
            return False  # it is over, or has not begun
        if not job.data.total:
            return False
        progress(Progress(job.operation.word, job.data.processed, job.data.total))
        return True

    async def _abortable(self, uuid: str, name: str, *arguments: object, **how: Any) -> Any:
        """A call that is undone when it is cancelled."""
        return await self._call(name, *arguments, abort=(_dom(uuid),), **how)


_BLOCK_LABELS = {
    BlockJobType.UNKNOWN: "Unknown job",
    BlockJobType.PULL: "Block Pull",
    BlockJobType.COPY: "Block Copy",
    BlockJobType.COMMIT: "Block commit",
    BlockJobType.ACTIVE_COMMIT: "Block commit",
    BlockJobType.BACKUP: "Backup",
}
_LABELS = {
    "domain_save_flags": JobOperation.SAVE.word,
    "domain_save_params": JobOperation.SAVE.word,
    "domain_managed_save": JobOperation.SAVE.word,
    "domain_snapshot_create": JobOperation.SNAPSHOT.word,
    "domain_snapshot_create_xml": JobOperation.SNAPSHOT.word,
    "domain_revert_to_snapshot": JobOperation.SNAPSHOT_REVERT.word,
    "domain_snapshot_delete": JobOperation.SNAPSHOT_DELETE.word,
    "domain_flatten": JobOperation.FLATTEN.word,
}


async def _until_none(queue: asyncio.Queue[DomainEvent | None]) -> AsyncIterator[DomainEvent]:
    while (event := await queue.get()) is not None:
        yield event


def _handle(dom: WireDomain) -> DomainHandle:
    return DomainHandle(dom.uuid_text, dom.name, None if dom.id == -1 else dom.id)


def _dom(uuid: str) -> WireDomain:
    """Daemons look at the uuid alone."""
    return WireDomain("", UUID(uuid).bytes, -1)


def _snap(uuid: str, name: str) -> WireSnapshot:
    return WireSnapshot(name, _dom(uuid))


def _report(fields: tuple[Any, ...]) -> PlanReport:
    operation, subject, makes, removes, merges, pause, steps = fields
    return PlanReport(operation, subject, tuple(makes), tuple(removes), tuple(merges), pause, tuple(steps))


def _save_params(path: str, xml: str | None, image_format: str | None, channels: int | None) -> list[Param]:
    params = [Param("file", STRING, path)]
    if xml is not None:
        params.append(Param("dxml", STRING, xml))
    if image_format is not None:
        params.append(Param("image_format", STRING, image_format))
    if channels is not None:
        params.append(Param("parallel.channels", INT, channels))
    return params
