"""Carries plans out, and takes up what a process that died has left.

The journal records intent before effect. One rule decides everything afterwards: if the commit was
recorded, or a look at the world shows that it happened, the finish steps run until they have succeeded;
otherwise every step that was begun is undone, last first. A cancelled or failed operation follows the same
rule as a crashed one. Steps themselves are in `engine.steps`.

What is not here: any decision about snapshots (`plan`), any knowledge of QEMU.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from virtsnap.engine.locks import holder
from virtsnap.engine.steps import do_step, probe_step, undo_step
from virtsnap.engine.steps.store_write import add, announce, apply
from virtsnap.engine.uninterrupted import uninterrupted
from virtsnap.engine.world import World
from virtsnap.formats import plan_json
from virtsnap.model.errors import ErrorCode, Failed, Outcome, VirtsnapError
from virtsnap.model.facts import DomainFacts
from virtsnap.model.steps import (
    AddDomains,
    Announce,
    Declare,
    ForgetDomain,
    LoadMemory,
    MergeImages,
    PauseGuest,
    Plan,
    ResumeGuest,
    SaveMemory,
    StartQemu,
    Step,
    StoreWrite,
)

Trace = Callable[[str], None]
"""Called at every point where a crash could fall; the crash sweep of the tests dies in it."""


def no_trace(point: str) -> None:
    """Nothing falls here."""


class Runner:
    """Runs one plan at a time on one domain, whose lock the caller holds."""

    def __init__(self, world: World, trace: Trace = no_trace) -> None:
        self._world = world
        self._trace = trace

    async def run(self, plan: Plan, facts: DomainFacts | None = None) -> None:
        """Do all of it or nothing.

        Raises the error of the step that failed, after everything was undone; or Failed with outcome
        NEEDS_RECOVERY when it happened after the commit: the next operation on the domain finishes it.
        """
        world = self._world
        with world.store.transaction() as tx:
            tx.open_journal(
                world.uuid,
                plan.operation,
                plan_json.dumps(plan),
                plan_json.dumps(facts) if facts is not None else "",
                holder(),
            )
            # With the first begin, so that the disk is waited for once.
            begun = list(_together(plan, 0))
            for index in begun:
                tx.record(world.uuid, index, "begin")
        try:
            for index, step in enumerate(plan.prepare):
                self._begin(plan, index, begun)
                await do_step(world, step)
                self._trace(f"after prepare {index}")
            self._begin(plan, len(plan.prepare), begun)
            await uninterrupted(self._commit(plan.commit))
        except (Exception, asyncio.CancelledError):  # whatever it was, it is undone and passed on
            if not await uninterrupted(self._settle(plan, begun)):
                raise
            # It came too late: the commit had happened, so the operation is carried to its end.
        await self._finish_all(plan)

    async def recover(self) -> Plan | None:
        """Bring an operation that was left open to its old or its new state.

        Returns its plan, or None when nothing was open. Raises Failed when it cannot be finished now.
        """
        entry = self._world.store.journal(self._world.uuid)
        if entry is None:
            return None
        plan = plan_json.loads(entry.plan_json, Plan)
        begun = sorted(entry.to_undo())
        if entry.committed or await uninterrupted(self._settle(plan, begun)):
            await self._finish_all(plan)
        return plan

    def _begin(self, plan: Plan, index: int, begun: list[int]) -> None:
        if index not in begun:
            together = _together(plan, index)
            with self._world.store.transaction(durable=_outlives(plan, index)) as tx:
                for one in together:
                    tx.record(self._world.uuid, one, "begin")
            begun.extend(together)
        self._trace(f"begun {index}")

    async def _commit(self, step: Step) -> None:
        world = self._world
        if isinstance(step, StoreWrite | AddDomains):
            with world.store.transaction() as tx:
                if isinstance(step, StoreWrite):
                    apply(world, tx, step)
                else:
                    add(tx, step)
                tx.mark_committed(world.uuid)
            self._trace("after commit")
            return
        if not isinstance(step, Declare):
            await do_step(world, step)
            self._trace("after commit, not recorded")
        self._mark()

    def _mark(self) -> None:
        with self._world.store.transaction() as tx:
            tx.mark_committed(self._world.uuid)
        self._trace("after commit")

    async def _settle(self, plan: Plan, begun: list[int]) -> bool:
        """Whether the operation is to be finished; if not, it has been undone."""
        entry = self._world.store.journal(self._world.uuid)
        if entry is None or entry.committed:
            return entry is not None
        if len(plan.prepare) in begun and await self._happened(plan):
            self._mark()
            return True
        phases = entry.phases()
        for index in reversed(begun):
            if index < len(plan.prepare):
                self._world.settled = phases.get(index) == "done"
                self._world.settle = partial(self._settle_step, index)
                await undo_step(self._world, plan.prepare[index])
                self._trace(f"undone {index}")
        with self._world.store.transaction() as tx:
            tx.close_journal(self._world.uuid, "undone")
        return False

    async def _happened(self, plan: Plan) -> bool:
        if isinstance(plan.commit, StoreWrite | AddDomains | Declare):
            return False  # their effect and the record of it are one transaction
        seen = await probe_step(self._world, plan.commit)
        return plan.forward_if_gone if seen is None else seen

    async def _finish_all(self, plan: Plan) -> None:
        """The finish steps. Only a merge may be interrupted: it is long, and can be taken up again.

        What stands before a write to the store that was made is not repeated: a guest may run on it.
        """
        first = len(plan.prepare) + 1
        noted = self._noted(first)
        written = max((index + 1 for index in noted if isinstance(plan.finish[index], StoreWrite)), default=0)
        for index, step in enumerate(plan.finish):
            if index < written or (index in noted and isinstance(step, Announce)):
                continue
            self._world.settled = index in noted
            self._world.settle = partial(self._settle_step, first + index)
            try:
                if isinstance(step, StoreWrite | Announce):
                    # What was told is of no use to anybody after a power cut.
                    with self._world.store.transaction(durable=isinstance(step, StoreWrite)) as tx:
                        if isinstance(step, Announce):
                            announce(self._world, tx, step)
                        else:
                            apply(self._world, tx, step)
                        tx.record(self._world.uuid, first + index, "done")
                elif isinstance(step, MergeImages):
                    await do_step(self._world, step)
                else:
                    await uninterrupted(do_step(self._world, step))
            except asyncio.CancelledError as error:
                raise Failed(
                    f"the {plan.operation} of '{plan.subject}' was interrupted after it was decided; "
                    "the next command on the domain completes it",
                    step=type(step).__name__,
                    outcome=Outcome.NEEDS_RECOVERY,
                    code=ErrorCode.OPERATION_ABORTED,
                ) from error
            except VirtsnapError as error:
                if plan.give_up and any(isinstance(x, StoreWrite) for x in plan.finish[index:]):
                    await uninterrupted(self._give_up(plan))
                    raise Failed(
                        error.detail,
                        step=type(step).__name__,
                        outcome=Outcome.DONE_WITH_WARNING,
                        code=error.code,
                    ) from error
                raise Failed(
                    f"{error.detail}; the {plan.operation} of '{plan.subject}' is decided and will be "
                    "completed by the next command on the domain, once the cause is gone",
                    step=type(step).__name__,
                    outcome=Outcome.NEEDS_RECOVERY,
                    code=error.code,
                ) from error
            self._trace(f"finished {index}")
        if plan.finish and isinstance(plan.finish[-1], ForgetDomain):
            return  # its journal went with it
        with self._world.store.transaction() as tx:
            tx.close_journal(self._world.uuid, "done")

    async def _give_up(self, plan: Plan) -> None:
        """Come to rest where the plan says, since going on would fail the same way each time."""
        for step in plan.give_up:
            await do_step(self._world, step)
        with self._world.store.transaction() as tx:
            tx.close_journal(self._world.uuid, "gave up")

    def _noted(self, first: int) -> set[int]:
        """The finish steps that are done for good: writes to the store, and what settled itself."""
        entry = self._world.store.journal(self._world.uuid)
        phases = entry.phases() if entry is not None else {}
        return {index - first for index, phase in phases.items() if index >= first and phase == "done"}

    def _settle_step(self, index: int, settled: bool) -> None:
        with self._world.store.transaction() as tx:
            tx.record(self._world.uuid, index, "done" if settled else "begin")


def _together(plan: Plan, index: int) -> range:
    """The steps whose begin is written down at once: all that a guest stands still for, so that it does not
    wait for the disk of the store as well. (Undoing a step that was never reached does nothing.)"""
    if index < len(plan.prepare) and _stops_the_guest(plan.prepare[index]):
        for last in range(index, len(plan.prepare)):
            if isinstance(plan.prepare[last], ResumeGuest):
                return range(index, last + 1)
    return range(index, index + 1)


def _stops_the_guest(step: Step) -> bool:
    return isinstance(step, PauseGuest) or (isinstance(step, SaveMemory) and step.live)


def _outlives(plan: Plan, index: int) -> bool:
    """Whether a power cut leaves anything of a step to be undone: not of processes, nor of a transaction."""
    if index == len(plan.prepare):
        return not isinstance(plan.commit, StoreWrite | AddDomains | Declare)
    return not isinstance(plan.prepare[index], StartQemu | LoadMemory)
