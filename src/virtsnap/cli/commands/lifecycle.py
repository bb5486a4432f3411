"""What happens to a running domain: shutdown, reboot, reset, destroy, suspend, resume."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, Command, flag, positional
from virtsnap.model.flags import DomainDestroy, ShutdownMethod

_MODES: dict[str, int] = {
    "acpi": ShutdownMethod.ACPI_POWER_BTN,
    "agent": ShutdownMethod.GUEST_AGENT,
    "initctl": ShutdownMethod.INITCTL,
    "signal": ShutdownMethod.SIGNAL,
    "paravirt": ShutdownMethod.PARAVIRT,
}


def _mode(args: Args, last: str) -> int:
    """The flags of --mode, a comma separated list. `last`: how the list of known modes ends."""
    value = args.string("mode")
    word = 0
    for mode in value.split(",") if value else ():
        if mode not in _MODES:
            raise CliError(f"Unknown mode {mode} value, expecting 'acpi', 'agent', 'initctl', {last}")
        word |= _MODES[mode]
    return word


async def _shutdown(session: Session, args: Args) -> None:
    flags = _mode(args, "'signal', or 'paravirt'")
    domain = await session.domain(args)
    service = await session.service()
    with session.explaining(f"Failed to shutdown domain '{domain.name}'"):
        await service.shutdown(domain.uuid, flags)
    session.extra(f"Domain '{domain.name}' is being shutdown\n")


async def _reboot(session: Session, args: Args) -> None:
    flags = _mode(args, "'signal' or 'paravirt'")
    domain = await session.domain(args)
    service = await session.service()
    with session.explaining(f"Failed to reboot domain '{domain.name}'"):
        await service.reboot(domain.uuid, flags)
    session.extra(f"Domain '{domain.name}' is being rebooted\n")


async def _reset(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    with session.explaining(f"Failed to reset domain '{domain.name}'"):
        await service.reset(domain.uuid)
    session.extra(f"Domain '{domain.name}' was reset\n")


async def _destroy(session: Session, args: Args) -> None:
    flags = args.flags({"graceful": DomainDestroy.GRACEFUL, "remove-logs": DomainDestroy.REMOVE_LOGS})
    domain = await session.domain(args)
    service = await session.service()
    with session.explaining(f"Failed to destroy domain '{domain.name}'"):
        await service.destroy(domain.uuid, flags)
    session.extra(f"Domain '{domain.name}' destroyed\n")


async def _suspend(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    with session.explaining(f"Failed to suspend domain '{domain.name}'"):
        await service.suspend(domain.uuid)
    session.extra(f"Domain '{domain.name}' suspended\n")


async def _resume(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    with session.explaining(f"Failed to resume domain '{domain.name}'"):
        await service.resume(domain.uuid)
    session.extra(f"Domain '{domain.name}' resumed\n")


_MODE = positional("mode", "shutdown mode: acpi|agent|initctl|signal|paravirt")

COMMANDS = {
    "shutdown": Command(
        _shutdown,
        (DOMAIN, _MODE),
        "Run shutdown in the target domain.",
        ("shutdown demo", "shutdown demo --mode acpi"),
    ),
    "reboot": Command(_reboot, (DOMAIN, _MODE), "Run a reboot command in the target domain."),
    "reset": Command(_reset, (DOMAIN,), "Reset the target domain as if by power button"),
    "destroy": Command(
        _destroy,
        (DOMAIN, flag("graceful", "terminate gracefully"), flag("remove-logs", "remove domain logs")),
        "Forcefully stop a given domain, but leave its resources intact.",
        ("destroy demo",),
    ),
    "suspend": Command(_suspend, (DOMAIN,), "Suspend a running domain.", ("suspend demo",)),
    "resume": Command(_resume, (DOMAIN,), "Resume a previously suspended domain.", ("resume demo",)),
}
