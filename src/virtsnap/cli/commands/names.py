"""What a domain is called: domid, domname, domuuid, and another name, domrename."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.session import Session
from virtsnap.cli.spec import Command, positional


async def _domid(session: Session, args: Args) -> None:
    domain = await session.domain(args, by_id=False)
    session.print(("-" if domain.id is None else str(domain.id)) + "\n")


async def _domname(session: Session, args: Args) -> None:
    domain = await session.domain(args, by_name=False)
    session.print(domain.name + "\n")


async def _domuuid(session: Session, args: Args) -> None:
    domain = await session.domain(args, by_uuid=False)
    session.print(domain.uuid + "\n")


async def _domrename(session: Session, args: Args) -> None:
    domain = await session.domain(args, by_id=False)
    name = args.required("new-name")
    service = await session.service()
    await service.rename(domain.uuid, name)
    session.extra("Domain successfully renamed\n")


COMMANDS = {
    "domrename": Command(
        _domrename,
        (
            positional("domain", "domain name or uuid", required=True),
            positional("new-name", "new domain name", required=True),
        ),
        "Rename an inactive domain.",
        ("domrename demo web1",),
    ),
    "domid": Command(_domid, (positional("domain", "domain name or uuid", required=True),)),
    "domname": Command(_domname, (positional("domain", "domain id or uuid", required=True),)),
    "domuuid": Command(_domuuid, (positional("domain", "domain id or name", required=True),)),
}
