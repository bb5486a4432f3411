"""What a step may touch: the store, the domain it works on, and the monitors of that domain's QEMUs.

A World lives as long as one operation holds the domain's lock. It opens monitors when they are first
needed and closes them at the end. It decides nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from virtsnap.model.domain import DomainRecord, Instance
from virtsnap.model.errors import NoDomain
from virtsnap.model.facts import MappedMemory
from virtsnap.model.job import JobInfo
from virtsnap.qemu import process
from virtsnap.qemu.monitor import Monitor, MonitorLost
from virtsnap.store.database import Store

if TYPE_CHECKING:
    from virtsnap.qemu.background import Capture
    from virtsnap.qemu.blocks import NodeInfo

Report = Callable[[str, int, int], None]
"""(label, bytes done, bytes in all or 0)."""


def silent(label: str, done: int, total: int) -> None:
    """Report to nobody."""


def forget(settled: bool) -> None:
    """Note nothing."""


@dataclass
class World:
    """Everything that steps of one domain's operation act on."""

    root: Path
    store: Store
    uuid: str
    report: Report = silent
    settled: bool = False
    """The step that is being done noted earlier, before a crash, that it must not be done again."""
    settle: Callable[[bool], None] = forget
    """Note that, durably, or with False take it back. The runner gives both to each finish step."""
    captures: dict[str, Capture] = field(default_factory=dict)
    """Memory that is being written while the guest runs, by path: begun by one step, completed by another."""
    afterwards: AsyncExitStack = field(default_factory=AsyncExitStack)
    """What is left to do with QEMU once the guest runs again; nobody minds if a dying process leaves it."""
    tops: dict[str, NodeInfo] = field(default_factory=dict)
    """The layer that each disk wrote to when overlays were attached, by target; looked up while it ran."""
    job: Callable[[], JobInfo] = JobInfo
    """How far the operation is (`engine.jobs`)."""
    _monitors: dict[str, Monitor] = field(default_factory=dict)

    def record(self) -> DomainRecord:
        """The domain as the store has it now. Raises NoDomain."""
        record = self.store.domain(self.uuid)
        if record is None:
            raise NoDomain(f"no domain with matching uuid '{self.uuid}'")
        return record

    def instance(self, run_dir: str | None = None) -> Instance | None:
        """The QEMU of a run folder, or of the domain; None when it does not run."""
        found = self.record().instance if run_dir is None else read_instance(run_dir)
        return found if found is not None and process.alive(found) else None

    async def monitor(self, run_dir: str | None = None) -> Monitor | None:
        """A conversation with that QEMU; None when it is gone."""
        instance = self.instance(run_dir)
        if instance is None:
            return None
        known = self._monitors.get(instance.run_dir)
        if known is not None and not known.lost:
            return known
        try:
            monitor = await Monitor.connect(monitor_path(instance.run_dir))
        except MonitorLost:
            return None
        self._monitors[instance.run_dir] = monitor
        return monitor

    def adopt(self, run_dir: str, monitor: Monitor) -> None:
        """Keep a monitor that a step has opened."""
        self._monitors[run_dir] = monitor

    async def drop_monitor(self, run_dir: str) -> None:
        """Close the conversation with a QEMU that is about to end."""
        monitor = self._monitors.pop(run_dir, None)
        if monitor is not None:
            await monitor.close()

    async def close(self) -> None:
        """Close all conversations; the QEMUs stay."""
        for capture in self.captures.values():
            capture.release()
        await self.afterwards.aclose()
        for run_dir in list(self._monitors):
            await self.drop_monitor(run_dir)


def monitor_path(run_dir: str) -> str:
    """The QMP socket that operations use."""
    return os.path.join(run_dir, "monitor.sock")


def query_path(run_dir: str) -> str:
    """The QMP socket for short questions while an operation holds the other one."""
    return os.path.join(run_dir, "query.sock")


def events_path(run_dir: str) -> str:
    """The log of events that QEMU keeps by itself."""
    return os.path.join(run_dir, "events")


def instance_path(run_dir: str) -> str:
    """Which process the folder belongs to."""
    return os.path.join(run_dir, "instance.json")


def read_instance(run_dir: str) -> Instance | None:
    """The process that was started for a run folder, as `engine.launch` noted it."""
    noted = _read_note(run_dir)
    if noted is None:
        return None
    return Instance(
        id=noted["id"],
        pid=noted["pid"],
        start_ticks=noted["start_ticks"],
        boot_id=noted["boot_id"],
        run_dir=run_dir,
    )


def read_mapped(run_dir: str) -> MappedMemory | None:
    """The memory image of ours that the QEMU of a run folder was started on; None where it was on none."""
    noted = _read_note(run_dir)
    mapped = None if noted is None else noted.get("mapped")  # a release before did not note it
    return None if mapped is None else MappedMemory(*mapped)


def _read_note(run_dir: str) -> dict[str, Any] | None:
    try:
        with open(instance_path(run_dir), encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    if not text.endswith("}"):
        return None  # a power cut came before it was on the disk, and ended the process too
    noted: dict[str, Any] = json.loads(text)
    return noted
