"""qemu-monitor-command and qemu-agent-command: words for QEMU's monitor and for the guest's agent."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, Command, Place, flag, many, number, string
from virtsnap.model.flags import QemuMonitorCommand


async def _monitor(session: Session, args: Args) -> None:
    args.exclusive("hmp", "pretty")
    args.exclusive("hmp", "return-value")
    if args.has("pass-fds"):
        raise CliError("passing file descriptors is not supported")
    words = args.many("cmd")
    domain = await session.domain(args)
    service = await session.service()
    if args.has("hmp"):
        answer = await service.qemu_monitor_command(domain.uuid, " ".join(words), QemuMonitorCommand.HMP)
        session.print(answer + "\n")
        return
    answer = await service.qemu_monitor_command(domain.uuid, _wrapped(words), 0)
    if args.has("return-value"):
        said = json.loads(answer)
        if "return" not in said:
            raise CliError("'return' member missing")
        answer = json.dumps(said["return"], separators=(",", ":"), ensure_ascii=False)
    if args.has("pretty"):
        answer = json.dumps(json.loads(answer), indent=2, ensure_ascii=False)
    session.print(answer)


def _wrapped(words: list[str]) -> str:
    """A QMP command: the words as they are where they are JSON, else a name and its arguments."""
    text = " ".join(words)
    if isinstance(_parsed(text), dict):
        return text
    command: dict[str, Any] = {"execute": words[0]}
    if words[1:]:
        given = " ".join(words[1:])
        arguments = _parsed(given)
        if not isinstance(arguments, dict):
            arguments = _parsed("{" + given + "}")
        if not isinstance(arguments, dict):
            raise CliError(f"failed to wrap arguments '{given}' into a QMP command wrapper")
        command["arguments"] = arguments
    return json.dumps(command)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


async def _agent(session: Session, args: Args) -> None:
    ways = [name for name in ("timeout", "async", "block") if args.has(name)]
    timeout = args.number("timeout")
    if timeout == 0:
        raise CliError("timeout must be positive")
    if len(ways) > 1:
        raise CliError("timeout, async and block options are exclusive")
    seconds = timeout if timeout is not None else 0 if args.has("async") else -2
    domain = await session.domain(args)
    service = await session.service()
    answer = await service.qemu_agent_command(domain.uuid, " ".join(args.many("cmd")), seconds)
    if answer is None:
        return
    if args.has("pretty"):
        answer = json.dumps(json.loads(answer), indent=2, ensure_ascii=False)
    session.print(answer + "\n")


_CMD = replace(many("cmd", "command", place=Place.POSITIONAL), required=True)

COMMANDS = {
    "qemu-monitor-command": Command(
        _monitor,
        (
            DOMAIN,
            flag("hmp", "command is in human monitor protocol"),
            flag("pretty", "pretty-print any qemu monitor protocol output"),
            flag("return-value", "extract the value of the 'return' key from the returned string"),
            string("pass-fds", "pass file descriptors N,M,... along with the command"),
            _CMD,
        ),
        "QEMU Monitor Command",
        ("qemu-monitor-command demo --hmp info block", "qemu-monitor-command demo query-status --pretty"),
    ),
    "qemu-agent-command": Command(
        _agent,
        (
            DOMAIN,
            number("timeout", "timeout seconds. must be positive."),
            flag("async", "execute command without waiting for timeout"),
            flag("block", "execute command without timeout"),
            flag("pretty", "pretty-print the output"),
            _CMD,
        ),
        "Run an arbitrary qemu guest agent command; use at your own risk",
        ('qemu-agent-command demo \'{"execute":"guest-ping"}\'',),
    ),
}
