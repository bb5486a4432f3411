"""The figures of a running domain that monitors ask for every few seconds, all at once.

QEMU is asked in one exchange, the kernel by /proc. What is not here: figures of single calls (`hardware`,
`block_devices`), and what they are called on the wire.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from virtsnap.formats.domain_summary import DomainSummary, summary
from virtsnap.formats.domain_xml import DiskLayer
from virtsnap.model.domain import BlockInfo
from virtsnap.model.errors import OperationInvalid
from virtsnap.model.frozen import dataclass
from virtsnap.qemu import process
from virtsnap.qemu.monitor import QmpCommandFailed
from virtsnap.service.block_devices import counted
from virtsnap.service.context import Context
from virtsnap.service.domains import image_sizes
from virtsnap.service.hardware import RSS, told_by_guest
from virtsnap.service.questions import ask_each

_ASKED = {"vcpus": "query-cpus-fast", "disks": "query-blockstats", "dirty_rate": "query-dirty-rate"}
"""What QEMU is asked for a figure."""
_DIRTY_STATUS = {"unstarted": 0, "measuring": 1, "measured": 2}
"""QEMU's word to virDomainDirtyRateStatus."""


@dataclass(frozen=True)
class VcpuFigures:
    """A virtual processor's thread; nanoseconds."""

    number: int
    time: int
    wait: int
    delay: int


@dataclass(frozen=True)
class DirtyRate:
    """The last measurement of how fast the guest changes its memory, as QEMU tells it."""

    status: int
    """virDomainDirtyRateStatus."""
    start: int
    """Seconds of the host's clock; 0 without one."""
    seconds: int
    mode: str
    mib_per_second: int | None
    vcpus: tuple[tuple[int, int], ...]
    """Number and MiB a second, where the mode tells them apart."""


@dataclass(frozen=True)
class Figures:
    """What is known of a running domain beside its state. Empty or None where QEMU does not tell, or was not
    asked."""

    cpu: tuple[int, int] | None
    """User and system time of its process, nanoseconds."""
    memory: tuple[tuple[int, int], ...]
    """virDomainMemoryStatTags and values, without the balloon's size."""
    vcpus: tuple[VcpuFigures, ...]
    disks: dict[str, dict[str, int]]
    """By target; the names are those of virDomainBlockStatsFlags."""
    dirty_rate: DirtyRate | None


class FigureCalls(Context):
    """See the module's text; the daemon offers these."""

    async def figures(self, uuid: str, wanted: Collection[str]) -> Figures:
        """`wanted`: the names of the figures that QEMU is asked for; "cpu" is there in any case.

        Raises OperationInvalid when it does not run, ResourceBusy when QEMU does not answer.
        """
        record, facts = await self.look(uuid), await self.summary(uuid)
        if record.instance is None:
            raise OperationInvalid("domain is not running")
        commands: dict[str, tuple[str, dict[str, Any]]] = {
            name: (command, {}) for name, command in _ASKED.items() if name in wanted
        }
        if "memory" in wanted and facts.balloon is not None:
            path = f"/machine/peripheral/{facts.balloon}"
            commands["memory"] = "qom-get", {"path": path, "property": "guest-stats"}
        answers = zip(commands, await ask_each(record, list(commands.values())), strict=True)
        told = {name: answer for name, answer in answers if not isinstance(answer, QmpCommandFailed)}
        rss = process.rss_kib(record.instance)
        return Figures(
            cpu=process.cpu_times_ns(record.instance),
            memory=(
                *(told_by_guest(told["memory"]) if "memory" in told else ()),
                *(() if rss is None else ((RSS, rss),)),
            ),
            vcpus=tuple(
                found
                for cpu in told.get("vcpus", ())
                if (found := _vcpu(record.instance.pid, cpu)) is not None
            ),
            disks=counted(facts.disks, told["disks"]) if "disks" in told else {},
            dirty_rate=_dirty_rate(told["dirty_rate"]) if "dirty_rate" in told else None,
        )

    async def summary(self, uuid: str) -> DomainSummary:
        """What its definition says, as it lives. Raises NoDomain."""
        record = await self.look(uuid)
        sight = self.glances.at(uuid)
        return sight.summary if sight is not None else summary(record.live_xml or record.config_xml)

    async def layer_info(self, layer: DiskLayer) -> BlockInfo:
        """Sizes of an image. Raises SystemRefused, InternalRefused when it cannot be read."""
        return await image_sizes(layer.path, layer.format)


def _vcpu(pid: int, cpu: dict[str, Any]) -> VcpuFigures | None:
    """None for a thread that has ended."""
    time = process.thread_time_ns(pid, cpu["thread-id"])
    if time is None:
        return None
    waits = process.waits(pid, cpu["thread-id"])
    return VcpuFigures(cpu["cpu-index"], time, waits.wait_ns, waits.delay_ns)


def _dirty_rate(told: dict[str, Any]) -> DirtyRate:
    measured = told["status"] == "measured"
    return DirtyRate(
        status=_DIRTY_STATUS[told["status"]],
        start=told["start-time"],
        seconds=told["calc-time"],
        mode=told.get("mode", "page-sampling"),
        mib_per_second=told.get("dirty-rate") if measured else None,
        vcpus=tuple((one["id"], one["dirty-rate"]) for one in told.get("vcpu-dirty-rate", ()) if measured),
    )
