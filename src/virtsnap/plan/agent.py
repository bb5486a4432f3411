"""Whether the guest agent can help, in libvirt's order and words (qemuDomainAgentAvailable, 11.3)."""

from __future__ import annotations

from virtsnap.model.domain import DomainState
from virtsnap.model.errors import AgentRefused, ArgumentUnsupported, InternalRefused, OperationInvalid
from virtsnap.model.facts import DomainFacts


def usable_agent(facts: DomainFacts) -> str:
    """The socket of an agent that answers, in a guest whose file systems are not frozen.

    Raises OperationInvalid, ArgumentUnsupported, AgentRefused, InternalRefused.
    """
    agent = facts.agent
    if facts.record.state is not DomainState.RUNNING:
        raise OperationInvalid("domain is not running")
    if agent is None or not agent.configured:
        raise ArgumentUnsupported("QEMU guest agent is not configured")
    if agent.socket is None:
        raise AgentRefused(agent.problem or "QEMU guest agent is not connected")
    if agent.frozen:
        # Whoever froze them wants to thaw them himself: the snapshot would do it for him.
        raise InternalRefused(
            "unable to execute QEMU agent command 'guest-fsfreeze-freeze': "
            "the guest's file systems are frozen already"
        )
    return agent.socket
