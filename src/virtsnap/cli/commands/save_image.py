"""The definition inside a saved state file: save-image-dumpxml, save-image-define, save-image-edit."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.editor import edit
from virtsnap.cli.files import read_text
from virtsnap.cli.session import Session
from virtsnap.cli.spec import Command, flag, positional
from virtsnap.cli.xpath import OPTIONS, filtered
from virtsnap.model.flags import DomainSaveRestore, DomainXml

FLAGS: dict[str, int] = {"running": DomainSaveRestore.RUNNING, "paused": DomainSaveRestore.PAUSED}
_SECURE: dict[str, int] = {"security-info": DomainXml.SECURE}


async def _dumpxml(session: Session, args: Args) -> None:
    service = await session.service()
    session.print(filtered(await service.save_image_xml(args.required("file"), args.flags(_SECURE)), args))


async def _define(session: Session, args: Args) -> None:
    service = await session.service()
    path = args.required("file")
    xml = read_text(args.required("xml"))
    with session.explaining(f"Failed to update {path}"):
        await service.save_image_define_xml(path, xml, args.flags(FLAGS))
    session.extra(f"State file {path} updated.\n")


async def _edit(session: Session, args: Args) -> None:
    args.exclusive("running", "paused")
    service = await session.service()
    path = args.required("file")

    async def fetch() -> str:
        return await service.save_image_xml(path, DomainXml.SECURE)

    async def apply(xml: str) -> None:
        await service.save_image_define_xml(path, xml, args.flags(FLAGS))

    # Asked for another state, the file changes even when the text does not.
    if await edit(session, fetch, apply, always=bool(args.flags(FLAGS))):
        session.extra(f"State file {path} edited.\n")
    else:
        session.extra(f"Saved image {path} XML configuration not changed.\n")


COMMANDS = {
    "save-image-dumpxml": Command(
        _dumpxml,
        (
            positional("file", "saved state file to read", required=True),
            flag("security-info", "include security sensitive information in XML dump"),
            *OPTIONS,
        ),
        "Dump XML of domain information for a saved state file to stdout.",
        ("save-image-dumpxml demo.state",),
    ),
    "save-image-define": Command(
        _define,
        (
            positional("file", "saved state file to modify", required=True),
            positional("xml", "filename containing updated XML for the target", required=True),
            flag("running", "set domain to be running on restore"),
            flag("paused", "set domain to be paused on restore"),
        ),
        "Replace the domain XML associated with a saved state file",
        ("save-image-define demo.state moved.xml",),
    ),
    "save-image-edit": Command(
        _edit,
        (
            positional("file", "saved state file to edit", required=True),
            flag("running", "set domain to be running on restore"),
            flag("paused", "set domain to be paused on restore"),
        ),
        "Edit the domain XML associated with a saved state file",
        ("save-image-edit demo.state", "save-image-edit demo.state --paused"),
    ),
}
