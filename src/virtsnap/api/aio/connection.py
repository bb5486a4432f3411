"""Connection: domains found, listed and defined. libvirt's virConnect."""

from __future__ import annotations

import os
import uuid as uuids
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from virtsnap import __version__
from virtsnap.api.aio.domain import Domain
from virtsnap.api.aio.events import Callbacks, EventCallback
from virtsnap.api.params import SaveParams
from virtsnap.model.errors import InvalidArg
from virtsnap.model.event import DomainEvent, EventKind
from virtsnap.model.flags import DomainList
from virtsnap.model.libvirt import LibvirtReport
from virtsnap.service.interface import ProgressCallback, Service


class Connection:
    """A way to domains. Close it, or use it as a context manager."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._open = True
        self._callbacks = Callbacks(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> int:
        """Let go of the service. Domains run on. Closing twice does nothing. Returns 0."""
        if self._open:
            self._open = False
            await self._callbacks.close()
            await self._service.close()
        return 0

    def isAlive(self) -> bool:
        """Not closed yet (virConnectIsAlive)."""
        return self._open

    def getURI(self) -> str:
        """The connection's URI, whole (virConnectGetURI)."""
        return self._service.uri

    def getType(self) -> str:
        """The kind of hypervisor: 'QEMU' (virConnectGetType)."""
        return "QEMU"

    def getHostname(self) -> str:
        """The host that domains run on (virConnectGetHostname)."""
        return os.uname().nodename

    def getLibVersion(self) -> int:
        """virtsnap's version, as libvirt counts: major * 1,000,000 + minor * 1,000 + micro."""
        major, minor, micro = (int(part) for part in __version__.split(".")[:3])
        return major * 1_000_000 + minor * 1_000 + micro

    async def getVersion(self) -> int:
        """QEMU's version, counted the same way (virConnectGetVersion)."""
        return await self._service.hypervisor_version()

    async def listAllDomains(self, flags: int = 0) -> list[Domain]:
        """Domains that pass the filters of `DomainList` (virConnectListAllDomains)."""
        return [Domain(self, handle) for handle in await self._service.list_domains(flags)]

    async def listDomainsID(self) -> list[int]:
        """Ids of the active domains (virConnectListDomains)."""
        handles = await self._service.list_domains(DomainList.ACTIVE)
        return [handle.id for handle in handles if handle.id is not None]

    async def listDefinedDomains(self) -> list[str]:
        """Names of the inactive domains (virConnectListDefinedDomains)."""
        return [handle.name for handle in await self._service.list_domains(DomainList.INACTIVE)]

    async def numOfDomains(self) -> int:
        """How many domains are active (virConnectNumOfDomains)."""
        return len(await self._service.list_domains(DomainList.ACTIVE))

    async def numOfDefinedDomains(self) -> int:
        """How many domains are inactive (virConnectNumOfDefinedDomains)."""
        return len(await self._service.list_domains(DomainList.INACTIVE))

    async def lookupByName(self, name: str) -> Domain:
        """The domain of that name. Raises NoDomain."""
        return Domain(self, await self._service.lookup_by_name(name))

    async def lookupByID(self, id: int) -> Domain:
        """The active domain of that id. Raises NoDomain."""
        return Domain(self, await self._service.lookup_by_id(id))

    async def lookupByUUIDString(self, uuidstr: str) -> Domain:
        """The domain of that uuid. Raises NoDomain, InvalidArg for what is no uuid."""
        try:
            uuid = str(uuids.UUID(uuidstr))
        except ValueError as error:
            raise InvalidArg(f"invalid UUID '{uuidstr}'") from error
        return Domain(self, await self._service.lookup_by_uuid(uuid))

    async def lookupByUUID(self, uuid: bytes) -> Domain:
        """The domain of that uuid, given as 16 bytes. Raises NoDomain, InvalidArg."""
        if len(uuid) != 16:
            raise InvalidArg("a raw UUID has 16 bytes")
        return Domain(self, await self._service.lookup_by_uuid(str(uuids.UUID(bytes=uuid))))

    async def defineXML(self, xml: str) -> Domain:
        """Define a domain, or replace its definition (virDomainDefineXML). See `defineXMLFlags`."""
        return await self.defineXMLFlags(xml, 0)

    async def defineXMLFlags(self, xml: str, flags: int = 0) -> Domain:
        """Define a domain, or replace its definition. Flags: `DomainDefine`.

        Raises XmlError or XmlDetail for XML that is wrong, ConfigUnsupported for what cannot be honoured,
        OperationFailed when the name belongs to another uuid.
        """
        return Domain(self, await self._service.define_xml(xml, flags))

    async def createXML(self, xmlDesc: str, flags: int = 0) -> Domain:
        """Start a domain that is forgotten when it ends, or a defined one by another XML
        (virDomainCreateXML). Flags: `DomainStart`. Raises OperationInvalid when it runs."""
        return Domain(self, await self._service.create_xml(xmlDesc, flags))

    async def getInfo(self) -> list[str | int]:
        """The host: processor, memory in MiB, number of CPUs, MHz, nodes, sockets, cores, threads
        (virNodeGetInfo)."""
        node = await self._service.node_info()
        places = [node.nodes, node.sockets, node.cores, node.threads]
        return [node.model, node.memory_kib // 1024, node.cpus, node.mhz, *places]

    async def getCapabilities(self) -> str:
        """What the host is and can run, as XML (virConnectGetCapabilities)."""
        return await self._service.capabilities_xml()

    async def getDomainCapabilities(
        self,
        emulatorbin: str | None = None,
        arch: str | None = None,
        machine: str | None = None,
        virttype: str | None = None,
        flags: int = 0,
    ) -> str:
        """What a domain of that kind may have, as XML (virConnectGetDomainCapabilities)."""
        return await self._service.domain_capabilities_xml(emulatorbin, arch, machine, virttype)

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[DomainEvent]]:
        """What happens to any domain from the moment the block is entered, whichever process does it:
        `async with conn.events() as events: async for event in events`."""
        return self._service.events()

    async def domainEventRegisterAny(
        self, dom: Domain | None, eventID: int, cb: EventCallback, opaque: object = None
    ) -> int:
        """Have `cb` called for each event of that kind (VIR_DOMAIN_EVENT_ID_), of one domain or of all
        (virConnectDomainEventRegisterAny). Returns the number that takes it back.

        `cb(connection, domain, *values, opaque)`, with libvirt-python's values. Raises InvalidArg.
        """
        return await self._callbacks.register(dom, eventID, cb, opaque)

    async def domainEventDeregisterAny(self, callbackID: int) -> int:
        """Call it no more (virConnectDomainEventDeregisterAny). Returns 0. Raises InvalidArg."""
        await self._callbacks.deregister(callbackID)
        return 0

    async def domainEventRegister(self, cb: EventCallback, opaque: object = None) -> int:
        """Have `cb(connection, domain, event, detail, opaque)` called for lifecycle events. Returns 0."""
        await self._callbacks.register(None, EventKind.LIFECYCLE, cb, opaque)
        return 0

    async def domainEventDeregister(self, cb: EventCallback) -> int:
        """Take `domainEventRegister` back. Returns 0. Raises InvalidArg."""
        number = self._callbacks.lifecycle_of(cb)
        if number is None:
            raise InvalidArg("could not find event callback for deletion")
        await self._callbacks.deregister(number)
        return 0

    async def restore(self, frm: str) -> int:
        """Bring back what a file holds (virDomainRestore). Returns 0. See `restoreParams`."""
        return await self.restoreFlags(frm)

    async def restoreFlags(self, frm: str, dxml: str | None = None, flags: int = 0) -> int:
        """Bring back what a file holds, `dxml` in the place of its XML (virDomainRestoreFlags). Returns 0."""
        params: dict[str, str | int] = {"file": frm}
        if dxml is not None:
            params["dxml"] = dxml
        return await self.restoreParams(params, flags)

    async def restoreParams(
        self, params: dict[str, str | int], flags: int = 0, *, progress: ProgressCallback | None = None
    ) -> int:
        """Bring back what a file holds (virDomainRestoreParams): the VIR_DOMAIN_SAVE_PARAM_ keys file, dxml
        and parallel.channels. Flags: `DomainSaveRestore`. Returns 0. The file stays.

        Raises OperationFailed for a file that is no whole image, ConfigUnsupported for XML of other hardware,
        OperationInvalid when the domain is active.
        """
        given = SaveParams.of(params)
        if given.file is None:
            raise InvalidArg("missing parameter 'file'")
        given.refuse_image_format()
        await self._service.restore(given.file, given.dxml, flags, channels=given.channels, progress=progress)
        return 0

    async def saveImageGetXMLDesc(self, file: str, flags: int = 0) -> str:
        """The XML in a saved file. Flags: `DomainXml.SECURE` (virDomainSaveImageGetXMLDesc)."""
        return await self._service.save_image_xml(file, flags)

    async def saveImageDefineXML(self, file: str, dxml: str, flags: int = 0) -> int:
        """Change the XML in a saved file (virDomainSaveImageDefineXML). Flags: `DomainSaveRestore`.
        Returns 0."""
        await self._service.save_image_define_xml(file, dxml, flags)
        return 0

    async def importLibvirt(
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
        """Take over a domain of a real libvirt with its whole snapshot tree, from libvirt's files on disk.

        `dir`: the folder with snapshot/ and save/ (None: the system's as root, else the session's).
        `definitions`: the folder with NAME.xml. `run_dir`: the folder that tells which domains are active.
        `leave_save`: without its managed save. libvirt's own files stay as they are, so it must not run the
        domain any more.

        Raises OperationInvalid with every reason; with `dry_run` they are the report's `problems`.
        """
        return await self._service.import_libvirt(
            name,
            dir=dir,
            definitions=definitions,
            run_dir=run_dir,
            leave_save=leave_save,
            dry_run=dry_run,
            progress=progress,
        )
