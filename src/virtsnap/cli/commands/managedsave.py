"""managedsave and its kin: the one saved state of a domain that its next start resumes."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.commands.save_image import FLAGS
from virtsnap.cli.editor import edit
from virtsnap.cli.files import read_text
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, Command, flag, positional
from virtsnap.cli.xpath import OPTIONS, filtered
from virtsnap.model.flags import DomainSaveRestore, DomainXml

_SECURE: dict[str, int] = {"security-info": DomainXml.SECURE}


async def _managedsave(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    flags = args.flags({**FLAGS, "bypass-cache": DomainSaveRestore.BYPASS_CACHE})
    with session.explaining(f"Failed to save domain '{domain.name}' state"):
        await service.managed_save(domain.uuid, flags, progress=session.progress)
    session.end_progress()
    session.extra(f"\nDomain '{domain.name}' state saved by libvirt\n")


async def _remove(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    if not (await service.domain_info(domain.uuid)).managed_save:
        session.extra(f"Domain '{domain.name}' has no manage save image; removal skipped")
        return
    with session.explaining(f"Failed to remove managed save image for domain '{domain.name}'"):
        await service.managed_save_remove(domain.uuid)
    session.extra(f"Removed managedsave image for domain '{domain.name}'")


async def _dumpxml(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    session.print(filtered(await service.managed_save_xml(domain.uuid, args.flags(_SECURE)), args))


async def _define(session: Session, args: Args) -> None:
    args.exclusive("running", "paused")
    domain = await session.domain(args)
    service = await session.service()
    xml = read_text(args.required("xml"))
    with session.explaining(f"Failed to update {domain.name} XML configuration"):
        await service.managed_save_define_xml(domain.uuid, xml, args.flags(FLAGS))
    session.extra(f"Managed save state file of domain '{domain.name}' updated.\n")


async def _edit(session: Session, args: Args) -> None:
    args.exclusive("running", "paused")
    domain = await session.domain(args)
    service = await session.service()

    async def fetch() -> str:
        return await service.managed_save_xml(domain.uuid, DomainXml.SECURE)

    async def apply(xml: str) -> None:
        await service.managed_save_define_xml(domain.uuid, xml, args.flags(FLAGS))

    # Asked for another state, the file changes even when the text does not.
    if await edit(session, fetch, apply, always=bool(args.flags(FLAGS))):
        session.extra(f"Managed save image of Domain '{domain.name}' XML configuration edited.\n")
    else:
        session.extra(f"Managed save image of domain '{domain.name}' XML configuration not changed.\n")


_ON_START = (
    flag("running", "set domain to be running on start"),
    flag("paused", "set domain to be paused on start"),
)

COMMANDS = {
    "managedsave": Command(
        _managedsave,
        (
            DOMAIN,
            flag("bypass-cache", "avoid file system cache when saving"),
            flag("running", "set domain to be running on next start"),
            flag("paused", "set domain to be paused on next start"),
            flag("verbose", "display the progress of save"),
        ),
        "Save and destroy a running domain, so it can be restarted from\n"
        "the same state at a later time. When the 'start' command is next\n"
        "run for the domain, it will automatically be started from this\n"
        "saved state.",
        ("managedsave demo", "managedsave demo --paused"),
    ),
    "managedsave-remove": Command(
        _remove,
        (DOMAIN,),
        "Remove an existing managed save state file from a domain",
        ("managedsave-remove demo",),
    ),
    "managedsave-edit": Command(
        _edit,
        (DOMAIN, *_ON_START),
        "Edit the domain XML associated with the managed save state file",
        ("managedsave-edit demo",),
    ),
    "managedsave-dumpxml": Command(
        _dumpxml,
        (DOMAIN, flag("security-info", "include security sensitive information in XML dump"), *OPTIONS),
        "Dump XML of domain information for a managed save state file to stdout.",
        ("managedsave-dumpxml demo",),
    ),
    "managedsave-define": Command(
        _define,
        (
            DOMAIN,
            positional("xml", "filename containing updated XML for the target", required=True),
            *_ON_START,
        ),
        "Replace the domain XML associated with a managed save state file",
        ("managedsave-define demo moved.xml",),
    ),
}
