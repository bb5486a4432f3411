"""edit: a domain's definition in an editor."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.editor import edit
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, Command, flag
from virtsnap.model.flags import DomainXml


async def _edit(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    name = domain.name

    async def fetch() -> str:
        return await service.domain_xml(domain.uuid, DomainXml.INACTIVE | DomainXml.SECURE)

    async def apply(xml: str) -> None:
        nonlocal name
        # virsh asks for a check against the schema unless --skip-validate is given. There is no schema
        # here: whoever wants one checked asks with define --validate, and is told so.
        name = (await service.define_xml(xml)).name

    if await edit(session, fetch, apply):
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
