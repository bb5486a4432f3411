"""The calls on the machine while it runs: its processors, its memory, its button for debuggers.

Those that change the definition as well (`setmem --config`) change nothing else of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.errors import (
    InternalRefused,
    InvalidArg,
    OperationInvalid,
    OperationUnsupported,
)
from virtsnap.model.frozen import dataclass
from virtsnap.service.context import Context, affected, required_monitor
from virtsnap.service.questions import ask

if TYPE_CHECKING:
    from virtsnap.engine.world import World
    from virtsnap.model.domain import DomainRecord

_MAXIMUM = 4
"""VIR_DOMAIN_MEM_MAXIMUM and VIR_DOMAIN_VCPU_MAXIMUM."""
_HOTPLUGGABLE = 16
_NO_FIGURE = (1 << 64) - 1
_BALLOON_STATS = (
    ("stat-swap-in", 0, 1024),
    ("stat-swap-out", 1, 1024),
    ("stat-major-faults", 2, 1),
    ("stat-minor-faults", 3, 1),
    ("stat-free-memory", 4, 1024),
    ("stat-total-memory", 5, 1024),
    ("stat-available-memory", 8, 1024),
    ("stat-disk-caches", 10, 1024),
    ("stat-htlb-pgalloc", 11, 1),
    ("stat-htlb-pgfail", 12, 1),
)
"""QEMU's name, virDomainMemoryStatTags, divisor."""
_ACTUAL_BALLOON, RSS, _LAST_UPDATE = 6, 7, 9


@dataclass(frozen=True)
class Vcpu:
    """A virtual processor that is there, and the thread that it is."""

    number: int
    cpu_time_ns: int
    cpu: int
    """The host's processor that it was on last."""
    affinity: frozenset[int]


@dataclass(frozen=True)
class IoThread:
    """A thread that serves disks."""

    number: int
    affinity: frozenset[int]


