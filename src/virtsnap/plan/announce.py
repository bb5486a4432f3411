"""What plans tell whoever watches, in libvirt's order (`virsh event` of 11.3)."""

from __future__ import annotations

from virtsnap.formats.guest_agent import agent_channel
from virtsnap.model.domain import Reason
from virtsnap.model.event import Detail, ended
from virtsnap.model.steps import Announce, Step


def agent_awaited(live_xml: str) -> list[Step]:
    """A QEMU was started: its guest's agent, if it is to have one, is not there yet."""
    return [Announce(agent_awaited=True)] if agent_channel(live_xml) is not None else []


def stopped(run_dir: str, reason: Reason) -> Announce:
    """The QEMU of a run folder was ended."""
    return Announce(ended(reason), ended=run_dir)


def told(*details: Detail) -> Announce:
    """These, one after the other."""
    return Announce(details)
