"""The runner over a real store, with the simulated host of tests.plan in place of QEMU and its files.

Every place where a process could die, an await could be cancelled or a step could fail is a point, counted
in the order in which it is reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.plan.scene import Scene
from tests.plan.simulation import UUID, Content, Guest, Host, instance_of, take_facts
from virtsnap.engine import launch, steps
from virtsnap.engine.runner import Runner
from virtsnap.engine.telling import begin_listening
from virtsnap.engine.world import World
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model import steps as s
from virtsnap.model.domain import DomainRecord, Instance
from virtsnap.model.errors import Failed
from virtsnap.model.event import Detail
from virtsnap.model.facts import DomainFacts, ImageRole
from virtsnap.model.snapshot import SnapshotTree
from virtsnap.plan.images import frozen_images
from virtsnap.store.database import Store, open_store


class Crash(BaseException):
    """The process is gone: nothing may catch this."""


@dataclass
class Points:
    """Counts what is reached, and does something at the n-th."""

    at: int = 0
    act: Callable[[str], None] | None = None
    reached: int = 0

    def __call__(self, name: str) -> None:
        self.reached += 1
        if self.reached == self.at and self.act is not None:
            self.act(name)


def die(name: str) -> None:
    raise Crash(name)


def refuse(name: str) -> None:
    raise Failed(f"no luck {name}")


@contextlib.contextmanager
def quick_store(folder: Path) -> Iterator[Store]:
    """A store that does not wait for the disk: SQLite's own promise is not what is tried here."""
    store = open_store(folder)
    store._connection().execute("PRAGMA synchronous = OFF")
    yield store
    store.close()


class Stage:
    """A host and a store in the state that a scene has reached, and processes that come and go on it."""

    def __init__(self, scene: Scene, store: Store) -> None:
        self.host: Host = copy.deepcopy(scene.host)
        self.now, self.next_id = scene.world.now + 1, scene.world.next_id
        self.store = store
        book = scene.book
        with store.transaction() as tx:
            for table in ("journal_steps", "journal", "history", "domains", "events"):
                tx._connection.execute(f"DELETE FROM {table}")
            tx.put_domain(book.record)
            for snapshot in book.snapshots.values():
                tx.put_snapshot(UUID, snapshot)
            tx.set_current(UUID, book.current)
            for path, role in book.owned.items():
                tx.put_image(UUID, path, role.value)
            if book.record.instance is not None:
                begin_listening(tx, book.record)
        self.crash, self.fail, self.wait = Points(), Points(), Points()

    # --- a process ----------------------------------------------------------------------------------
    def process(self, crash: Points | None = None, fail: Points | None = None) -> Runner:
        """A new one: nothing is remembered but what is in the store and on the host."""
        self.crash, self.fail = crash or Points(), fail or Points()
        self.host.at = self.crash
        return Runner(World(Path("/nowhere"), self.store, UUID), self.crash)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for kind in steps._HANDLERS:
            if kind not in (s.StoreWrite, s.Declare):
                patch.setitem(steps._HANDLERS, kind, _Simulated(self))
        patch.setattr(launch, "started", self._started)

    def _started(self, run_dir: str, xml: str) -> tuple[Instance, str]:
        if run_dir not in self.host.guests:
            raise Failed("the process that was started is gone")
        return instance_of(run_dir), xml

    # --- looking ------------------------------------------------------------------------------------
    @property
    def record(self) -> DomainRecord:
        found = self.store.domain(UUID)
        assert found is not None
        return found

    @property
    def tree(self) -> SnapshotTree:
        return self.store.tree(UUID)

    @property
    def guest(self) -> Guest | None:
        instance = self.record.instance
        return None if instance is None else self.host.guests.get(instance.run_dir)

    def told(self) -> list[Detail]:
        """What whoever watches was told of the domain's life."""
        changes = [event.change for event in self.store.events_after(0)]
        return [Detail(one.number("event") * 100 + one.number("detail")) for one in changes]

    def facts(self, paths: tuple[str, ...] = ()) -> DomainFacts:
        owned = {path: ImageRole(role) for path, role in self.store.images(UUID).items()}
        return take_facts(
            self.host, self.record, self.tree, owned, now=self.now, next_id=self.next_id, paths=paths
        )

    def active(self) -> dict[str, str]:
        disks = DomainDefinition.parse(self.record.live_xml or self.record.config_xml).disks
        return {d.target: d.source for d in disks if d.source is not None and not d.readonly}

    def contents(self) -> dict[str, Content]:
        return {target: self.host.content(path) for target, path in self.active().items()}

    def frozen(self) -> dict[str, dict[str, Content]]:
        return {
            snapshot.name: {t: self.host.content(p) for t, p in frozen_images(snapshot).items()}
            for snapshot in self.tree
        }

    def state(self) -> dict[str, Any]:
        """All that an operation changes, without what a running guest counts up."""
        return {
            "record": self.record,
            "snapshots": {x.name: x for x in self.tree},
            "current": self.tree.current,
            "owned": self.store.images(UUID),
            "files": set(self.host.images),
            "memories": {path: memory.sealed for path, memory in self.host.memories.items()},
            "guests": {
                run_dir: (dict(g.tops), g.running, g.waits, set(g.attached))
                for run_dir, g in self.host.guests.items()
            },
        }

    def trace(self) -> str:
        """All that a recovery starts from, as far as it can tell."""
        entry = self.store.journal(UUID)
        assert entry is not None
        images = {path: (image.backing, set(image.clusters)) for path, image in self.host.images.items()}
        return repr((entry.phases(), entry.committed, self.state(), images))

    def without_power(self) -> dict[str, Any]:
        """The same after a power cut and a look at the process table: nothing runs."""
        state = self.state()
        record = replace(self.record, instance=None, live_xml=None)
        return {**state, "record": replace(record, reason=_OFF), "guests": {}}


_OFF = DomainRecord("", "", "").reason


class _Simulated:
    """Do, undo and probe of any kind of step, on the stage's host."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def run_dir(self, world: World) -> str | None:
        instance = world.record().instance
        return (
            instance.run_dir if instance is not None and instance.run_dir in self.stage.host.guests else None
        )

    async def do(self, world: World, step: Any, /) -> None:
        name = type(step).__name__
        self.stage.fail(name)
        self.stage.crash(f"before {name}")
        await self.pause(name)
        self.stage.host.settled, self.stage.host.settle = world.settled, world.settle
        self.stage.host.do(step, self.run_dir(world))
        self.stage.crash(f"after {name}")
        await self.pause(name)

    async def undo(self, world: World, step: Any, /) -> None:
        name = type(step).__name__
        self.stage.fail(f"undoing {name}")
        self.stage.crash(f"before undoing {name}")
        await self.pause(name)
        self.stage.host.settled, self.stage.host.settle = world.settled, world.settle
        self.stage.host.undo(step, self.run_dir(world))
        self.stage.crash(f"after undoing {name}")

    async def probe(self, world: World, step: Any, /) -> bool | None:
        await self.pause("probe")
        return self.stage.host.probe(step, self.run_dir(world))

    async def pause(self, name: str) -> None:
        self.stage.wait(name)
        await asyncio.sleep(0)
