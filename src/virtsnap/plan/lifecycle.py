"""Starting and ending a domain, as plans: the same journal keeps them whole."""

from __future__ import annotations

from dataclasses import replace

from virtsnap.model.domain import DomainRecord, Reason
from virtsnap.model.errors import OperationInvalid
from virtsnap.model.event import Detail
from virtsnap.model.steps import KillQemu, Plan, ResumeGuest, StartQemu, StoreWrite
from virtsnap.plan.announce import agent_awaited, stopped, told
from virtsnap.plan.nvram import reset_nvram


def plan_start(record: DomainRecord, *, id: int, root: str, paused: bool, fresh_nvram: bool = False) -> Plan:
    """Boot the definition, `fresh_nvram`: with UEFI variables as of a new domain, even if QEMU then fails.

    Raises OperationInvalid when the domain runs.
    """
    if record.active:
        raise OperationInvalid("domain is already running")
    run_dir = f"{root}/run/{id}"
    reason = Reason.PAUSED_USER if paused else Reason.RUNNING_BOOTED
    # That it runs is told before that it was started: libvirt's order.
    then = (
        (told(Detail.STARTED_BOOTED, Detail.SUSPENDED_PAUSED),)
        if paused
        else (ResumeGuest(), told(Detail.STARTED_BOOTED))
    )
    return Plan(
        operation="start",
        subject=record.name,
        prepare=(
            *(reset_nvram(record.config_xml) if fresh_nvram else ()),
            StartQemu(id, run_dir, record.config_xml, incoming=False),
        ),
        commit=StoreWrite(record=replace(record, live_xml=record.config_xml, reason=reason), started=run_dir),
        finish=(*agent_awaited(record.config_xml), *then),
    )


def plan_stop(record: DomainRecord, reason: Reason) -> Plan:
    """End the process. Raises OperationInvalid when there is none."""
    if record.instance is None:
        raise OperationInvalid("domain is not running")
    return Plan(
        operation="destroy",
        subject=record.name,
        commit=StoreWrite(record=replace(record, live_xml=None, instance=None, reason=reason)),
        finish=(KillQemu(record.instance.run_dir), stopped(record.instance.run_dir, reason)),
    )
