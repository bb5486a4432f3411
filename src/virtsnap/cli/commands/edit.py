"""edit: a domain's definition in an editor."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.editor import edit
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, Command, flag
from virtsnap.model.errors import NoSupport
from virtsnap.model.flags import DomainDefine, DomainXml


async def _edit(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    name = domain.name

    async def fetch() -> str:
        return await service.domain_xml(domain.uuid, DomainXml.INACTIVE | DomainXml.SECURE)

    async def define(xml: str, flags: int) -> None:
        nonlocal name
        name = (await service.define_xml(xml, flags)).name

    async def unchecked(xml: str) -> None:
        await define(xml, 0)

    async def checked(xml: str) -> None:
        try:
            await define(xml, DomainDefine.VALIDATE)
        except NoSupport:  # No schema here: as virsh does with a daemon that cannot check.
            await define(xml, 0)

    apply = unchecked if args.has("skip-validate") else checked
    if await edit(session, fetch, apply, relaxed=unchecked):
        session.extra(f"Domain '{name}' XML configuration edited.\n")
    else:
        session.extra(f"Domain '{name}' XML configuration not changed.\n")


COMMANDS = {
    "edit": Command(
        _edit,
        (DOMAIN, flag("skip-validate", "skip validation of the XML against the schema")),
        "Edit the XML configuration for a domain.",
        ("edit demo",),
    )
}
