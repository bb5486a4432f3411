"""The guest's serial console on this terminal: console, ttyconsole."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, Command, flag, string

if TYPE_CHECKING:
    from virtsnap.service.interface import DomainHandle


async def attach(session: Session, domain: DomainHandle, device: str | None, *, resume: bool = False) -> None:
    """Join this terminal to a console of the domain until the escape character or the guest's end.

    Raises CliError when stdin is no terminal or the console cannot be opened.
    """
    if not sys.stdin.isatty():
        raise CliError("Cannot run interactive console without a controlling TTY")
    from virtsnap.cli.tty import open_line, passthrough

    service = await session.service()
    line = open_line(await service.console_path(domain.uuid, device))
    escape = session.settings.escape
    key = f" (Ctrl + {escape[1]})" if len(escape) == 2 else ""
    session.extra(f"Connected to domain '{domain.name}'\nEscape character is {escape}{key}\n")
    session.flush()

    async def started() -> None:
        if resume:
            await service.resume(domain.uuid)

    await passthrough(line, escape, started)


async def _console(session: Session, args: Args) -> None:
    for option in ("force", "safe"):
        if args.has(option):
            # Both rest on a lock that libvirtd keeps on the device; nothing keeps one here.
            raise CliError(f"unsupported configuration: console --{option} is not supported")
    domain = await session.domain(args)
    await attach(session, domain, args.string("devname"), resume=args.has("resume"))


async def _ttyconsole(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    session.print(await service.console_path(domain.uuid))


COMMANDS = {
    "console": Command(
        _console,
        (
            DOMAIN,
            string("devname", "character device name", tolerated=True),
            flag("force", "force console connection (disconnect already connected sessions)"),
            flag("resume", "resume a paused guest after connecting to console"),
            flag("safe", "only connect if safe console handling is supported"),
        ),
        "Connect the virtual serial console for the guest",
        ("console demo", "console demo --devname serial1"),
    ),
    "ttyconsole": Command(_ttyconsole, (DOMAIN,), "Output the device for the TTY console."),
}
