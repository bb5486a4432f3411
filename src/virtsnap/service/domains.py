"""The calls on domains: define, start, stop, look."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from virtsnap.engine.telling import expect_reboot, tell
from virtsnap.formats.kept import Kept, digest
from virtsnap.model.domain import (
    BlockInfo,
    DomainHead,
    DomainInfo,
    DomainRecord,
    DomainState,
    Reason,
)
from virtsnap.model.errors import (
    Failed,
    InvalidArg,
    NoDomain,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    VirtsnapError,
)
from virtsnap.model.event import Detail
from virtsnap.model.flags import (
    DomainDefine,
    DomainDestroy,
    DomainList,
    DomainOpenGraphics,
    DomainStart,
    DomainUndefine,
    DomainXml,
)
from virtsnap.plan.requests import known_flags
from virtsnap.service import schemas
from virtsnap.service.context import Context, required_monitor
from virtsnap.service.interface import BlockDevice, DomainHandle
from virtsnap.service.managed import ManagedSave

if TYPE_CHECKING:
    from virtsnap.engine.world import World
    from virtsnap.formats.domain_summary import DomainSummary
    from virtsnap.formats.domain_xml import DomainDefinition, DomainDisk

_QUERY_SECONDS = 2.0
_REBOOT_SECONDS = 120.0
_MOMENT_NS = 1_000_000_000
_INACTIVE_XML = DomainXml.INACTIVE | DomainXml.MIGRATABLE


_SAVED = int(DomainList.MANAGEDSAVE | DomainList.NO_MANAGEDSAVE)
_SNAPSHOT = int(DomainList.HAS_SNAPSHOT | DomainList.NO_SNAPSHOT)
_ELSEWHERE = _SAVED | _SNAPSHOT
"""What is not in the domain's record."""
_GROUPS = (
    int(DomainList.ACTIVE | DomainList.INACTIVE),
    int(DomainList.PERSISTENT | DomainList.TRANSIENT),
    int(DomainList.RUNNING | DomainList.PAUSED | DomainList.SHUTOFF | DomainList.OTHER),
    _SAVED,
    int(DomainList.AUTOSTART | DomainList.NO_AUTOSTART),
    _SNAPSHOT,
    int(DomainList.HAS_CHECKPOINT | DomainList.NO_CHECKPOINT),
)
"""Of each, if any of it is asked for, one must be true."""
_STATES = {
    DomainState.RUNNING: int(DomainList.RUNNING),
    DomainState.PAUSED: int(DomainList.PAUSED),
    DomainState.SHUTOFF: int(DomainList.SHUTOFF),
}
_LISTS_MAX = 32
_GRAPHICS = "graphicsfd"


