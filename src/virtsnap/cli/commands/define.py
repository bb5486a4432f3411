"""define, and create, which is refused: every domain here is persistent."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.files import read_text
from virtsnap.cli.session import Session
from virtsnap.cli.spec import Command, flag, positional, string
from virtsnap.model.errors import ConfigUnsupported
from virtsnap.model.flags import DomainDefine

_FILE = positional("file", "file containing an XML domain description", required=True)
_VALIDATE = flag("validate", "validate the XML against the schema")


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
    read_text(path)
    with session.explaining(f"Failed to create domain from {path}"):
        raise ConfigUnsupported("transient domains are not supported: use define and start")


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
        "Create a transient domain. Not supported yet: use define and start.",
    ),
}
