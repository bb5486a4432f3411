"""The calls on what a running domain's disks do: their figures, their errors, their size."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from virtsnap.model.errors import BareInvalidArg, InvalidArg, OperationInvalid, OperationUnsupported, Overflow
from virtsnap.model.flags import BlockResize
from virtsnap.service.context import Context
from virtsnap.service.questions import ask

if TYPE_CHECKING:
    from virtsnap.formats.domain_xml import DomainDisk

_STATS = {
    "rd_operations": "rd_operations",
    "rd_bytes": "rd_bytes",
    "rd_total_times": "rd_total_time_ns",
    "wr_operations": "wr_operations",
    "wr_bytes": "wr_bytes",
    "wr_total_times": "wr_total_time_ns",
    "flush_operations": "flush_operations",
    "flush_total_times": "flush_total_time_ns",
}
"""libvirt's name of a figure (VIR_DOMAIN_BLOCK_STATS_) to QEMU's."""
_ERRORS = {"failed": 1, "nospace": 2}
"""query-block's io-status to virDomainDiskErrorCode."""
_LARGEST = (1 << 64) - 1
_DEVICES = "/machine/peripheral/"
_NODE = re.compile(r"libvirt-(\d+)-(?:format|storage)")


class BlockDeviceCalls(Context):
    """See `service.interface.Service`."""

    async def block_stats(self, uuid: str, path: str) -> dict[str, int]:
        """The figures of a disk, or of all. Raises OperationInvalid, InvalidArg for an unknown disk."""
        found = [
            figures
            for disk, figures in await self._figures(uuid)
            if not path or (not disk.empty and path in (disk.target, disk.source))
        ]
        if path and not found:
            raise InvalidArg(f"invalid path: {path}")
        return {name: sum(figures[name] for figures in found) for name in _STATS}

    async def _figures(self, uuid: str) -> list[tuple[DomainDisk, dict[str, int]]]:
        from virtsnap.formats.domain_xml import DomainDefinition

        record = await self.look(uuid)
        if record.live_xml is None:
            raise OperationInvalid("domain is not running")
        disks = DomainDefinition.parse(record.live_xml).disks
        found = counted(disks, await ask(record, "query-blockstats"))
        return [(disk, found[disk.target]) for disk in disks]

    async def disk_errors(self, uuid: str) -> dict[str, int]:
        """virDomainDiskErrorCode by target. Raises OperationInvalid."""
        from virtsnap.formats.domain_xml import DomainDefinition

        record = await self.look(uuid)
        if record.live_xml is None:
            raise OperationInvalid("domain is not running")
        disks = {disk.alias: disk.target for disk in DomainDefinition.parse(record.live_xml).disks}
        found = {}
        for entry in await ask(record, "query-block"):
            error = _ERRORS.get(entry.get("io-status", "ok"))
            target = disks.get(_alias(entry))
            if error is not None and target is not None:
                found[target] = error
        return found

    async def io_errors(self, uuid: str) -> list[str]:
        """The last one of each disk since the domain was started, in libvirt's words."""
        from virtsnap.engine.world import events_path
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.qemu.events import read_events

        record = await self.look(uuid)
        if record.live_xml is None or record.instance is None:
            return []
        last = {}
        for event in read_events(events_path(record.instance.run_dir)):
            if event.name == "BLOCK_IO_ERROR" and event.data.get("reason"):
                last[event.data.get("qom-path", "").removeprefix(_DEVICES).partition("/")[0]] = event
        found = []
        for disk in DomainDefinition.parse(record.live_xml).disks:
            told = last.get(disk.alias or "")
            node = _NODE.fullmatch("" if told is None else str(told.data.get("node-name", "")))
            if told is None or node is None:
                continue
            when = datetime.fromtimestamp(told.seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
            found.append(
                f"I/O error: disk='{disk.target}', index='{node[1]}', path='{disk.source}',"
                f" timestamp='{when}.{told.microseconds // 1000:03d}+0000',"
                f" message='{told.data['reason']}'"
            )
        return found

    async def block_resize(self, uuid: str, path: str, size: int, flags: int = 0) -> None:
        """Give a disk another size. Raises OperationInvalid, InvalidArg, Failed with QEMU's cause."""
        from virtsnap.engine.steps.layers import tops_by_target
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.qemu import images

        self.writable("virDomainBlockResize")
        if unknown := flags & ~sum(BlockResize):
            raise BareInvalidArg(f"unsupported flags (0x{unknown:x}) in function qemuDomainBlockResize")
        if not flags & BlockResize.BYTES:
            if size > _LARGEST >> 10:
                raise Overflow(f"size must be less than {_LARGEST >> 10}")
            size <<= 10
        async with self.operation(uuid) as world:
            record = world.record()
            monitor = await world.monitor()
            if monitor is None or record.live_xml is None:
                raise OperationInvalid("domain is not running")
            disks = DomainDefinition.parse(record.live_xml).disks
            disk = next((disk for disk in disks if path in (disk.target, disk.source)), None)
            if disk is None:
                raise InvalidArg(f"disk '{path}' was not found in the domain config")
            top = (await tops_by_target(world, monitor)).get(disk.target)
            if disk.empty or top is None:
                raise InvalidArg(f"disk '{disk.target}' does not currently have a source assigned")
            if flags & BlockResize.CAPACITY:
                if disk.format != "raw" or disk.type != "block" or disk.source is None:
                    raise OperationUnsupported(
                        "block resize to full capacity supported only with 'raw' local block-based disks"
                    )
                capacity = (await images.info(disk.source, format="raw")).virtual_size
                if size and size != capacity:
                    raise InvalidArg(f"Requested resize to '{size}' but device size is '{capacity}'")
                size = capacity
            if disk.format in ("qcow2", "qed"):
                size = -(-size // 512) * 512
            await monitor.execute("block_resize", node_name=top.node_name, size=size)


def counted(disks: Iterable[DomainDisk], entries: Iterable[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """What query-blockstats tells of the disks of a running domain, by target."""
    found = {disk.alias: (disk.target, dict.fromkeys(_STATS, 0)) for disk in disks}
    for entry in entries:
        _, figures = found.get(_alias(entry), ("", None))
        if figures is not None:
            for name, theirs in _STATS.items():
                figures[name] += int(entry["stats"][theirs])
    return dict(found.values())


def _alias(entry: dict[str, Any]) -> str | None:
    """The device of an entry of query-blockstats or query-block."""
    path: str = entry.get("qdev") or entry.get("device") or ""
    return path.removeprefix(_DEVICES).split("/")[0] or None
