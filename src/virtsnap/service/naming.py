"""The call that gives a domain another name. Everything of ours is named by uuid and stays where it is."""

from __future__ import annotations

from dataclasses import replace

from virtsnap.engine.telling import tell
from virtsnap.model.errors import BareInvalidArg, OperationInvalid, XmlError
from virtsnap.model.event import Detail
from virtsnap.service.context import Context
from virtsnap.service.interface import DomainHandle
from virtsnap.service.managed import ManagedSave


class NamingCalls(Context):
    """See `service.interface.Service`."""

    async def rename(self, uuid: str, name: str, flags: int = 0) -> DomainHandle:
        """Raises OperationInvalid while the domain runs, is saved, or the name is taken; XmlError."""
        from virtsnap.formats.domain_xml import DomainDefinition

        self.writable("virDomainRename")
        if flags:
            raise BareInvalidArg(f"unsupported flags (0x{flags:x}) in function qemuDomainRename")
        async with self.operation(uuid) as world:
            record = world.record()
            if record.active:
                raise OperationInvalid("cannot rename active domain")
            if ManagedSave.of(self.root, uuid).exists:
                raise OperationInvalid("domain with a managed saved state can't be renamed")
            if name == record.name:
                raise OperationInvalid("Can't rename domain to itself")
            if self.store.domain_by_name(name) is not None:
                raise OperationInvalid(f"domain with name '{name}' already exists")
            for letter, shown in (("\n", "\\n"), ("/", "/")):
                if letter in name:
                    raise XmlError(f"name {name} cannot contain '{shown}'")
            text = DomainDefinition.parse(record.config_xml).with_name(name).to_inactive_xml()
            renamed = replace(record, name=name, config_xml=text)
            with self.store.transaction() as tx:
                tx.put_domain(renamed)
                tell(tx, record, Detail.UNDEFINED_RENAMED)
                tell(tx, renamed, Detail.DEFINED_RENAMED)
        return DomainHandle(uuid, name, None)
