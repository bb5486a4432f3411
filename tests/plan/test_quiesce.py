"""--quiesce as a plan: when the agent is asked, in which order, and in what words it is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.plan.scene import Scene, lines
from virtsnap.model.errors import (
    AgentRefused,
    ArgumentUnsupported,
    InternalRefused,
    OperationInvalid,
    Refused,
)
from virtsnap.model.facts import AgentFacts
from virtsnap.model.flags import SnapshotCreate as Flag
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk
from virtsnap.model.steps import Plan
from virtsnap.plan import create

READY = AgentFacts(True, "/run/agent")
QUIESCE = Flag.DISK_ONLY | Flag.QUIESCE


def planned(scene: Scene, agent: AgentFacts | None, flags: Flag = QUIESCE, *disks: SnapshotDisk) -> Plan:
    parsed = Snapshot("s", disks=disks)
    images = scene.host.images.__contains__
    request = create.prepare_request(parsed, flags, scene.book.record, 1, frozenset(), images)
    facts = replace(scene.world.facts(create.paths_of(request)), agent=agent)
    return create.plan_create(facts, request)


def test_frozen_only_while_the_disks_switch() -> None:
    plan = planned(Scene(running=True), READY)
    assert lines(plan) == [
        "prepare: make overlay /i/vda.s on /i/vda.img",
        "prepare: open /i/vda.s for disk vda",
        "prepare: freeze the guest's file systems",
        "commit: switch to the overlays of vda",
        "finish: thaw the guest's file systems",
        "finish: write it down: snapshot s, current s",
    ]
    assert plan.pause == "none; its file systems stand still while the disks switch"


def test_a_guest_that_is_ended_is_not_thawed() -> None:
    said = lines(planned(Scene(running=True), READY, QUIESCE | Flag.HALT))
    assert "prepare: freeze the guest's file systems" in said
    assert not any("thaw" in line for line in said)


def test_a_guest_that_stays_paused_is_thawed_when_it_resumes() -> None:
    manual = SnapshotDisk("vdb", Location.MANUAL)
    said = lines(planned(Scene(("vda", "vdb"), running=True), READY, QUIESCE, manual))
    assert said[2:5] == [
        "prepare: freeze the guest's file systems",
        "prepare: pause the guest",
        "commit: switch to the overlays of vda",
    ]
    assert not any("thaw" in line for line in said)


def test_the_agent_of_a_domain_that_is_off_is_not_asked() -> None:
    assert not any("freeze" in line for line in lines(planned(Scene(), None)))


REFUSALS: dict[str, tuple[AgentFacts | None, type[Refused], str]] = {
    "none": (
        AgentFacts(False),
        ArgumentUnsupported,
        "argument unsupported: QEMU guest agent is not configured",
    ),
    "not connected": (
        AgentFacts(True, problem="QEMU guest agent is not connected"),
        AgentRefused,
        "Guest agent is not responding: QEMU guest agent is not connected",
    ),
    "no answer": (
        AgentFacts(True, problem="Guest agent not available for now"),
        AgentRefused,
        "Guest agent is not responding: Guest agent not available for now",
    ),
    "frozen": (
        replace(READY, frozen=True),
        InternalRefused,
        "internal error: unable to execute QEMU agent command 'guest-fsfreeze-freeze': "
        "the guest's file systems are frozen already",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_an_agent_that_cannot_help(case: str) -> None:
    agent, error, text = REFUSALS[case]
    with pytest.raises(error) as caught:
        planned(Scene(running=True), agent)
    assert str(caught.value) == text
    assert type(caught.value) is error


def test_a_paused_guest_cannot_answer() -> None:
    scene = Scene(running=True)
    scene.pause()
    with pytest.raises(OperationInvalid) as caught:
        planned(scene, AgentFacts(False))
    assert str(caught.value) == "Requested operation is not valid: domain is not running"