class HardwareCalls(Context):
    """See the module's text; the daemon offers these."""

    # --- processors ------------------------------------------------------------------------------------

    async def vcpu_threads(self, uuid: str) -> list[Vcpu]:
        """Those of a running domain. Raises OperationInvalid."""
        from virtsnap.qemu import process

        record = await self.look(uuid)
        if record.instance is None:
            raise OperationInvalid("cannot retrieve vcpu information for inactive domain")
        found = []
        for one in await ask(record, "query-cpus-fast"):
            thread = process.thread(record.instance.pid, one["thread-id"])
            if thread is not None:
                found.append(Vcpu(one["cpu-index"], thread.cpu_time_ns, thread.cpu, thread.affinity))
        return found

    async def iothreads(self, uuid: str, flags: int = 0) -> list[IoThread]:
        """Those that run, or with CONFIG those of the definition. Raises OperationInvalid."""
        from virtsnap.machine.board_args import iothreads
        from virtsnap.qemu import process
        from virtsnap.service.host import online_cpus

        record = await self.look(uuid)
        live, _ = affected(record, flags, "qemuDomainGetIOThreadInfo")
        if not live:
            everywhere = frozenset(online_cpus())
            root = DomainDefinition.parse(record.config_xml).tree()
            return [IoThread(number, everywhere) for number in sorted(iothreads(root))]
        found = []
        for one in await ask(record, "query-iothreads"):
            number = one["id"].removeprefix("iothread")
            assert record.instance is not None
            thread = process.thread(record.instance.pid, one["thread-id"])
            if number.isdecimal() and thread is not None:
                found.append(IoThread(int(number), thread.affinity))
        return sorted(found, key=lambda thread: thread.number)

    async def vcpu_count(self, uuid: str, flags: int = 0) -> int:
        """Of what runs, or of the definition; with MAXIMUM as many as there can be."""
        record = await self.look(uuid)
        live, config = affected(record, flags & ~_MAXIMUM, "qemuDomainGetVcpusFlags")
        if live and config:
            raise InvalidArg("flags 'VIR_DOMAIN_AFFECT_LIVE' and 'VIR_DOMAIN_AFFECT_CONFIG' are exclusive")
        text = record.live_xml if live and record.live_xml else record.config_xml
        definition = DomainDefinition.parse(text)
        return definition.max_vcpus if flags & _MAXIMUM else definition.vcpus

    async def set_vcpus(self, uuid: str, count: int, flags: int) -> None:
        """Only in the definition: nothing is plugged while it runs. Raises OperationUnsupported."""
        self.writable("virDomainSetVcpusFlags")
        if flags & _HOTPLUGGABLE or count < 1:
            raise OperationUnsupported("hotpluggable vcpus are not supported")
        async with self.operation(uuid) as world:
            record = world.record()
            live, config = affected(record, flags & ~_MAXIMUM, "qemuDomainSetVcpusFlags")
            if live:
                if flags & _MAXIMUM:
                    raise InvalidArg("maximum vcpu count of a live domain can't be modified")
                running = DomainDefinition.parse(record.live_xml or "")
                if count > running.max_vcpus:
                    raise InvalidArg(
                        "requested vcpus is greater than max allowable vcpus for the live domain:"
                        f" {count} > {running.max_vcpus}"
                    )
                if running.vcpus != count:
                    raise OperationUnsupported("vcpus cannot be plugged into a running domain")
            if config:
                definition = DomainDefinition.parse(record.config_xml)
                maximum = count if flags & _MAXIMUM else definition.max_vcpus
                if count > maximum:
                    raise InvalidArg(
                        "requested vcpus is greater than max allowable vcpus for the persistent domain:"
                        f" {count} > {maximum}"
                    )
                current = min(definition.vcpus, count) if flags & _MAXIMUM else count
                await self._change_config(world, lambda old: old.with_vcpus(maximum, current))

    # --- memory ----------------------------------------------------------------------------------------

    async def set_memory(self, uuid: str, kib: int, flags: int) -> None:
        """What the balloon leaves the guest; with MAXIMUM what there is at all, from the next start on.

        Raises OperationInvalid, InvalidArg, ConfigUnsupported without a balloon.
        """
        self.writable("virDomainSetMemoryFlags")
        async with self.operation(uuid) as world:
            record = world.record()
            live, config = affected(record, flags & ~_MAXIMUM, "qemuDomainSetMemoryFlags")
            if flags & _MAXIMUM:
                if live:
                    raise OperationInvalid("cannot resize the maximum memory on an active domain")
                await self._change_config(
                    world, lambda old: old.with_memory(kib, min(old.current_memory_kib, kib))
                )
                return
            for changes, text in ((live, record.live_xml), (config, record.config_xml)):
                if changes and kib > DomainDefinition.parse(text or "").memory_kib:
                    raise InvalidArg("cannot set memory higher than max memory")
            if live:
                await self._inflate(world, kib)
            if config:
                await self._change_config(world, lambda old: old.with_memory(old.memory_kib, kib))

    async def _inflate(self, world: World, kib: int) -> None:
        monitor = await required_monitor(world)
        if DomainDefinition.parse(world.record().live_xml or "").balloon_alias is None:
            raise OperationInvalid(
                "Unable to change memory of active domain without the balloon device and guest OS"
                " balloon driver"
            )
        await monitor.execute("balloon", value=kib * 1024)

    async def memory_stats(self, uuid: str) -> list[tuple[int, int]]:
        """virDomainMemoryStatTags with their values. Raises OperationInvalid."""
        from virtsnap.qemu import process

        record = await self.look(uuid)
        if record.live_xml is None or record.instance is None:
            raise OperationInvalid("domain is not running")
        found: list[tuple[int, int]] = []
        definition = DomainDefinition.parse(record.live_xml)
        if definition.balloon_alias is None:
            found.append((_ACTUAL_BALLOON, definition.memory_kib))
        else:
            actual = (await ask(record, "query-balloon"))["actual"]
            found.append((_ACTUAL_BALLOON, actual // 1024))
            path = f"/machine/peripheral/{definition.balloon_alias}"
            found += told_by_guest(await ask(record, "qom-get", path=path, property="guest-stats"))
        rss = process.rss_kib(record.instance)
        return found if rss is None else [*found, (RSS, rss)]

    async def set_memory_stats_period(self, uuid: str, seconds: int, flags: int) -> None:
        """How often the guest is asked. Raises OperationInvalid without a balloon, InvalidArg."""
        self.writable("virDomainSetMemoryStatsPeriod")
        if seconds < 0:
            raise InvalidArg("collection period cannot be negative")
        async with self.operation(uuid) as world:
            record = world.record()
            live, config = affected(record, flags, "qemuDomainSetMemoryStatsPeriod")
            alias = DomainDefinition.parse(record.live_xml or record.config_xml).balloon_alias
            if alias is None:
                raise InternalRefused(
                    "No memory balloon device configured, can not set the collection period"
                )
            if live:
                monitor = await world.monitor()
                if monitor is None or record.live_xml is None:
                    raise OperationInvalid("domain is not running")
                await monitor.execute(
                    "qom-set",
                    path=f"/machine/peripheral/{alias}",
                    property="guest-stats-polling-interval",
                    value=seconds,
                )
                live_xml = DomainDefinition.parse(record.live_xml).with_balloon_period(seconds).to_xml()
                with self.store.transaction() as tx:
                    tx.put_domain(replace(world.record(), live_xml=live_xml))
            if config:
                await self._change_config(world, lambda old: old.with_balloon_period(seconds))

    # --- others ----------------------------------------------------------------------------------------

    async def inject_nmi(self, uuid: str) -> None:
        """Raises OperationInvalid, and what QEMU says of a machine without such a button."""
        self.writable("virDomainInjectNMI")
        async with self.operation(uuid) as world:
            monitor = await required_monitor(world)
            await monitor.execute("inject-nmi")

    async def pm_wakeup(self, uuid: str) -> None:
        """Wake a guest that sleeps. Raises OperationInvalid, and what QEMU says of one that does not."""
        self.writable("virDomainPMWakeup")
        async with self.operation(uuid) as world:
            monitor = await required_monitor(world)
            await monitor.execute("system_wakeup")

    async def _change_config(
        self, world: World, change: Callable[[DomainDefinition], DomainDefinition]
    ) -> None:
        """Change the definition; what runs is not touched."""
        record = world.record()
        text, left = await self._changed_config(record, change)
        with self.store.transaction() as tx:
            tx.put_domain(replace(record, config_xml=text))
            for path in left:
                tx.delete_image(record.uuid, path)

    async def _changed_config(
        self, record: DomainRecord, change: Callable[[DomainDefinition], DomainDefinition]
    ) -> tuple[str, tuple[str, ...]]:
        """The definition's text as it would be, and the images that it leaves behind."""
        from virtsnap.service.left_behind import left_behind

        changed = await self.completed(change(DomainDefinition.parse(record.config_xml)))
        text = changed.to_inactive_xml()
        return text, await left_behind(self.store, record, text)


def online_mask(cpus: frozenset[int], length: int) -> bytes:
    """A map of processors as libvirt's protocol has it."""
    bits = sum(1 << cpu for cpu in cpus if cpu < length * 8)
    return bits.to_bytes(length, "little")


def told_by_guest(answer: dict[str, Any]) -> list[tuple[int, int]]:
    """virDomainMemoryStatTags and values from a balloon's `guest-stats`."""
    stats = answer["stats"]
    found = [
        (tag, stats[name] // divisor)
        for name, tag, divisor in _BALLOON_STATS
        if stats.get(name, _NO_FIGURE) not in (-1, _NO_FIGURE)
    ]
    found.append((_LAST_UPDATE, answer["last-update"]))
    return found
