"""dumpxml: the XML of a domain."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, Command, flag
from virtsnap.cli.xpath import OPTIONS, filtered
from virtsnap.model.flags import DomainXml

_FLAGS: dict[str, int] = {
    "inactive": DomainXml.INACTIVE,
    "security-info": DomainXml.SECURE,
    "update-cpu": DomainXml.UPDATE_CPU,
    "migratable": DomainXml.MIGRATABLE,
}


async def _dumpxml(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    session.print(filtered(await service.domain_xml(domain.uuid, args.flags(_FLAGS)), args))


COMMANDS = {
    "dumpxml": Command(
        _dumpxml,
        (
            DOMAIN,
            flag("inactive", "show inactive defined XML"),
            flag("security-info", "include security sensitive information in XML dump"),
            flag("update-cpu", "update guest CPU according to host CPU"),
            flag("migratable", "provide XML suitable for migrations"),
            *OPTIONS,
        ),
        "Output the domain information as an XML dump to stdout.",
        ("dumpxml demo", "dumpxml demo --inactive", "dumpxml demo --xpath //disk/source"),
    )
}
