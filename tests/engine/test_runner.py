"""Whatever befalls a plan, it ends wholly old or wholly new.

Swept over every operation: the process dies at each point, and the one that recovers dies at each of its
points; the power goes at each point; each step fails; each await is cancelled. The store is the real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.engine.simulated import Crash, Points, Stage, die, quick_store, refuse
from tests.plan.scene import Scene
from tests.plan.simulation import Content
from virtsnap.model.errors import ErrorCode, Failed, OperationInvalid, Outcome, VirtsnapError
from virtsnap.model.facts import MemoryWay
from virtsnap.model.flags import SnapshotCreate, SnapshotDelete, SnapshotRevert
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk
from virtsnap.model.steps import Declare, Plan
from virtsnap.plan import create, delete, lifecycle, revert
from virtsnap.plan.flatten import FlattenRequest, plan_flatten
from virtsnap.plan.requests import DeleteRequest, RevertRequest
from virtsnap.store.database import Store

Planner = Callable[[Stage], Plan]
TCP = "<serial type='tcp'><source mode='bind' host='127.0.0.1' service='4555'/></serial>"
BOTH = ("vda", "vdb")
PLAIN = SnapshotCreate(0)


def creating(memory: bool = False, flags: SnapshotCreate = PLAIN, *left_out: str) -> Planner:
    def plan(stage: Stage) -> Plan:
        parsed = Snapshot(
            "new",
            memory=Location.EXTERNAL if memory else Location.UNSET,
            memory_file="/m/new" if memory else None,
            disks=tuple(SnapshotDisk(target, Location.NO) for target in left_out),
        )
        flag = flags if memory else flags | SnapshotCreate.DISK_ONLY
        known = frozenset(stage.tree.snapshots)
        request = create.prepare_request(
            parsed, flag, stage.record, stage.now, known, stage.host.images.__contains__
        )
        return create.plan_create(stage.facts(create.paths_of(request)), request)

    return plan


def in_background(create: Planner) -> Planner:
    """With a QEMU that can write the memory while the guest runs on."""

    def plan(stage: Stage) -> Plan:
        stage.host.memory_way = MemoryWay.BACKGROUND_SPARSE
        return create(stage)

    return plan


def reverting(name: str, flags: int = 0) -> Planner:
    def plan(stage: Stage) -> Plan:
        request = RevertRequest(name, SnapshotRevert(flags))
        return revert.plan_revert(stage.facts(revert.paths_of(stage.facts(), request)), request)

    return plan


def deleting(name: str, flags: int = 0) -> Planner:
    return lambda stage: delete.plan_delete(stage.facts(), DeleteRequest(name, SnapshotDelete(flags)))


def flattening(stage: Stage) -> Plan:
    return plan_flatten(stage.facts(), FlattenRequest())


def starting(stage: Stage) -> Plan:
    return lifecycle.plan_start(stage.record, id=stage.next_id, root="/root", paused=False)


def stopping(stage: Stage) -> Plan:
    from virtsnap.model.domain import Reason

    return lifecycle.plan_stop(stage.record, Reason.SHUTOFF_DESTROYED)


def history(*, running: bool, memory: bool = False, sizes: tuple[int, ...] = (), devices: str = "") -> Scene:
    """s1 - s2 - s3 on two disks."""
    scene = Scene(BOTH, running=running, devices=devices)
    for name in ("s1", "s2", "s3"):
        scene.create(name, memory=memory)
    for path, size in zip(("img", "s1", "s2", "s3"), sizes, strict=False):
        scene.fill(f"/i/vda.{path}", size)
        if scene.world.guest is not None:
            scene.world.guest.truth["vda"] = scene.host.content(scene.world.guest.tops["vda"])
    return scene


def paused() -> Scene:
    scene = history(running=True)
    scene.pause()
    return scene


def branched() -> Scene:
    scene = history(running=True)
    scene.revert("s1", SnapshotRevert.RUNNING)
    return scene


def partial() -> Scene:
    scene = Scene(BOTH, running=True)
    scene.create("s1", SnapshotDisk("vdb", Location.NO))
    return scene


def unnamed_layers() -> Scene:
    """Nothing but the active images leads to the layers that they stand on."""
    scene = Scene(BOTH)
    scene.create("s1")
    scene.create("s2")
    layers = frozenset({"/i/vda.s1", "/i/vdb.s1"})
    scene.world.run(scene.plan_delete("s2", change=lambda facts: replace(facts, named_elsewhere=layers)))
    return scene


@dataclass(frozen=True)
class Operation:
    scene: Callable[[], Scene]
    plan: Planner


OPERATIONS = {
    "create, shut off": Operation(lambda: history(running=False), creating()),
    "create, disks of a running guest": Operation(lambda: history(running=True), creating()),
    "create, disks of a paused guest": Operation(paused, creating()),
    "create, full system": Operation(lambda: history(running=True), creating(True)),
    "create, full system, live": Operation(
        lambda: history(running=True), creating(True, SnapshotCreate.LIVE)
    ),
    "create, full system, in the background": Operation(
        lambda: history(running=True), in_background(creating(True))
    ),
    "create, memory alone, in the background": Operation(
        lambda: history(running=True), in_background(creating(True, PLAIN, "vda", "vdb"))
    ),
    "create, full system, halt": Operation(
        lambda: history(running=True), creating(True, SnapshotCreate.HALT)
    ),
    "create, full system of a paused guest": Operation(paused, creating(True)),
    "create, memory alone": Operation(lambda: history(running=True), creating(True, PLAIN, "vda", "vdb")),
    "create, no metadata": Operation(
        lambda: history(running=True), creating(False, SnapshotCreate.NO_METADATA)
    ),
    "revert, shut off": Operation(lambda: history(running=False), reverting("s2")),
    "revert, running to shut off": Operation(branched, reverting("s3")),
    "revert, running to booted": Operation(branched, reverting("s3", SnapshotRevert.RUNNING)),
    "revert, running to memory": Operation(lambda: history(running=True, memory=True), reverting("s1")),
    "revert, old QEMU first": Operation(
        lambda: history(running=True, memory=True, devices=TCP), reverting("s2")
    ),
    "revert, one disk left out": Operation(partial, reverting("s1", SnapshotRevert.RUNNING)),
    "delete, down": Operation(lambda: history(running=False, sizes=(3, 2, 1, 1)), deleting("s2")),
    "delete, up": Operation(lambda: history(running=False, sizes=(3, 1, 2, 1)), deleting("s2")),
    "delete, both ways": Operation(lambda: history(running=True, sizes=(3, 1, 9, 1)), deleting("s2")),
    "delete, current": Operation(lambda: history(running=True, sizes=(3, 3, 3, 3)), deleting("s3")),
    "delete, all": Operation(
        lambda: history(running=True, memory=True), deleting("s1", SnapshotDelete.CHILDREN)
    ),
    "delete, on a tree": Operation(branched, deleting("s2")),
    "delete, metadata": Operation(
        lambda: history(running=False), deleting("s2", SnapshotDelete.METADATA_ONLY)
    ),
    "flatten": Operation(unnamed_layers, flattening),
    "start": Operation(lambda: history(running=False), starting),
    "destroy": Operation(lambda: history(running=True), stopping),
}

operations = pytest.mark.parametrize("name", OPERATIONS)
recoveries = pytest.mark.parametrize(
    "name",
    [
        *("create, shut off", "create, disks of a running guest", "create, full system"),
        *("create, full system, live", "create, full system, in the background"),
        *("create, memory alone, in the background", "create, full system of a paused guest"),
        *("revert, running to booted", "revert, running to memory", "revert, old QEMU first"),
        *("delete, up", "delete, both ways", "delete, current", "destroy"),
    ],
)
"""One of each shape that a recovery can have."""


class Trial:
    """One operation; fresh stages of the state it begins in; what it is when it ends."""

    def __init__(self, name: str, store: Store, patch: pytest.MonkeyPatch) -> None:
        self.operation = OPERATIONS[name]
        self.scene, self.store, self.patch = self.operation.scene(), store, patch
        stage = self.stage()
        self.plan = self.operation.plan(stage)
        self.old, self.dark_old = stage.state(), stage.without_power()
        self.frozen, self.contents = stage.frozen(), stage.contents()
        asyncio.run(stage.process().run(self.plan))
        self.told = stage.told()
        self.new, self.dark_new = stage.state(), stage.without_power()
        self.ends_off = stage.guest is None
        self.rests = self.rest_state() if self.plan.give_up else None

    def stage(self) -> Stage:
        stage = Stage(self.scene, self.store)
        stage.install(self.patch)
        return stage

    def rest_state(self) -> dict[str, object]:
        """Where the plan rests when the new QEMU will not start."""
        new = dict(self.new)
        record = self.plan.commit.record  # type: ignore[union-attr]
        return {**new, "record": record, "guests": {}}

    def judge(self, stage: Stage, *, dark: bool = False) -> str:
        """'old', 'new' or 'rest'; anything else fails. `dark`: the power is gone."""
        state = stage.without_power() if dark else stage.state()
        old, new = (self.dark_old, self.dark_new) if dark else (self.old, self.new)
        verdict = "old" if state == old else "new" if state == new else "rest"
        if verdict == "rest":
            assert state == self.rests, "neither old nor new"
        assert stage.store.journal(stage.record.uuid) is None
        if verdict != "rest" and not dark:
            assert stage.told() == (self.told if verdict == "new" else []), "told twice, or not at all"
        self.check_contents(stage, verdict)
        return verdict

    def check_contents(self, stage: Stage, verdict: str) -> None:
        for name, contents in stage.frozen().items():
            if name in self.frozen:
                assert contents == self.frozen[name], f"{name} changed"
            else:
                self.check_new(stage, name, contents)
        for guest in stage.host.guests.values():
            for target, path in guest.tops.items():
                assert stage.host.content(path) == guest.truth[target], f"{target} lost something"
        opened = stage.host.opened.get(f"/root/run/{self.scene.world.next_id}")
        if self.plan.operation == "revert" and opened is not None and verdict == "new":
            for target, content in self.frozen[self.plan.subject].items():
                assert opened[target] == content, "the guest had run on its disks before it was started"
        if stage.guest is None:
            assert stage.contents() == self.expected(stage, verdict)

    def check_new(self, stage: Stage, name: str, contents: dict[str, Content]) -> None:
        file = stage.tree[name].memory_file
        if file is not None:
            image = stage.host.memories[file]
            assert image.sealed
            assert contents == {t: image.disks[t] for t in contents}, "memory and disks of two instants"
        elif self.contents and not self.old["guests"]:
            assert contents == self.contents

    def expected(self, stage: Stage, verdict: str) -> dict[str, Content]:
        """What the disks of a domain that is off should hold: what the last guest on them has written."""
        old = next((stage.host.ended[x] for x in self.old["guests"] if x in stage.host.ended), None)
        new = stage.host.ended.get(f"/root/run/{self.scene.world.next_id}")
        before = self.contents if old is None else old.truth
        if self.plan.operation == "start" and new is not None:
            return new.truth
        if verdict == "old" or self.plan.operation != "revert":
            return before
        if new is not None:
            return new.truth
        return {**before, **self.frozen.get(self.plan.subject, {})}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with quick_store(tmp_path) as store:
        yield store


@pytest.fixture
def trial(name: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> Trial:
    return Trial(name, store, monkeypatch)


def run(stage: Stage, plan: Plan, crash: Points | None = None, fail: Points | None = None) -> bool:
    """Whether the process lived."""
    try:
        asyncio.run(stage.process(crash, fail).run(plan))
    except Crash:
        return False
    return True


def recover(stage: Stage, crash: Points | None = None) -> bool:
    try:
        asyncio.run(stage.process(crash).recover())
    except Crash:
        return False
    return True


def crashes(trial: Trial) -> Iterator[tuple[int, Stage]]:
    """A stage for every point at which the first process died."""
    for k in range(1, 1000):
        stage = trial.stage()
        if run(stage, trial.plan, Points(k, die)):
            assert k > 2
            return
        yield k, stage


def again(trial: Trial, stage: Stage) -> None:
    """What was undone can be done."""
    stage.now += 1
    stage.next_id += 1
    assert run(stage, trial.operation.plan(stage))
    assert set(stage.tree.snapshots) == set(trial.new["snapshots"])


@operations
def test_a_process_that_dies_anywhere(trial: Trial) -> None:
    seen = set()
    for _, stage in crashes(trial):
        assert recover(stage)
        verdict = trial.judge(stage)
        seen.add(verdict)
        if verdict == "old":
            again(trial, stage)
    assert "new" in seen
    assert "rest" not in seen


@recoveries
def test_a_recovery_that_dies_anywhere(trial: Trial) -> None:
    seen = set()
    for k, left in crashes(trial):
        if (trace := left.trace()) in seen:
            continue  # two points with nothing between them
        seen.add(trace)
        for j in range(1, 1000):
            stage = trial.stage()
            assert not run(stage, trial.plan, Points(k, die))
            if recover(stage, Points(j, die)):
                break
            assert recover(stage)
            assert trial.judge(stage) in ("old", "new")


@operations
def test_power_that_goes_anywhere(trial: Trial) -> None:
    for _, stage in crashes(trial):
        stage.host.lose_power()
        assert recover(stage)
        stage.host.lose_power()  # takes a QEMU that the recovery has started
        trial.judge(stage, dark=True)


@operations
def test_any_step_that_fails(trial: Trial) -> None:
    for n in range(1, 1000):
        stage = trial.stage()
        try:
            if run(stage, trial.plan, fail=Points(n, refuse)):
                assert n > 1 or trial.operation.plan is OPERATIONS["delete, metadata"].plan
                return
        except Failed as error:
            check_failure(trial, stage, error)


def check_failure(trial: Trial, stage: Stage, error: Failed) -> None:
    assert error.detail.startswith("no luck")
    if error.outcome is Outcome.UNDONE:
        assert trial.judge(stage) == "old"
        again(trial, stage)
    elif error.outcome is Outcome.DONE_WITH_WARNING:
        assert trial.judge(stage) == "rest"
    else:
        assert "completed by the next command on the domain" in error.detail
        assert error.step
        assert recover(stage)
        assert trial.judge(stage) == "new"


@operations
def test_cancelled_anywhere(trial: Trial) -> None:
    for n in range(1, 1000):
        stage = trial.stage()
        reached, verdict = asyncio.run(cancelled(stage, trial.plan, n))
        if not reached:
            return
        if verdict == "interrupted":
            assert recover(stage)
            assert trial.judge(stage) == "new"
        else:
            assert trial.judge(stage) == verdict


async def cancelled(stage: Stage, plan: Plan, n: int) -> tuple[bool, str]:
    """Run, cancel at the n-th await, and say what the caller is told: old, new or interrupted."""
    task = asyncio.ensure_future(stage.process().run(plan))
    stage.wait = Points(n, lambda name: task.cancel() and None)
    await asyncio.wait({task})
    reached = stage.wait.reached >= n
    if task.cancelled():
        return reached, "old"
    error = task.exception()
    if isinstance(error, Failed):
        assert error.code is ErrorCode.OPERATION_ABORTED
        assert error.outcome is Outcome.NEEDS_RECOVERY
        return reached, "interrupted"
    assert error is None
    return reached, "new"


# --- smaller things ---------------------------------------------------------------------------------------


@pytest.fixture
def stage(store: Store, monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage(history(running=False), store)
    stage.install(monkeypatch)
    return stage


async def test_nothing_to_recover(stage: Stage) -> None:
    assert await stage.process().recover() is None


async def test_the_history_tells_how_it_ended(stage: Stage) -> None:
    plan = creating()(stage)
    with pytest.raises(Failed):
        await stage.process(fail=Points(2, refuse)).run(plan)
    await stage.process().run(plan)
    outcomes = [(entry.entry.operation, entry.outcome) for entry in stage.store.history(stage.record.uuid)]
    assert outcomes == [("create", "done"), ("create", "undone")]


async def test_what_a_step_raises_is_passed_on_as_it_is(stage: Stage) -> None:
    class Odd(VirtsnapError):
        pass

    def odd(name: str) -> None:
        raise Odd(name)

    with pytest.raises(Odd):
        await stage.process(fail=Points(2, odd)).run(creating()(stage))
    assert stage.store.journal(stage.record.uuid) is None


async def test_a_bug_in_a_step_is_undone_too(stage: Stage) -> None:
    def bug(name: str) -> None:
        raise ZeroDivisionError(name)

    files = set(stage.host.images)
    with pytest.raises(ZeroDivisionError):
        await stage.process(fail=Points(2, bug)).run(creating()(stage))
    assert set(stage.host.images) == files
    assert stage.store.journal(stage.record.uuid) is None


async def test_one_operation_at_a_time(stage: Stage) -> None:
    plan = creating()(stage)
    with pytest.raises(Crash):
        await stage.process(Points(3, die)).run(plan)
    with pytest.raises(OperationInvalid) as caught:
        await stage.process().run(plan)
    assert str(caught.value) == "Requested operation is not valid: domain has an unfinished operation: create"


async def test_an_undo_that_fails_leaves_the_journal_open_for_another_try(stage: Stage) -> None:
    plan = creating()(stage)
    before = stage.state()
    with pytest.raises(Crash):
        await stage.process(Points(9, die)).run(plan)
    with pytest.raises(Failed, match="no luck undoing"):
        await stage.process(fail=Points(2, refuse)).recover()
    assert stage.store.journal(stage.record.uuid) is not None
    await stage.process().recover()
    assert stage.state() == before


async def test_a_plan_without_effect_closes_its_journal(stage: Stage) -> None:
    await stage.process().run(Plan("create", "x", commit=Declare()))
    assert stage.store.journal(stage.record.uuid) is None


async def test_the_facts_are_kept_with_the_plan(stage: Stage) -> None:
    from virtsnap.formats import plan_json
    from virtsnap.model.facts import DomainFacts

    plan, facts = creating()(stage), stage.facts()
    await stage.process().run(plan, facts)
    entry = stage.store.history(stage.record.uuid)[0].entry
    assert plan_json.loads(entry.plan_json, Plan) == plan
    assert plan_json.loads(entry.facts_json, DomainFacts) == facts


async def test_a_plan_of_steps_nobody_knows_is_damage(stage: Stage) -> None:
    with stage.store.transaction() as tx:
        tx.open_journal(stage.record.uuid, "create", '{"is":"Nothing"}', "", "")
    with pytest.raises(VirtsnapError, match="the journal cannot be read"):
        await stage.process().recover()
    assert stage.store.journal(stage.record.uuid) is not None