class DomainCalls(Context):
    """See `service.interface.Service`."""

    def __init__(self, root: Path, readonly: bool = False) -> None:
        super().__init__(root, readonly)
        self._lists: dict[int, tuple[tuple[DomainHead, ...], tuple[DomainHandle, ...]]] = {}

    # --- connection ------------------------------------------------------------------------------------

    async def list_domains(self, flags: int = 0) -> Sequence[DomainHandle]:
        """Domains that every group of the flags lets through, by name; the same object if nothing is new."""
        flag = int(known_flags(flags, DomainList, "qemuConnectListAllDomains"))
        heads = self.glances.all()
        if heads is None:
            return [_handle(record) for record in await self._look_at_all() if self._listed(record, flag)]
        known = self._lists.get(flag)
        if known is not None and known[0] is heads:
            return known[1]
        found = tuple(_handle(head) for head in heads if self._listed(head, flag))
        if not flag & _ELSEWHERE:
            if len(self._lists) >= _LISTS_MAX:
                self._lists.clear()
            self._lists[flag] = heads, found
        return found

    async def _look_at_all(self) -> list[DomainRecord]:
        self.may_wait()
        records = []
        for head in self.store.heads()[0]:
            with contextlib.suppress(NoDomain):  # a transient one that has ended meanwhile
                records.append(await self.look(head.uuid))
        return records

    def _listed(self, record: DomainRecord | DomainHead, flags: int) -> bool:
        if not flags:
            return True
        f = DomainList
        facts = _either(record.active, f.ACTIVE, f.INACTIVE)
        facts |= _either(record.persistent, f.PERSISTENT, f.TRANSIENT)
        facts |= _either(record.autostart, f.AUTOSTART, f.NO_AUTOSTART)
        facts |= _STATES.get(record.state, int(f.OTHER)) | int(f.NO_CHECKPOINT)
        if flags & _SAVED:
            saved = ManagedSave.of(self.root, record.uuid).exists
            facts |= _either(saved, f.MANAGEDSAVE, f.NO_MANAGEDSAVE)
        if flags & _SNAPSHOT:
            facts |= _either(len(self.store.tree(record.uuid)) > 0, f.HAS_SNAPSHOT, f.NO_SNAPSHOT)
        return all(not flags & group or facts & flags & group for group in _GROUPS)

    async def lookup_by_name(self, name: str) -> DomainHandle:
        """Raises NoDomain."""
        record = self.store.domain_by_name(name)
        if record is None:
            raise NoDomain(f"no domain with matching name '{name}'")
        return _handle(await self.look(record.uuid))

    async def lookup_by_uuid(self, uuid: str) -> DomainHandle:
        """Raises NoDomain, InvalidArg for what is not a uuid."""
        import uuid as uuids

        try:
            canonical = str(uuids.UUID(uuid))
        except ValueError as error:
            raise InvalidArg(f"invalid UUID: {uuid}") from error
        return _handle(await self.look(canonical))

    async def lookup_by_id(self, id: int) -> DomainHandle:
        """Raises NoDomain."""
        record = self.store.domain_by_id(id)
        if record is not None:
            record = await self.look(record.uuid)
        if record is None or not record.active:
            raise NoDomain(f"no domain with matching id {id}")
        return _handle(record)

    async def hypervisor_version(self) -> int:
        """QEMU's version as libvirt counts."""
        major, minor, micro = (await self.capabilities()).version
        return major * 1_000_000 + minor * 1_000 + micro

    async def define_xml(self, xml: str, flags: int = 0) -> DomainHandle:
        """Raises XmlError and its kin, OperationFailed when name or uuid belong to another domain."""
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.service.left_behind import left_behind

        self.writable("virDomainDefineXML")
        known_flags(flags, DomainDefine, "qemuDomainDefineXMLFlags")
        if flags & DomainDefine.VALIDATE:
            schemas.validate(xml, "domain")
        definition = await self.completed(DomainDefinition.parse(xml))
        assert definition.uuid is not None
        uuid, name, text = definition.uuid, definition.name, definition.to_inactive_xml()
        same_name, same_uuid = self.store.domain_by_name(name), self.store.domain(uuid)
        if same_uuid is not None and same_uuid.name != name:
            raise OperationFailed(f"domain '{same_uuid.name}' is already defined with uuid {uuid}")
        if same_name is not None and same_name.uuid != uuid:
            raise OperationFailed(f"domain '{name}' already exists with uuid {same_name.uuid}")
        if same_uuid is None:
            with self.store.transaction() as tx:
                record = DomainRecord(uuid, name, text)
                tx.put_domain(record)
                tell(tx, record, Detail.DEFINED_ADDED)
        else:
            async with self.operation(uuid) as world:
                record = world.record()
                left = await left_behind(self.store, record, text)
                with self.store.transaction() as tx:
                    tx.put_domain(replace(record, config_xml=text, persistent=True))
                    for path in left:
                        tx.delete_image(uuid, path)
                    known = record.persistent
                    tell(tx, record, Detail.DEFINED_UPDATED if known else Detail.DEFINED_ADDED)
        return _handle(self._record(uuid))

    # --- life ------------------------------------------------------------------------------------------

    async def undefine(self, uuid: str, flags: int = 0) -> None:
        """Raises OperationInvalid while something would be lost that no flag gives up."""
        from virtsnap.engine import jobs, swtpm
        from virtsnap.formats.domain_xml import DomainDefinition

        self.writable("virDomainUndefineFlags" if flags else "virDomainUndefine")
        flag = known_flags(flags, DomainUndefine, "qemuDomainUndefineFlags")
        async with self.operation(uuid) as world:
            record = world.record()
            if not record.persistent:
                raise OperationInvalid("cannot undefine transient domain")
            if record.active:
                with self.store.transaction() as tx:
                    tx.put_domain(replace(record, persistent=False))
                    tell(tx, record, Detail.UNDEFINED_REMOVED)
                return
            managed = ManagedSave.of(self.root, uuid)
            if managed.exists and not flag & DomainUndefine.MANAGED_SAVE:
                raise OperationInvalid("Refusing to undefine while domain managed save image exists")
            count = len(self.store.tree(uuid))
            if count and not flag & DomainUndefine.SNAPSHOTS_METADATA:
                raise OperationInvalid(f"cannot delete inactive domain with {count} snapshots")
            nvram = DomainDefinition.parse(record.config_xml).nvram_path
            if nvram is not None and os.path.exists(nvram):
                if flag & DomainUndefine.NVRAM:
                    os.unlink(nvram)
                elif not flag & DomainUndefine.KEEP_NVRAM:
                    raise OperationInvalid("cannot undefine domain with nvram")
            managed.remove()
            with self.store.transaction() as tx:
                tx.delete_domain(uuid)
                tell(tx, record, Detail.UNDEFINED_REMOVED)
            swtpm.forget(
                str(self.root),
                record.config_xml,
                keep=bool(flag & DomainUndefine.KEEP_TPM),
                give_up=bool(flag & DomainUndefine.TPM),
            )
            jobs.forget(self.root, uuid)

    async def create(self, uuid: str, flags: int = 0) -> DomainHandle:
        """Start the domain. Raises OperationInvalid when it runs, Failed with QEMU's own words."""
        from virtsnap.engine.runner import Runner
        from virtsnap.plan.lifecycle import plan_start

        self.writable("virDomainCreateWithFlags" if flags else "virDomainCreate")
        flag = known_flags(flags, DomainStart, "qemuDomainCreateWithFlags")
        if flag & DomainStart.AUTODESTROY:
            raise OperationUnsupported("autodestroy needs a daemon that watches the client")
        async with self.operation(uuid) as world:
            record = world.record()
            if record.active:
                raise OperationInvalid("domain is already running")
            if await self._start_saved(world, flag):
                return _handle(world.record())
            with self.store.transaction() as tx:
                id = tx.next_domain_id()
            plan = plan_start(
                record,
                id=id,
                root=str(self.root),
                paused=bool(flag & DomainStart.PAUSED),
                fresh_nvram=bool(flag & DomainStart.RESET_NVRAM),
            )
            try:
                await Runner(world).run(plan)
            except VirtsnapError:
                if not world.record().active:
                    self._put_reason(world.record(), Reason.SHUTOFF_FAILED)
                raise
            return _handle(world.record())

    async def _start_saved(self, world: World, flag: DomainStart) -> bool:
        """Resume a saved state instead of booting; see `service.saves`. False: there is none."""
        raise NotImplementedError

    async def destroy(self, uuid: str, flags: int = 0) -> None:
        """End the domain at once. Raises OperationInvalid when it does not run."""
        from virtsnap.engine import swtpm
        from virtsnap.engine.runner import Runner
        from virtsnap.plan.lifecycle import plan_stop

        self.writable("virDomainDestroy")
        flag = known_flags(flags, DomainDestroy, "qemuDomainDestroyFlags")
        async with self.operation(uuid) as world:
            record = world.record()
            await Runner(world).run(plan_stop(record, Reason.SHUTOFF_DESTROYED))
            if not record.persistent:
                with self.store.transaction() as tx:
                    tx.delete_domain(uuid)
                swtpm.forget(str(self.root), record.config_xml)
            if flag & DomainDestroy.REMOVE_LOGS:
                for name in (f"{uuid}.log", f"{uuid}-swtpm.log"):
                    (self.root / "log" / name).unlink(missing_ok=True)

    async def shutdown(self, uuid: str, flags: int = 0) -> None:
        """Ask the guest to shut down, by its agent or the power button (`service.power`).

        Raises OperationInvalid when it does not run, and what the agent does if only that is wanted.
        """
        from virtsnap.service import power

        self.writable("virDomainShutdown")
        method = power.check_method(flags, "qemuDomainShutdownFlags")
        async with self.operation(uuid) as world:
            monitor = await required_monitor(world)
            if not await power.by_agent(world, monitor, method, "powerdown"):
                await monitor.execute("system_powerdown")

    async def reboot(self, uuid: str, flags: int = 0) -> None:
        """Have the agent restart the guest, or press the power button and start it again when it is down.

        Waits for the guest, since nobody else does. Raises Failed when it does not react in two minutes.
        """
        from virtsnap.service import power

        self.writable("virDomainReboot")
        method = power.check_method(flags, "qemuDomainReboot")
        async with self.operation(uuid) as world:
            monitor = await required_monitor(world)
            if await power.by_agent(world, monitor, method, _reboot_mode(world.record())):
                return
            await monitor.execute("set-action", shutdown="pause")
            expect_reboot(self.store, uuid, True)
            try:
                async with monitor.events("SHUTDOWN") as listener, asyncio.timeout(_REBOOT_SECONDS):
                    await monitor.execute("system_powerdown")
                    await listener.get()
                await monitor.execute("system_reset")
                await monitor.execute("cont")
            except TimeoutError as error:
                raise Failed("the guest did not react to its power button in two minutes") from error
            finally:
                if not monitor.lost:
                    await monitor.execute("set-action", shutdown="poweroff")
                expect_reboot(self.store, uuid, False)

    async def reset(self, uuid: str) -> None:
        """Press the reset button."""
        self.writable("virDomainReset")
        async with self.operation(uuid) as world:
            await (await required_monitor(world)).execute("system_reset")

    async def suspend(self, uuid: str) -> None:
        """Stop the virtual CPUs; quiet when they stand still already."""
        self.writable("virDomainSuspend")
        async with self.operation(uuid) as world:
            monitor = await required_monitor(world)
            record = world.record()
            if record.state is DomainState.PMSUSPENDED:
                raise OperationInvalid("domain is pmsuspended")
            if record.state is DomainState.PAUSED:
                return
            await monitor.execute("stop")
            self._put_reason(record, Reason.PAUSED_USER)

    async def resume(self, uuid: str) -> None:
        """Let the virtual CPUs run. Raises OperationInvalid when they do."""
        from virtsnap.service import power

        self.writable("virDomainResume")
        async with self.operation(uuid) as world:
            monitor = await required_monitor(world)
            record = world.record()
            if record.state is DomainState.PMSUSPENDED:
                raise OperationInvalid("domain is pmsuspended")
            if record.state is DomainState.RUNNING:
                raise OperationInvalid("domain is already running")
            await monitor.execute("cont")
            self._put_reason(record, Reason.RUNNING_UNPAUSED)
            if record.reason is Reason.PAUSED_SNAPSHOT:
                # A manual snapshot with --quiesce leaves the guest so.
                await power.thaw(world, monitor)

    def _put_reason(self, record: DomainRecord, reason: Reason) -> None:
        with self.store.transaction() as tx:
            tx.put_domain(replace(record, reason=reason))

    # --- looking ---------------------------------------------------------------------------------------

    async def domain_info(self, uuid: str) -> DomainInfo:
        """virDomainGetInfo. Raises NoDomain."""
        from virtsnap.qemu import process

        sight = self.glances.at(uuid)
        if sight is not None and (sight.balloon is not None or not sight.record.active):
            facts, balloon = sight.summary, sight.balloon[0] if sight.balloon is not None else None
            used = facts.current_memory_kib if balloon is None else balloon
            return self._told(sight.record, facts, sight.cpu_time_ns, used)
        record = await self.look(uuid)
        definition = _parsed(record.live_xml or record.config_xml)
        time_ns = process.cpu_time_ns(record.instance) if record.instance is not None else None
        return self._told(record, definition, time_ns, await self._balloon_kib(record, definition))

    def _told(
        self,
        record: DomainRecord,
        facts: DomainSummary | DomainDefinition,
        cpu_time_ns: int | None,
        used_memory_kib: int,
    ) -> DomainInfo:
        return DomainInfo(
            id=record.instance.id if record.instance is not None else None,
            name=record.name,
            uuid=record.uuid,
            os_type=facts.os_type,
            state=record.state,
            vcpus=facts.vcpus,
            cpu_time_ns=cpu_time_ns,
            max_memory_kib=facts.memory_kib,
            used_memory_kib=used_memory_kib,
            persistent=record.persistent,
            autostart=record.autostart,
            managed_save=ManagedSave.of(self.root, record.uuid).exists,
        )

    async def domain_state(self, uuid: str) -> tuple[DomainState, Reason]:
        """virDomainGetState. Raises NoDomain."""
        record = await self.look(uuid)
        return record.state, record.reason

    async def domain_xml(self, uuid: str, flags: int = 0) -> str:
        """virDomainGetXMLDesc. Raises NoDomain."""
        flag = known_flags(flags, DomainXml, "qemuDomainGetXMLDesc")
        if flag & (DomainXml.SECURE | DomainXml.MIGRATABLE):
            self.may_see_secrets("virDomainGetXMLDesc")
        sight = self.glances.at(uuid)
        if sight is not None:
            inactive = bool(flag & _INACTIVE_XML) or not sight.record.active
            if inactive or sight.balloon is not None:
                return sight.text(inactive, bool(flag & DomainXml.SECURE))
        record = await self.look(uuid)
        if flag & _INACTIVE_XML or record.live_xml is None:
            return _inactive(record.config_xml, bool(flag & DomainXml.SECURE))
        definition = _parsed(record.live_xml)
        definition = definition.with_memory(
            definition.memory_kib, await self._balloon_kib(record, definition)
        )
        definition = self._with_ready_mirrors(record, definition)
        if not flag & DomainXml.SECURE:
            definition = definition.without_secrets()
        return definition.to_xml()

    async def _balloon_kib(self, record: DomainRecord, definition: DomainDefinition) -> int:
        """What the balloon leaves the guest; the definition's figure where nobody answers."""
        from virtsnap.qemu.monitor import QmpCommandFailed
        from virtsnap.service.questions import ask_soon, is_asked

        if record.instance is None:
            return definition.current_memory_kib
        self.may_wait()
        # QEMU logs when it changes, and then there is another sight of the domain. The answer to a question
        # that was asked earlier may be older than this one.
        sight = self.glances.at(record.uuid) if not is_asked(record, "query-balloon") else None
        if sight is not None and sight.record.instance != record.instance:
            sight = None
        try:
            answer = await ask_soon(record, "query-balloon", _QUERY_SECONDS)
        except QmpCommandFailed:
            found = None  # there is none
        except VirtsnapError:
            return definition.current_memory_kib
        else:
            found = int(answer["actual"]) // 1024
        if sight is not None:
            sight.balloon = (found,)
        return definition.current_memory_kib if found is None else found

    def _with_ready_mirrors(self, record: DomainRecord, definition: DomainDefinition) -> DomainDefinition:
        """What block jobs are about to be told is not in the record: QEMU's log has it."""
        jobs = self.store.block_jobs(record.uuid, active=True)
        if not jobs or record.instance is None:
            return definition
        from virtsnap.engine.world import events_path
        from virtsnap.qemu.block_jobs import is_ready
        from virtsnap.qemu.events import read_events

        log = read_events(events_path(record.instance.run_dir))
        for job in jobs:
            if is_ready(log, job):
                definition = definition.with_ready_mirror(job.target)
        return definition

    async def block_devices(self, uuid: str, inactive: bool = False) -> list[BlockDevice]:
        """The disks, in the definition's order. Raises NoDomain."""
        disks = await self._disks(uuid, inactive)
        return [BlockDevice(disk.type, disk.device, disk.target, disk.source) for disk in disks]

    async def _disks(self, uuid: str, inactive: bool = False) -> tuple[DomainDisk, ...]:
        sight = self.glances.at(uuid)
        if sight is not None and not (inactive and sight.record.active):
            return sight.summary.disks
        record = await self.look(uuid)
        text = record.config_xml if inactive or record.live_xml is None else record.live_xml
        return _parsed(text).disks

    def unchanged(self, uuid: str) -> object | None:
        """See `service.interface.Service`."""
        sight = self.glances.at(uuid)
        if sight is None or sight.record.active:
            return None
        stamps = []
        # What is written in the same moment as something else may leave the time as it is.
        settled = time.time_ns() - _MOMENT_NS
        for disk in sight.summary.disks:
            if disk.source is None:
                continue
            try:
                status = os.stat(disk.source)
            except OSError:
                return None
            if not stat.S_ISREG(status.st_mode) or status.st_mtime_ns > settled:
                return None
            stamps.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_blocks))
        return sight, tuple(stamps)

    async def block_info(self, uuid: str, path: str) -> BlockInfo:
        """virDomainGetBlockInfo. Raises InvalidArg for a disk that is not there or is empty."""
        disk = next((d for d in await self._disks(uuid) if path in (d.target, d.source)), None)
        if disk is None:
            raise InvalidArg(f"invalid path {path} not assigned to domain")
        if disk.source is None:
            raise InvalidArg(f"disk '{disk.target}' does not currently have a source assigned")
        return await image_sizes(disk.source, disk.format)

    async def screenshot(self, uuid: str, screen: int = 0) -> tuple[str, bytes]:
        """MIME type and picture. Raises OperationInvalid when the domain does not run."""
        self.writable("virDomainScreenshot")
        if screen:
            raise InvalidArg(f"currently is supported only taking screenshots of screen ID 0, not {screen}")
        async with self.operation(uuid) as world:
            monitor = await required_monitor(world)
            folder = world.record().instance
            assert folder is not None
            import tempfile

            with tempfile.TemporaryDirectory(dir=folder.run_dir) as scratch:
                picture = Path(scratch, "screen")
                await monitor.execute("screendump", filename=str(picture), format="png")
                return "image/png", picture.read_bytes()

    async def console_path(self, uuid: str, device: str | None = None) -> str:
        """Where a console or serial device is reached. Raises OperationInvalid, InternalRefused."""
        from virtsnap.formats.console_device import console_path
        from virtsnap.formats.domain_xml import DomainDefinition

        record = await self.look(uuid)
        if record.live_xml is None:
            raise OperationInvalid("domain is not running")
        return console_path(DomainDefinition.parse(record.live_xml), device)

    async def open_graphics(self, uuid: str, index: int = 0, flags: int = 0) -> int:
        """A connected socket to its screen. Raises OperationInvalid, InternalRefused."""
        from virtsnap.formats.console_device import graphics_type
        from virtsnap.qemu.monitor import QmpCommandFailed

        self.writable("virDomainOpenGraphicsFD")
        wanted = known_flags(flags, DomainOpenGraphics, "qemuDomainOpenGraphicsFD")
        async with self.operation(uuid) as world:
            monitor = await required_monitor(world)
            protocol = graphics_type(_parsed(world.record().live_xml or ""), index)
            ours, theirs = socket.socketpair()
            with ours, theirs:
                await monitor.send_fd(theirs.fileno(), name=_GRAPHICS)
                try:
                    skip = DomainOpenGraphics.SKIPAUTH in wanted
                    await monitor.execute("add_client", protocol=protocol, fdname=_GRAPHICS, skipauth=skip)
                except QmpCommandFailed:
                    await monitor.execute("closefd", fdname=_GRAPHICS)
                    raise
                return ours.detach()


