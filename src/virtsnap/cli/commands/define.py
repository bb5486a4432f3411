"""define, and create: a domain that is forgotten when it ends. autostart."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.files import read_text
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, Command, flag, positional, string
from virtsnap.model.errors import ConfigUnsupported
from virtsnap.model.flags import DomainDefine, DomainStart

_FILE = positional("file", "file containing an XML domain description", required=True)
_VALIDATE = flag("validate", "validate the XML against the schema")

_START: dict[str, int] = {
    "paused": DomainStart.PAUSED,
    "autodestroy": DomainStart.AUTODESTROY,
    "validate": DomainStart.VALIDATE,
    "reset-nvram": DomainStart.RESET_NVRAM,
}


async def _define(session: Session, args: Args) -> None:
    path = args.required("file")
    xml = read_text(path)
    flags = args.flags({"validate": DomainDefine.VALIDATE})
    service = await session.service()
    with session.explaining(f"Failed to define domain from {path}"):
        domain = await service.define_xml(xml, flags)
    session.extra(f"Domain '{domain.name}' defined from {path}\n")


async def _create(session: Session, args: Args) -> None:
    path = args.required("file")
    xml = read_text(path)
    service = await session.service()
    with session.explaining(f"Failed to create domain from {path}"):
        if args.has("pass-fds"):
            raise ConfigUnsupported("passing file descriptors to the guest (--pass-fds) is not supported")
        domain = await service.create_xml(xml, args.flags(_START))
    session.extra(f"Domain '{domain.name}' created from {path}\n")
    if args.has("console"):
        from virtsnap.cli.commands.console import attach

        await attach(session, domain, None)


async def _autostart(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    disable = args.has("disable")
    mark = "unmark" if disable else "mark"
    if args.has("once"):
        raise ConfigUnsupported("starting a domain once with the host (--once) is not supported")
    with session.explaining(f"Failed to {mark} domain '{domain.name}' as autostarted"):
        await service.set_autostart(domain.uuid, not disable)
    session.extra(f"Domain '{domain.name}' {mark}ed as autostarted\n")


COMMANDS = {
    "define": Command(_define, (_FILE, _VALIDATE), "Define a domain.", ("define vm.xml",)),
    "create": Command(
        _create,
        (
            _FILE,
            flag("console", "attach to console after creation"),
            flag("paused", "leave the guest paused after creation"),
            flag("autodestroy", "automatically destroy the guest when virtsnap disconnects"),
            string("pass-fds", "pass file descriptors N,M,... to the guest"),
            _VALIDATE,
            flag("reset-nvram", "re-initialize NVRAM from its pristine template"),
        ),
        "Create a domain.",
        ("create vm.xml", "create vm.xml --paused --console"),
    ),
    "autostart": Command(
        _autostart,
        (
            DOMAIN,
            flag("disable", "disable autostarting"),
            flag("once", "control next boot state"),
        ),
        "Configure a domain to be automatically started at boot, by virtsnapd.",
        ("autostart demo", "autostart demo --disable"),
    ),
}
