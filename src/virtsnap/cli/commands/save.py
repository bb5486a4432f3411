"""save and restore: a domain's state into a file, and back."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.files import read_text
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, Command, Option, flag, number, positional, string
from virtsnap.model.flags import DomainSaveRestore

_FLAGS: dict[str, int] = {
    "bypass-cache": DomainSaveRestore.BYPASS_CACHE,
    "running": DomainSaveRestore.RUNNING,
    "paused": DomainSaveRestore.PAUSED,
    "reset-nvram": DomainSaveRestore.RESET_NVRAM,
}


async def _save(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    path = args.required("file")
    xml = _xml(args)
    with session.explaining(f"Failed to save domain '{domain.name}' to {path}"):
        await service.save(
            domain.uuid,
            path,
            xml,
            args.flags(_FLAGS),
            image_format=args.string("image-format"),
            channels=args.number("parallel-channels"),
            progress=session.progress,
        )
    session.end_progress()
    session.extra(f"\nDomain '{domain.name}' saved to {path}\n")


async def _restore(session: Session, args: Args) -> None:
    service = await session.service()
    path = args.required("file")
    xml = _xml(args)
    with session.explaining(f"Failed to restore domain from {path}"):
        await service.restore(
            path,
            xml,
            args.flags(_FLAGS),
            channels=args.number("parallel-channels"),
            progress=session.progress,
        )
    session.end_progress()
    session.extra(f"Domain restored from {path}\n")


def _xml(args: Args) -> str | None:
    path = args.string("xml")
    return None if path is None else read_text(path)


def _xml_option() -> Option:
    return string("xml", "filename containing updated XML for the target", tolerated=True)


COMMANDS = {
    "save": Command(
        _save,
        (
            DOMAIN,
            positional("file", "where to save the data", required=True),
            flag("bypass-cache", "avoid file system cache when saving"),
            number("parallel-channels", "number of IO channels to use for parallel save"),
            string("image-format", "format of the save image file"),
            _xml_option(),
            flag("running", "set domain to be running on restore"),
            flag("paused", "set domain to be paused on restore"),
            flag("verbose", "display the progress of save"),
        ),
        "Save the RAM state of a running domain.",
        ("save demo demo.state", "save demo demo.state --image-format zstd --paused"),
    ),
    "restore": Command(
        _restore,
        (
            positional("file", "the state to restore", required=True),
            flag("bypass-cache", "avoid file system cache when restoring"),
            number("parallel-channels", "number of IO channels to use for parallel restore"),
            _xml_option(),
            flag("running", "restore domain into running state"),
            flag("paused", "restore domain into paused state"),
            flag("reset-nvram", "re-initialize NVRAM from its pristine template"),
        ),
        "Restore a domain.",
        ("restore demo.state", "restore demo.state --xml moved.xml --paused"),
    ),
}
