"""The calls that add, take out and change devices.

Of the definition any that it may have. Of what runs only the medium of a drive: nothing is plugged into a
running machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from virtsnap.formats import device_xml
from virtsnap.formats.domain_xml import DomainDefinition, read_disk
from virtsnap.model.errors import InvalidArg, OperationInvalid, OperationUnsupported
from virtsnap.service.context import affected
from virtsnap.service.hardware import HardwareCalls

if TYPE_CHECKING:
    from lxml import etree

    from virtsnap.engine.world import World

_FORCE = 4
_REMOVABLE = ("cdrom", "floppy")


class DeviceCalls(HardwareCalls):
    """See the module's text; the daemon offers these."""

    async def attach_device(self, uuid: str, xml: str, flags: int) -> None:
        """Raises OperationUnsupported while it runs, and what the definition does."""
        self.writable("virDomainAttachDeviceFlags")
        await self._change(uuid, xml, flags, "attach", device_xml.attached)

    async def detach_device(self, uuid: str, xml: str, flags: int) -> None:
        """The same the other way."""
        self.writable("virDomainDetachDeviceFlags")
        await self._change(uuid, xml, flags, "detach", device_xml.detached)

    async def detach_device_alias(self, uuid: str, alias: str, flags: int) -> None:
        """The same by its alias."""
        self.writable("virDomainDetachDeviceAlias")
        async with self.operation(uuid) as world:
            live, _ = affected(world.record(), flags, "qemuDomainDetachDeviceAlias")
            if live:
                raise OperationUnsupported("live detach of devices is not supported")
            await self._change_config(world, lambda old: device_xml.detached_alias(old, alias))

    async def update_device(self, uuid: str, xml: str, flags: int) -> None:
        """Raises OperationUnsupported for all that runs, but media of drives."""
        self.writable("virDomainUpdateDeviceFlags")
        force = bool(flags & _FORCE)
        async with self.operation(uuid) as world:
            record = world.record()
            live, config = affected(record, flags & ~_FORCE, "qemuDomainUpdateDeviceFlags")
            device = device_xml.parse_device(xml)
            if live:
                await self._change_medium(world, device, config=config, force=force)
            elif config:
                await self._change_config(world, lambda old: device_xml.updated(old, device))

    async def _change(
        self,
        uuid: str,
        xml: str,
        flags: int,
        what: str,
        change: Callable[[DomainDefinition, etree._Element], DomainDefinition],
    ) -> None:
        async with self.operation(uuid) as world:
            live, _ = affected(world.record(), flags, f"qemuDomain{what.capitalize()}DeviceFlags")
            device = device_xml.parse_device(xml)
            if live:
                raise OperationUnsupported(f"live {what} of device '{device.tag}' is not supported")
            await self._change_config(world, lambda old: change(old, device))

    # --- media -----------------------------------------------------------------------------------------

    async def _change_medium(
        self, world: World, device: etree._Element, *, config: bool, force: bool
    ) -> None:
        from virtsnap.engine.runner import Runner
        from virtsnap.plan.media import plan_change_medium
        from virtsnap.qemu import blocks, images

        record, monitor = world.record(), await world.monitor()
        text = record.config_xml
        left: tuple[str, ...] = ()
        if config:  # what it refuses is refused before a medium has changed
            text, left = await self._changed_config(record, lambda old: device_xml.updated(old, device))
        if monitor is None or record.live_xml is None:
            raise OperationInvalid("domain is not running")
        if device.tag != "disk":
            raise OperationUnsupported(f"live update of device '{device.tag}' is not supported")
        definition = DomainDefinition.parse(record.live_xml)
        new = read_disk(device)
        drive = definition.disk(new.target)
        if drive is None:
            raise InvalidArg(f"disk '{new.target}' not found")
        if drive.device not in _REMOVABLE or new.device != drive.device:
            raise OperationUnsupported(f"disk '{new.target}' cannot be changed while the domain runs")
        if new.type not in ("file", "block"):
            raise OperationUnsupported(f"a medium of type '{new.type}' is not supported")
        if new.source is not None:
            await images.look(new.source, new.format)  # it is there, and of that format
        changed = definition.with_disk_source(new.target, new.source, new.format, new.type)
        top = (await blocks.top_nodes(monitor, {drive.target: drive.alias or ""})).get(drive.target)
        plan = plan_change_medium(
            replace(record, config_xml=text, live_xml=changed.to_xml()),
            drive,
            new,
            node=await blocks.next_node_number(monitor),
            before=None if top is None else top.node_name,
            force=force,
            left=left,
        )
        await Runner(world).run(plan)