async def image_sizes(path: str, format: str) -> BlockInfo:
    """Of an image. Raises SystemRefused, InternalRefused when it cannot be read."""
    from virtsnap.qemu import images

    info = await images.look(path, format)
    physical = info.virtual_size if info.block_device else os.stat(path).st_size
    return BlockInfo(capacity=info.virtual_size, allocation=info.actual_size, physical=physical)


# A daemon is asked the same of the same definitions every few seconds.


@lru_cache(maxsize=32)
def _parsed(text: str) -> DomainDefinition:
    from virtsnap.formats.domain_xml import DomainDefinition

    return DomainDefinition.parse(text)


_INACTIVE: Kept[tuple[bytes, bool], str] = Kept(1 << 19, len)


def _inactive(text: str, secure: bool) -> str:
    return _INACTIVE.get((digest(text), secure), lambda: _made_inactive(text, secure))


def _made_inactive(text: str, secure: bool) -> str:
    definition = _parsed(text)
    return (definition if secure else definition.without_secrets()).to_inactive_xml()


def _either(true: bool, yes: int, no: int) -> int:
    return int(yes) if true else int(no)


def _handle(record: DomainRecord | DomainHead) -> DomainHandle:
    return _made_handle(record.uuid, record.name, record.instance.id if record.instance else None)


@lru_cache(maxsize=4096)
def _made_handle(uuid: str, name: str, id: int | None) -> DomainHandle:
    return DomainHandle(uuid, name, id)


def _reboot_mode(record: DomainRecord) -> str:
    """What guest-shutdown is told: a domain that ends when its guest restarts only goes down (libvirt)."""
    from virtsnap.formats.domain_xml import DomainDefinition

    ends = DomainDefinition.parse(record.live_xml or record.config_xml).on_reboot in ("destroy", "preserve")
    return "powerdown" if ends else "reboot"
