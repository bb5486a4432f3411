"""What a revert tells, as `virsh event` of libvirt 11.3 prints it."""

from __future__ import annotations

import pytest

from tests.plan.test_revert import PAUSED, RUNNING, scene
from virtsnap.model.event import Detail
from virtsnap.model.steps import Announce, Plan, ResumeGuest

HOST, GONE = Detail.SHUTDOWN_HOST, Detail.STOPPED_FROM_SNAPSHOT
STARTED, SUSPENDED = Detail.STARTED_FROM_SNAPSHOT, Detail.SUSPENDED_FROM_SNAPSHOT
DEFINED = Detail.DEFINED_FROM_SNAPSHOT


def said(plan: Plan) -> list[Detail | str]:
    """What is told, and where among it the guest begins to run, which QEMU tells."""
    found: list[Detail | str] = []
    for step in plan.steps:
        if isinstance(step, Announce):
            found += step.details
        elif isinstance(step, ResumeGuest):
            found.append("runs")
    return found


@pytest.mark.parametrize("before", ["off", "running", "paused"])
@pytest.mark.parametrize(
    ("kind", "flags", "words"),
    [
        ("shutoff", 0, []),
        ("shutoff", RUNNING, ["runs", STARTED]),
        ("shutoff", PAUSED, [STARTED, SUSPENDED]),
        ("disks", 0, []),
        ("running", 0, [STARTED, "runs"]),
        ("running", PAUSED, [STARTED, SUSPENDED]),
        ("paused", 0, [STARTED, SUSPENDED]),
        ("paused", RUNNING, [STARTED, "runs"]),
    ],
)
def test_reverts(kind: str, flags: int, before: str, words: list[Detail | str]) -> None:
    ended: list[Detail | str] = [] if before == "off" else [HOST, GONE]
    assert said(scene(kind, before).plan_revert("s1", flags)) == [*ended, *words, DEFINED]
