"""Domains that exist only while they run, and what can be changed of a definition by itself."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from virtsnap.engine.telling import tell
from virtsnap.model.domain import DomainRecord
from virtsnap.model.errors import (
    BareInvalidArg,
    InvalidArg,
    OperationInvalid,
    OperationUnsupported,
    VirtsnapError,
)
from virtsnap.model.event import Change, EventKind
from virtsnap.model.flags import DomainModification, DomainStart
from virtsnap.service import schemas
from virtsnap.service.context import affected
from virtsnap.service.interface import DomainHandle
from virtsnap.service.saves import SaveCalls

if TYPE_CHECKING:
    from virtsnap.formats.domain_xml import DomainDefinition

_CREATE = DomainStart.PAUSED | DomainStart.AUTODESTROY | DomainStart.VALIDATE | DomainStart.RESET_NVRAM


class DefinitionCalls(SaveCalls):
    """See `service.interface.Service`."""

    async def create_xml(self, xml: str, flags: int = 0) -> DomainHandle:
        """Start a domain from XML. Raises OperationInvalid when it runs, and what `create` does."""
        from virtsnap.engine.runner import Runner
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.model.steps import StoreWrite
        from virtsnap.plan.lifecycle import plan_start

        self.writable("virDomainCreateXML")
        allowed = (
            DomainStart.PAUSED | DomainStart.AUTODESTROY | DomainStart.VALIDATE | DomainStart.RESET_NVRAM
        )
        if unknown := flags & ~allowed:
            raise BareInvalidArg(f"unsupported flags (0x{unknown:x}) in function qemuDomainCreateXML")
        if flags & DomainStart.AUTODESTROY:
            raise OperationUnsupported("autodestroy needs a daemon that watches the client")
        if flags & DomainStart.VALIDATE:
            schemas.validate(xml, "domain")
        definition = await self.completed(DomainDefinition.parse(xml))
        async with self._restoring(definition, None) as world:
            record = world.record()
            if record.active:
                raise OperationInvalid(f"domain '{record.name}' is already active")
            with self.store.transaction() as tx:
                id = tx.next_domain_id()
            plan = plan_start(
                replace(record, config_xml=definition.to_inactive_xml()),
                id=id,
                root=str(self.root),
                paused=bool(flags & DomainStart.PAUSED),
                fresh_nvram=bool(flags & DomainStart.RESET_NVRAM),
            )
            if record.persistent:
                # What is defined stays as it is; it is this life that goes by the XML.
                assert isinstance(plan.commit, StoreWrite)
                assert plan.commit.record is not None
                kept = replace(plan.commit.record, config_xml=record.config_xml)
                plan = replace(plan, commit=replace(plan.commit, record=kept))
            await Runner(world).run(plan)
            now = world.record()
            assert now.instance is not None
            return DomainHandle(now.uuid, now.name, now.instance.id)

    async def set_autostart(self, uuid: str, autostart: bool) -> None:
        """Raises OperationInvalid for a transient domain."""
        self.writable("virDomainSetAutostart")
        async with self.operation(uuid) as world:
            record = world.record()
            if not record.persistent:
                raise OperationInvalid("cannot set autostart for transient domain")
            with self.store.transaction() as tx:
                tx.put_domain(replace(record, autostart=autostart))

    async def autostart_domains(self) -> None:
        """Start what is to start with the host, once for each time that the host has started."""
        mark = self.root / "autostarted"
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        if mark.exists() and mark.read_text() == boot:
            return
        mark.write_text(boot)
        for record in self.store.domains():
            if record.autostart and not record.active:
                try:
                    await self.create(record.uuid)
                except VirtsnapError as error:
                    logging.getLogger("virtsnap").warning(
                        "Failed to autostart VM '%s': %s", record.name, error
                    )

    async def metadata(self, uuid: str, type: int, uri: str | None = None, flags: int = 0) -> str:
        """Raises NoMetadata where there is none."""
        from virtsnap.formats.metadata_xml import get_metadata

        config = self._of_config(await self.look(uuid), flags, "qemuDomainGetMetadata")
        return get_metadata(self._definition(await self.look(uuid), config), _type(type), uri)

    async def set_metadata(
        self,
        uuid: str,
        type: int,
        text: str | None,
        key: str | None = None,
        uri: str | None = None,
        flags: int = 0,
    ) -> None:
        """Raises OperationInvalid where the state does not fit the flags, XmlDetail, InvalidArg."""
        from virtsnap.formats.metadata_xml import set_metadata

        self.writable("virDomainSetMetadata")
        async with self.operation(uuid) as world:
            record = world.record()
            config = self._of_config(record, flags, "qemuDomainSetMetadata")
            changed = record
            if config or flags & DomainModification.CONFIG:
                new = set_metadata(self._definition(record, True), _type(type), text, key, uri)
                changed = replace(changed, config_xml=new.to_inactive_xml())
            if not config:
                new = set_metadata(self._definition(record, False), _type(type), text, key, uri)
                changed = replace(changed, live_xml=new.to_xml())
            what = Change(EventKind.METADATA_CHANGE, {"type": type, "uri": uri or ""})
            with self.store.transaction() as tx:
                tx.put_domain(changed)
                tell(tx, changed, what)

    def _of_config(self, record: DomainRecord, flags: int, function: str) -> bool:
        """The flags mean the definition, not what runs."""
        live, _ = affected(record, flags, function)
        return not live

    def _definition(self, record: DomainRecord, config: bool) -> DomainDefinition:
        from virtsnap.formats.domain_xml import DomainDefinition

        return DomainDefinition.parse(record.config_xml if config else record.live_xml or record.config_xml)


def _type(number: int) -> MetadataType:
    from virtsnap.formats.metadata_xml import MetadataType

    try:
        return MetadataType(number)
    except ValueError as error:
        raise InvalidArg(f"unknown metadata type {number}") from error


if TYPE_CHECKING:
    from virtsnap.formats.metadata_xml import MetadataType
