"""What all calls of the local service share: the root folder, the store, and the way into a domain.

A call that changes a domain goes through `operation`: it holds the domain's lock, brings an interrupted
operation to its end and the record up to date before it looks at anything. A call that only reads goes
through `look`, which waits for nobody.

What only changes need (the runner, plans, the machine) is imported by the calls that need it: a command line
that lists snapshots starts in half the time.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from virtsnap.engine.glance import Glances
from virtsnap.engine.locks import DomainLock
from virtsnap.engine.refresh import observed, settle
from virtsnap.engine.telling import overhear
from virtsnap.model.domain import DomainRecord
from virtsnap.model.errors import Failed, NoDomain, OperationDenied, OperationInvalid, SystemRefused
from virtsnap.model.flags import DomainModification
from virtsnap.plan.requests import known_flags
from virtsnap.service.interface import Progress, ProgressCallback, WouldWait
from virtsnap.service.managed import ManagedSave, fits, renew
from virtsnap.store.database import Store, open_store

if TYPE_CHECKING:
    from virtsnap.engine.world import World
    from virtsnap.formats.domain_xml import DomainDefinition
    from virtsnap.model.facts import DomainFacts
    from virtsnap.model.steps import Plan
    from virtsnap.qemu.capabilities import Capabilities
    from virtsnap.qemu.monitor import Monitor

T = TypeVar("T")
DEFAULT_EMULATOR = "/usr/bin/qemu-system-x86_64"
_CONTENT_STAYS = frozenset({"create", "delete", "flatten", "clone"})
"""Plans that leave the content of every disk as it is."""


def affected(record: DomainRecord, flags: int, function: str) -> tuple[bool, bool]:
    """What runs, the definition. Raises OperationInvalid, as virDomainObjUpdateModificationImpact."""
    flag = known_flags(flags, DomainModification, function)
    live, config = DomainModification.LIVE in flag, DomainModification.CONFIG in flag
    if not live and not config:
        live, config = record.active, not record.active
    if live and not record.active:
        raise OperationInvalid("domain is not running")
    if config and not record.persistent:
        raise OperationInvalid("transient domains do not have any persistent config")
    return live, config


async def required_monitor(world: World) -> Monitor:
    """The conversation with the domain's QEMU. Raises OperationInvalid where there is none."""
    monitor = await world.monitor()
    if monitor is None:
        raise OperationInvalid("domain is not running")
    return monitor


