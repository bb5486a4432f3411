"""The calls that pass words on: to QEMU's monitor, and to the agent in the guest. Nobody checks them."""

from __future__ import annotations

import json
from typing import Any

from virtsnap.model.domain import DomainState
from virtsnap.model.errors import ArgumentUnsupported, BareInvalidArg, InternalRefused, OperationInvalid
from virtsnap.model.flags import QemuMonitorCommand
from virtsnap.plan.requests import known_flags
from virtsnap.service.context import Context
from virtsnap.service.questions import ask

_BLOCK, _DEFAULT, _NOWAIT = -2, -1, 0
"""virDomainQemuAgentCommandTimeoutValues."""


class PassingCalls(Context):
    """See `service.interface.Service`."""

    async def qemu_monitor_command(self, uuid: str, command: str, flags: int = 0) -> str:
        """QEMU's answer: a message of QMP's, also where it refuses, or the text of the human monitor.

        Raises OperationInvalid, InternalRefused for what is no JSON object.
        """
        from virtsnap.qemu.monitor import QmpCommandFailed

        self.writable("virDomainQemuMonitorCommand")
        known_flags(flags, QemuMonitorCommand, "qemuDomainQemuMonitorCommandWithFiles")
        record = await self.look(uuid)
        if record.instance is None:
            raise OperationInvalid("domain is not running")
        if flags & QemuMonitorCommand.HMP:
            return str(await ask(record, "human-monitor-command", **{"command-line": command}))
        message = _object(command)
        id = message.get("id", "virtsnap-1")
        try:
            answer = await ask(record, str(message.get("execute", "")), **message.get("arguments", {}))
        except QmpCommandFailed as error:
            said = {"class": error.class_, "desc": error.description}
            return _text({"id": id, "error": said})
        return _text({"return": answer, "id": id})

    async def qemu_agent_command(
        self, uuid: str, command: str, timeout: int = _BLOCK, flags: int = 0
    ) -> str | None:
        """The agent's answer; None when `timeout` is 0: nobody waits for it.

        `timeout`: seconds for the answer, -1 for five, -2 for as long as it takes. Raises OperationInvalid,
        ArgumentUnsupported without an agent's channel, AgentUnresponsive, AgentCommandFailed.
        """
        from virtsnap.formats.guest_agent import agent_channel
        from virtsnap.qemu import agent

        self.writable("virDomainQemuAgentCommand")
        if flags:
            raise BareInvalidArg(f"unsupported flags (0x{flags:x}) in function qemuDomainQemuAgentCommand")
        if timeout < _BLOCK:
            raise BareInvalidArg(
                f"invalid argument: guest agent timeout '{timeout}' is less than the minimum '-2'"
            )
        async with self.operation(uuid) as world:
            record, monitor = world.record(), await world.monitor()
            if record.live_xml is None or monitor is None or record.state is not DomainState.RUNNING:
                raise OperationInvalid("domain is not running")
            channel = agent_channel(record.live_xml)
            if channel is None:
                raise ArgumentUnsupported("QEMU guest agent is not configured")
            socket = await agent.open_socket(monitor, channel)
            message = _object(command)
            async with await agent.Agent.connect(socket) as conversation:
                await conversation.sync()
                name, arguments = str(message.get("execute", "")), message.get("arguments", {})
                if timeout == _NOWAIT:
                    conversation.send(name, **arguments)
                    await conversation.deliver()
                    return None
                limit = agent.SYNC_SECONDS if timeout == _DEFAULT else timeout if timeout > 0 else None
                return _text({"return": await conversation.execute(name, timeout=limit, **arguments)})


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InternalRefused(f"cannot parse json {text}: {error}") from error
    if not isinstance(found, dict):
        raise InternalRefused(f"cannot parse json {text}: not an object")
    return found


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
