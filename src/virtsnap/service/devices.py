"""The calls that add, take out and change devices.

Of the definition any that it may have. Of what runs only the medium of a drive: nothing is plugged into a
running machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from virtsnap.formats import device_xml
from virtsnap.formats.domain_xml import DomainDefinition, DomainDisk, read_disk
from virtsnap.model.errors import InvalidArg, OperationInvalid, OperationUnsupported
from virtsnap.service.context import affected
from virtsnap.service.hardware import HardwareCalls

if TYPE_CHECKING:
    from lxml import etree

    from virtsnap.engine.world import World
    from virtsnap.qemu.monitor import Monitor

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
            if config:  # refused here, before a medium has changed
                device_xml.updated(DomainDefinition.parse(record.config_xml), device)
            if live:
                await self._change_medium(world, device, force=force)
            if config:
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

    async def _change_medium(self, world: World, device: etree._Element, *, force: bool) -> None:
        from virtsnap.qemu import blocks, images

        record, monitor = world.record(), await world.monitor()
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
        await _insert(monitor, drive, new, await blocks.next_node_number(monitor), force=force)
        changed = definition.with_disk_source(new.target, new.source, new.format, new.type)
        with self.store.transaction() as tx:
            tx.put_domain(replace(world.record(), live_xml=changed.to_xml()))


async def _insert(monitor: Monitor, drive: DomainDisk, new: DomainDisk, number: int, *, force: bool) -> None:
    """Take the medium out and put another one in; none of its nodes stays when QEMU refuses."""
    from virtsnap.engine.steps.layers import format_node, storage_node
    from virtsnap.machine.disk_args import blockdevs
    from virtsnap.machine.launch import Layer
    from virtsnap.qemu import blocks

    names = [format_node(number), storage_node(number)]
    before = (await blocks.top_nodes(monitor, {drive.target: drive.alias or ""})).get(drive.target)
    nodes: list[dict[str, Any]] = []
    if new.source is not None:
        nodes = blockdevs(drive, (Layer(new.source, new.format, new.type),), number)
    try:
        for node in nodes:
            await monitor.execute_raw("blockdev-add", node)
        await monitor.execute("blockdev-open-tray", id=drive.alias, force=force)
        await monitor.execute("blockdev-remove-medium", id=drive.alias)
        if nodes:
            await monitor.execute("blockdev-insert-medium", id=drive.alias, node_name=names[0])
    except BaseException:
        if not monitor.lost:
            await blocks.del_nodes(monitor, names)
        raise
    await monitor.execute("blockdev-close-tray", id=drive.alias)
    if before is not None:
        old = before.node_name
        await blocks.del_nodes(monitor, [old, old.replace("-format", "-storage")])