class Context:
    """One open connection to a root folder."""

    def __init__(self, root: Path, readonly: bool = False) -> None:
        self.root = Path(os.path.abspath(root))
        self.readonly = readonly
        self.uri = f"qemu:///embed?root={self.root}"
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SystemRefused(f"cannot create directory '{self.root}': {error.strerror}") from error
        self.store: Store = open_store(self.root)
        self.glances = Glances(self.store)
        self._hurried = False

    async def close(self) -> None:
        """Let go of the store. Guests run on."""
        self.store.close()

    def writable(self, function: str) -> None:
        """Raises OperationDenied on a read-only connection."""
        if self.readonly:
            raise OperationDenied(f"read only access prevents {function}")

    def may_see_secrets(self, function: str) -> None:
        """Raises OperationDenied on a read-only connection."""
        if self.readonly:
            raise OperationDenied(f"{function} with secure flag")

    def at_once(self, work: Coroutine[Any, Any, T]) -> T:
        """See `service.interface.Service`. The calls stop before they wait: `may_wait`."""
        self._hurried = True
        try:
            work.send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            self._hurried = False
        work.close()
        raise WouldWait

    def may_wait(self) -> None:
        """From here on the call waits for others. Raises WouldWait for one that is to be done at once."""
        if self._hurried:
            raise WouldWait

    async def look(self, uuid: str) -> DomainRecord:
        """The domain as it is now. Raises NoDomain."""
        sight = self.glances.at(uuid)
        if sight is not None:
            return sight.record
        self.may_wait()
        record = self._record(uuid)
        lock = DomainLock(self.root, uuid)
        stale = observed(record) != record or self.store.journal(uuid) is not None
        stale = stale or not (record.active or record.persistent) or self._block_job_waits(record)
        if stale and not self.readonly and lock.try_acquire():
            lock.release()
            try:
                async with self.operation(uuid) as world:
                    return world.record()
            except Failed as error:
                # Looking must go on; the next change of the domain meets the same trouble and says so.
                logging.getLogger("virtsnap").warning("domain '%s': %s", record.name, error)
        return observed(record)

    @contextlib.asynccontextmanager
    async def operation(self, uuid: str, progress: ProgressCallback | None = None) -> AsyncIterator[World]:
        """The domain's lock, with everything that was left open brought to its end first."""
        from virtsnap.engine.first_pages import look_first
        from virtsnap.engine.jobs import job
        from virtsnap.engine.runner import Runner
        from virtsnap.engine.world import World

        self._record(uuid)

        def report(label: str, done: int, total: int) -> None:
            if progress is not None:
                progress(Progress(label, done, total))

        async with DomainLock(self.root, uuid).acquired():
            world = World(self.root, self.store, uuid, report)
            try:
                if (left := self.store.journal(uuid)) is not None:
                    async with job(world, left.operation):
                        await Runner(world).recover()
                if self.store.block_jobs(uuid, active=True):
                    from virtsnap.service.concluding import conclude

                    await conclude(world)
                if (instance := settle(self.store, world.record()).instance) is not None:
                    await look_first(instance.run_dir)
                yield world
            finally:
                await world.close()
                overhear(self.store, uuid)

    async def run(self, world: World, plan: Plan, facts: DomainFacts | None = None) -> None:
        """Carry a plan out, where other processes can see how far it is, and stop it."""
        from virtsnap.engine.jobs import job
        from virtsnap.engine.runner import Runner

        managed = ManagedSave.of(self.root, world.uuid)
        # Operations on the images of a domain that is shut off move content; none but a revert changes it.
        keeps = plan.operation in _CONTENT_STAYS and await fits(managed, world.record())
        async with job(world, plan.operation, plan.memory_mode, plan.memory_reason):
            await Runner(world).run(plan, facts)
        if keeps:
            await renew(world, managed)

    async def capabilities(self, emulator: str | None = None) -> Capabilities:
        """What the emulator can do; asked once and remembered."""
        from virtsnap.qemu.capabilities import probe

        return await probe(emulator or DEFAULT_EMULATOR, cache=self.root / "cache")

    async def completed(self, definition: DomainDefinition) -> DomainDefinition:
        """With everything that libvirt fills in when it is defined. Raises ConfigUnsupported, XmlError."""
        import uuid as uuids

        from virtsnap.machine.complete import complete
        from virtsnap.machine.host import Host
        from virtsnap.qemu.firmware import installed_firmwares

        if definition.uuid is None:
            definition = definition.with_uuid(str(uuids.uuid4()))
        emulator = definition.emulator or DEFAULT_EMULATOR
        caps = await self.capabilities(emulator)
        return complete(
            definition,
            Host(
                emulator=emulator,
                qemu_version=caps.version,
                machine_aliases=caps.machine_aliases,
                firmwares=installed_firmwares(),
                nvram_dir=self._nvram_dir(definition),
            ),
        )

    def _nvram_dir(self, definition: DomainDefinition) -> str:
        """Where the UEFI variables of a domain go that does not say it; the file is called as the domain."""
        folder = str(self.root / "nvram")
        path = f"{folder}/{definition.name}_VARS."
        if any(path in other.config_xml for other in self.store.domains() if other.uuid != definition.uuid):
            # That domain had this one's name before it was renamed.
            return f"{folder}/{definition.uuid}"
        return folder

    def _block_job_waits(self, record: DomainRecord) -> bool:
        """A block job has to be brought to its end by somebody."""
        jobs = self.store.block_jobs(record.uuid, active=True)
        if not jobs or record.instance is None:
            return bool(jobs)
        from virtsnap.engine.world import events_path
        from virtsnap.model.block_job import BlockJobState
        from virtsnap.qemu.block_jobs import is_due
        from virtsnap.qemu.events import read_events

        log = read_events(events_path(record.instance.run_dir))
        return any(job.state is not BlockJobState.RUNNING or is_due(log, job) for job in jobs)

    def _record(self, uuid: str) -> DomainRecord:
        record = self.store.domain(uuid)
        if record is None:
            raise NoDomain(f"no domain with matching uuid '{uuid}'")
        return record
