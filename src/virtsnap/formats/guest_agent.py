"""Where a definition gives the guest its QEMU guest agent: the virtio channel of that name.

What is said on it: `qemu.agent`.
"""

from __future__ import annotations

from virtsnap.formats import xml_text
from virtsnap.model.frozen import dataclass

CHANNEL_NAME = "org.qemu.guest_agent.0"


@dataclass(frozen=True)
class AgentChannel:
    """The channel of a live definition."""

    alias: str | None
    socket: str | None
    """Path of the unix socket that QEMU listens on; None where the other end is not ours to talk to."""


def agent_channel(domain_xml: str) -> AgentChannel | None:
    """The first channel that is called as the agent's; None when the domain has none."""
    for channel in xml_text.parse(domain_xml, "domain").iterfind("devices/channel"):
        target, alias, source = (channel.find(tag) for tag in ("target", "alias", "source"))
        if target is None or target.get("type") != "virtio" or target.get("name") != CHANNEL_NAME:
            continue
        listens = channel.get("type") == "unix" and source is not None and source.get("mode") != "connect"
        return AgentChannel(
            alias=None if alias is None else alias.get("name"),
            socket=source.get("path") if listens and source is not None else None,
        )
    return None
