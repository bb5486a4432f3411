"""start: boot a domain that is not running."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.session import Session
from virtsnap.cli.spec import Command, flag, positional, string
from virtsnap.model.errors import ConfigUnsupported
from virtsnap.model.flags import DomainStart

_FLAGS: dict[str, int] = {
    "paused": DomainStart.PAUSED,
    "autodestroy": DomainStart.AUTODESTROY,
    "bypass-cache": DomainStart.BYPASS_CACHE,
    "force-boot": DomainStart.FORCE_BOOT,
    "reset-nvram": DomainStart.RESET_NVRAM,
}


async def _start(session: Session, args: Args) -> None:
    domain = await session.domain(args, by_id=False)
    if domain.id is not None:
        raise CliError("Domain is already active")
    service = await session.service()
    with session.explaining(f"Failed to start domain '{domain.name}'"):
        if args.has("pass-fds"):
            raise ConfigUnsupported("passing file descriptors to the guest (--pass-fds) is not supported")
        await service.create(domain.uuid, args.flags(_FLAGS))
    session.extra(f"Domain '{domain.name}' started\n")
    if args.has("console"):
        from virtsnap.cli.commands.console import attach

        await attach(session, domain, None)


COMMANDS = {
    "start": Command(
        _start,
        (
            positional("domain", "name of the inactive domain", required=True),
            flag("console", "attach to console after creation"),
            flag("paused", "leave the guest paused after creation"),
            flag("autodestroy", "automatically destroy the guest when virtsnap disconnects"),
            flag("bypass-cache", "avoid file system cache when loading"),
            flag("force-boot", "force fresh boot by discarding any managed save"),
            string("pass-fds", "pass file descriptors N,M,... to the guest"),
            flag("reset-nvram", "re-initialize NVRAM from its pristine template"),
        ),
        "Start a domain, either from the last managedsave\n"
        "state, or via a fresh boot if no managedsave state\n"
        "is present.",
        ("start demo", "start demo --console", "start demo --paused"),
    )
}
