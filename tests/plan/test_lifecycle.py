"""Starting and ending, as plans."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.plan.simulation import UUID, disk_xml, domain_xml, instance_of
from virtsnap.model.domain import DomainRecord, Reason
from virtsnap.model.errors import OperationInvalid
from virtsnap.model.event import Detail
from virtsnap.model.steps import Announce, KillQemu, ResumeGuest, StartQemu, StoreWrite
from virtsnap.plan.lifecycle import plan_start, plan_stop

XML = domain_xml(disk_xml("vda", "/a"))
OFF = DomainRecord(UUID, "d", XML, reason=Reason.SHUTOFF_DESTROYED)
ON = replace(OFF, reason=Reason.RUNNING_BOOTED, live_xml=XML, instance=instance_of("/root/run/3"))


@pytest.mark.parametrize("paused", [False, True])
def test_start(paused: bool) -> None:
    plan = plan_start(OFF, id=4, root="/root", paused=paused)
    reason = Reason.PAUSED_USER if paused else Reason.RUNNING_BOOTED
    assert plan.prepare == (StartQemu(4, "/root/run/4", XML, incoming=False),)
    assert plan.commit == StoreWrite(record=replace(OFF, live_xml=XML, reason=reason), started="/root/run/4")
    if paused:
        assert plan.finish == (Announce((Detail.STARTED_BOOTED, Detail.SUSPENDED_PAUSED)),)
    else:
        assert plan.finish == (ResumeGuest(), Announce((Detail.STARTED_BOOTED,)))
    assert (plan.operation, plan.subject) == ("start", "d")


def test_stop() -> None:
    plan = plan_stop(ON, Reason.SHUTOFF_DESTROYED)
    assert plan.prepare == ()
    assert plan.commit == StoreWrite(record=OFF)
    told = (Detail.SHUTDOWN_HOST, Detail.STOPPED_DESTROYED)
    assert plan.finish == (KillQemu("/root/run/3"), Announce(told, ended="/root/run/3"))


def test_refusals() -> None:
    with pytest.raises(OperationInvalid) as caught:
        plan_start(ON, id=4, root="/root", paused=False)
    assert str(caught.value) == "Requested operation is not valid: domain is already running"
    with pytest.raises(OperationInvalid) as caught:
        plan_stop(OFF, Reason.SHUTOFF_DESTROYED)
    assert str(caught.value) == "Requested operation is not valid: domain is not running"
