"""The calls that save a domain's state into a file and bring it back, and those on such files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from virtsnap.engine.locks import DomainLock
from virtsnap.engine.telling import overhear
from virtsnap.model.domain import DomainRecord, Reason
from virtsnap.model.errors import (
    BareInvalidArg,
    InvalidArg,
    OperationFailed,
    OperationInvalid,
    SystemRefused,
)
from virtsnap.model.flags import DomainSaveRestore, DomainStart, DomainXml
from virtsnap.service.domains import DomainCalls
from virtsnap.service.interface import DomainHandle, ProgressCallback
from virtsnap.service.managed import ManagedSave, check_owner, on_present_disks
from virtsnap.service.snapshots import SnapshotCalls

if TYPE_CHECKING:
    from virtsnap.engine.world import World
    from virtsnap.formats.domain_xml import DomainDefinition
    from virtsnap.formats.save_image import SaveImageHeader
    from virtsnap.plan.save import RestoreRequest, SaveRequest


class SaveCalls(DomainCalls, SnapshotCalls):
    """See `service.interface.Service`."""

    # --- save ------------------------------------------------------------------------------------------

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
        """Save the state into a file and end the domain. Raises Refused, or Failed after it was undone."""
        from virtsnap.plan import save

        self.writable("virDomainSaveFlags")
        flag = save.check_flags(flags, "qemuDomainSaveFlags")
        format = save.check_format(image_format, channels)
        async with self.operation(uuid, progress) as world:
            described = await self._described(world.record(), xml)
            request = save.SaveRequest(os.path.realpath(path), flag, described, format, channels)
            await self._save(world, request)
            self._forget_transient(world)

    async def managed_save(
        self, uuid: str, flags: int = 0, *, progress: ProgressCallback | None = None
    ) -> None:
        """Save the state where the next start finds it. Raises Refused, or Failed after it was undone."""
        from virtsnap.plan import save

        self.writable("virDomainManagedSave")
        flag = save.check_flags(flags, "qemuDomainManagedSave")
        async with self.operation(uuid, progress) as world:
            managed = ManagedSave.of(self.root, uuid)
            os.makedirs(os.path.dirname(managed.path), mode=0o700, exist_ok=True)
            described = await self._described(world.record(), None)
            monitor = await world.monitor()
            format = save.managed_format(monitor.version if monitor is not None else ())
            request = save.SaveRequest(managed.path, flag, described, format, note=managed.note)
            await self._save(world, request)

    async def _described(self, record: DomainRecord, xml: str | None) -> str:
        """What the image says of the domain: its live definition, or one for the same hardware."""
        from virtsnap.formats.domain_xml import DomainDefinition

        if record.live_xml is None:
            raise OperationInvalid("domain is not running")
        live = DomainDefinition.parse(DomainDefinition.parse(record.live_xml).to_inactive_xml())
        if xml is not None:
            live = await self._same_hardware(live, xml)
        return live.to_xml()

    async def _save(self, world: World, request: SaveRequest) -> None:
        from virtsnap.formats.save_image import SaveFormat
        from virtsnap.plan import save
        from virtsnap.qemu import compress
        from virtsnap.qemu import facts as reader

        format = SaveFormat[request.format.upper()]
        if format in compress.COMPRESSED:
            compress.program(format)
        if os.path.isdir(request.path):
            raise SystemRefused(f"Failed to create file '{request.path}': Is a directory")
        facts = await self._facts(world)
        facts = await reader.with_files(facts, save.paths_of(world.record(), request))
        await self.run(world, save.plan_save(facts, request), facts)

    def _forget_transient(self, world: World) -> None:
        from virtsnap.engine import swtpm

        record = world.record()
        if not record.persistent and not record.active:
            with self.store.transaction() as tx:
                tx.delete_domain(record.uuid)
            swtpm.forget(str(self.root), record.config_xml)

    async def _same_hardware(self, source: DomainDefinition, xml: str) -> DomainDefinition:
        """A definition that the user gave in the place of `source`. Raises ConfigUnsupported, XmlError."""
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.machine import abi
        from virtsnap.machine.launch import Launch

        target = await self.completed(DomainDefinition.parse(xml))
        caps = await self.capabilities(target.emulator)
        abi.check(await self.completed(source), target, Launch(run_dir="/", qemu_version=caps.version))
        return target

    # --- restore ---------------------------------------------------------------------------------------

    async def restore(
        self,
        path: str,
        xml: str | None = None,
        flags: int = 0,
        *,
        channels: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> DomainHandle:
        """Bring back what a file holds; the file stays. A domain not defined becomes transient."""
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.plan import save
        from virtsnap.qemu.facts import mappable_memory

        self.writable("virDomainRestoreFlags")
        flag = save.check_flags(flags, "qemuDomainRestoreFlags", allowed=DomainSaveRestore(15))
        path = os.path.abspath(path)
        header = _whole(path)
        source = DomainDefinition.parse(header.xml)
        definition = await (self.completed(source) if xml is None else self._same_hardware(source, xml))
        request = _request(path, header, definition, flag, channels)
        if not flag & DomainSaveRestore.BYPASS_CACHE and channels is None:
            # The file is the user's, who may write over it.
            cache = self.root / "cache"
            request = replace(request, mapped=await mappable_memory(path, definition, cache, shared=True))
        assert definition.uuid is not None
        async with self._restoring(definition, progress) as world:
            await self._restore(world, request)
            return _handle(world.record())

    @contextlib.asynccontextmanager
    async def _restoring(
        self, definition: DomainDefinition, progress: ProgressCallback | None
    ) -> AsyncIterator[World]:
        """The lock of the domain that comes back, which may have to be made first."""
        uuid, name = definition.uuid, definition.name
        assert uuid is not None
        self._check_identity(uuid, name)
        if self.store.domain(uuid) is not None:
            async with self.operation(uuid, progress) as world:
                yield world
            return
        async with DomainLock(self.root, uuid).acquired():
            self._check_identity(uuid, name)
            with self.store.transaction() as tx:
                tx.put_domain(DomainRecord(uuid, name, definition.to_inactive_xml(), persistent=False))
            world = self._world(uuid, progress)
            try:
                yield world
            finally:
                await world.close()
                overhear(self.store, uuid)
                if self.store.journal(uuid) is None:
                    self._forget_transient(world)

    def _world(self, uuid: str, progress: ProgressCallback | None) -> World:
        from virtsnap.engine.world import World
        from virtsnap.service.interface import Progress

        def report(label: str, done: int, total: int) -> None:
            if progress is not None:
                progress(Progress(label, done, total))

        return World(self.root, self.store, uuid, report)

    def _check_identity(self, uuid: str, name: str) -> None:
        same_uuid, same_name = self.store.domain(uuid), self.store.domain_by_name(name)
        if same_uuid is not None and same_uuid.name != name:
            raise OperationFailed(f"domain '{same_uuid.name}' is already defined with uuid {uuid}")
        if same_name is not None and same_name.uuid != uuid:
            raise OperationFailed(f"domain '{name}' already exists with uuid {same_name.uuid}")

    async def _restore(self, world: World, request: RestoreRequest) -> None:
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.plan import save

        caps = await self.capabilities(DomainDefinition.parse(request.xml).emulator)
        with self.store.transaction() as tx:
            id = tx.next_domain_id()
        root, version = str(self.root), caps.version
        await self.run(world, save.plan_restore(world.record(), request, id=id, root=root, version=version))

    async def _start_saved(self, world: World, flag: DomainStart) -> bool:
        """Resume the managed save, if there is one to be resumed."""
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.qemu.facts import mappable_memory

        record = world.record()
        managed = ManagedSave.of(self.root, record.uuid)
        if not managed.exists:
            return False
        if flag & DomainStart.FORCE_BOOT:
            managed.remove()
            return False
        header = managed.read()
        if header is None:
            return False
        saved = DomainDefinition.parse(header.xml)
        check_owner(record, saved)
        saved = await on_present_disks(managed, record, saved)
        wish = DomainSaveRestore.PAUSED if flag & DomainStart.PAUSED else DomainSaveRestore(0)
        if flag & DomainStart.BYPASS_CACHE:
            wish |= DomainSaveRestore.BYPASS_CACHE
        if flag & DomainStart.RESET_NVRAM:
            wish |= DomainSaveRestore.RESET_NVRAM
        completed = await self.completed(saved)
        request = _request(managed.path, header, completed, wish, None)
        if not flag & DomainStart.BYPASS_CACHE:
            # The file is ours alone and goes.
            cache = self.root / "cache"
            request = replace(request, mapped=await mappable_memory(managed.path, completed, cache))
        used_up = (managed.path, managed.note)
        by_user = bool(flag & DomainStart.PAUSED)
        await self._restore(world, replace(request, removes=used_up, paused_by_user=by_user))
        return True

    # --- the files -------------------------------------------------------------------------------------

    async def save_image_xml(self, path: str, flags: int = 0) -> str:
        """The definition in a saved file. Raises what reading its head does."""
        self.writable("virDomainSaveImageGetXMLDesc")
        _xml_flags(flags, "qemuDomainSaveImageGetXMLDesc")
        return _image_xml(os.path.abspath(path), flags)

    async def save_image_define_xml(self, path: str, xml: str, flags: int = 0) -> None:
        """Change the definition in a saved file, and whether the guest goes on."""
        from virtsnap.plan import save

        self.writable("virDomainSaveImageDefineXML")
        flag = save.check_flags(
            flags,
            "qemuDomainSaveImageDefineXML",
            allowed=DomainSaveRestore.RUNNING | DomainSaveRestore.PAUSED,
        )
        await self._define_image(os.path.abspath(path), xml, flag)

    async def _define_image(self, path: str, xml: str, flag: DomainSaveRestore) -> None:
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.qemu import memory

        header = memory.read_header(path)
        runs = _runs(header, flag)
        if xml == header.xml and runs == header.was_running:
            return
        definition = await self._same_hardware(DomainDefinition.parse(header.xml), xml)
        changed = replace(header, xml=definition.to_inactive_xml(), was_running=runs)
        await memory.rewrite_header(path, changed)

    async def managed_save_xml(self, uuid: str, flags: int = 0) -> str:
        """The definition in the managed save. Raises OperationInvalid where there is none."""
        if flags & DomainXml.SECURE:
            self.may_see_secrets("virDomainManagedSaveGetXMLDesc")
        _xml_flags(flags, "qemuDomainManagedSaveGetXMLDesc")
        await self.look(uuid)
        return _image_xml(self._managed(uuid).path, flags)

    async def managed_save_define_xml(self, uuid: str, xml: str, flags: int = 0) -> None:
        """Change the definition in the managed save, and whether the guest goes on."""
        from virtsnap.plan import save

        self.writable("virDomainManagedSaveDefineXML")
        flag = save.check_flags(
            flags,
            "qemuDomainManagedSaveDefineXML",
            allowed=DomainSaveRestore.RUNNING | DomainSaveRestore.PAUSED,
        )
        async with self.operation(uuid):
            await self._define_image(self._managed(uuid).path, xml, flag)

    def _managed(self, uuid: str) -> ManagedSave:
        managed = ManagedSave.of(self.root, uuid)
        if not managed.exists:
            raise OperationInvalid("domain does not have managed save image")
        return managed

    async def managed_save_remove(self, uuid: str, flags: int = 0) -> None:
        """Delete the managed save. Raises SystemRefused where there is none."""
        self.writable("virDomainManagedSaveRemove")
        if flags:
            raise BareInvalidArg(f"unsupported flags (0x{flags:x}) in function qemuDomainManagedSaveRemove")
        async with self.operation(uuid):
            managed = ManagedSave.of(self.root, uuid)
            if not managed.exists:
                raise SystemRefused("Failed to remove managed save file: No such file or directory")
            managed.remove()


def _handle(record: DomainRecord) -> DomainHandle:
    return DomainHandle(record.uuid, record.name, record.instance.id if record.instance else None)


def _xml_flags(flags: int, function: str) -> None:
    unknown = flags & ~DomainXml.SECURE
    if unknown:
        raise BareInvalidArg(f"unsupported flags (0x{unknown:x}) in function {function}")


def _whole(path: str) -> SaveImageHeader:
    from virtsnap.qemu import memory

    header = memory.read_header(path)
    memory.check_whole(path, header)
    return header


def _image_xml(path: str, flags: int) -> str:
    from virtsnap.formats.domain_xml import DomainDefinition
    from virtsnap.qemu import memory

    definition = DomainDefinition.parse(memory.read_header(path).xml)
    return (definition if flags & DomainXml.SECURE else definition.without_secrets()).to_inactive_xml()


def _runs(header: SaveImageHeader, flag: DomainSaveRestore) -> bool:
    return bool(flag & DomainSaveRestore.RUNNING) or (
        header.was_running and not flag & DomainSaveRestore.PAUSED
    )


def _request(
    path: str,
    header: SaveImageHeader,
    definition: DomainDefinition,
    flag: DomainSaveRestore,
    channels: int | None,
) -> RestoreRequest:
    from virtsnap.formats.save_image import SaveFormat
    from virtsnap.plan.save import RestoreRequest
    from virtsnap.qemu import compress

    sparse = header.format is SaveFormat.SPARSE
    if channels is not None and not sparse:
        raise InvalidArg("Parallel save is only supported with the 'sparse' save image format")
    if channels is not None and channels < 1:
        raise InvalidArg("number of parallel save channels cannot be less than 1")
    if header.format in compress.COMPRESSED:
        compress.program(header.format)
    return RestoreRequest(
        path,
        flag,
        definition.to_inactive_xml(),
        _runs(header, flag),
        sparse,
        channels,
        Reason.PAUSED_MIGRATION,
    )
