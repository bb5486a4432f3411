"""Shutting a guest down or restarting it through its agent, and when that is the way (libvirt's rules, 11.3).

The power button is `service.domains`'.
"""

from __future__ import annotations

import asyncio
import logging

from virtsnap.engine.world import World
from virtsnap.formats.guest_agent import agent_channel
from virtsnap.model.domain import DomainState
from virtsnap.model.errors import (
    AgentCommandFailed,
    ArgumentUnsupported,
    BareInvalidArg,
    Failed,
    OperationInvalid,
    VirtsnapError,
)
from virtsnap.model.flags import ShutdownMethod
from virtsnap.qemu import agent
from virtsnap.qemu.monitor import Listener, Monitor, MonitorLost


def check_method(flags: int, function: str) -> ShutdownMethod:
    """libvirt's QEMU driver knows two of the methods. Raises BareInvalidArg."""
    unknown = flags & ~(ShutdownMethod.ACPI_POWER_BTN | ShutdownMethod.GUEST_AGENT)
    if unknown:
        raise BareInvalidArg(f"unsupported flags (0x{unknown:x}) in function {function}")
    return ShutdownMethod(flags)


async def by_agent(world: World, monitor: Monitor, method: ShutdownMethod, mode: str) -> bool:
    """Let the agent do it; False when the power button is to be pressed instead.

    `mode`: guest-shutdown's, 'powerdown' or 'reboot'. An agent that is there is asked first unless the caller
    wants the button; one that fails is an error only for a caller who wants nothing else. Raises
    OperationInvalid, ArgumentUnsupported, AgentUnresponsive, AgentCommandFailed.
    """
    if method == ShutdownMethod.ACPI_POWER_BTN:
        return False
    try:
        await _ask(world, monitor, mode)
    except VirtsnapError:
        if method == ShutdownMethod.GUEST_AGENT:
            raise
        return monitor.lost
    return True


async def _ask(world: World, monitor: Monitor, mode: str) -> None:
    """Return when the guest begins to shut down: an agent that obeys does not answer."""
    record = world.record()
    if record.state is not DomainState.RUNNING or record.live_xml is None:
        raise OperationInvalid("domain is not running")
    channel = agent_channel(record.live_xml)
    if channel is None:
        raise ArgumentUnsupported("QEMU guest agent is not configured")
    socket = await agent.open_socket(monitor, channel)
    async with (
        monitor.events("SHUTDOWN", "RESET", "VSERPORT_CHANGE") as listener,
        await agent.Agent.connect(socket) as conversation,
    ):
        await conversation.sync()
        refused = asyncio.create_task(conversation.execute("guest-shutdown", mode=mode))
        begun = asyncio.create_task(_begun(listener, channel.alias))
        try:
            done, _ = await asyncio.wait(
                {refused, begun}, timeout=agent.SHUTDOWN_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            refused.cancel()
            begun.cancel()
            await asyncio.wait({refused, begun})
        if not done:
            raise agent.AgentUnresponsive("Guest agent not available for now")
        if begun not in done and isinstance(error := refused.exception(), AgentCommandFailed):
            raise error


async def _begun(listener: Listener, alias: str | None) -> None:
    """The guest goes down, restarts, or has ended its agent on the way there."""
    try:
        async for event in listener:
            if event.name != "VSERPORT_CHANGE" or (event.data["id"] == alias and not event.data["open"]):
                return
    except MonitorLost:
        return


async def thaw(world: World, monitor: Monitor) -> None:
    """A guest that stood still runs again: if its file systems were frozen with it, they go on too.

    Quiet when there is no agent or nothing is frozen; a warning when the agent does not say.
    """
    record = world.record()
    channel = agent_channel(record.live_xml) if record.live_xml is not None else None
    if channel is None:
        return
    try:
        socket = await agent.open_socket(monitor, channel)
    except agent.AgentUnresponsive:
        return  # without an agent nothing was frozen
    try:
        await agent.thaw(socket)
    except Failed as error:
        logging.getLogger("virtsnap").warning(
            "the file systems of domain '%s' may still be frozen: %s", record.name, error
        )
