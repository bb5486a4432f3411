"""flatten: disks that read nothing but their own image any more."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.plantext import show
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, DRY_RUN, JSON, Command, Place, flag, many


async def _flatten(session: Session, args: Args) -> None:
    args.exclusive("disk", "all")
    if not args.has("disk") and not args.has("all"):
        raise CliError("--disk or --all is required")
    domain = await session.domain(args)
    service = await session.service()
    disks = args.many("disk")
    report = await service.flatten(
        domain.uuid, disks, copy=args.has("copy"), dry_run=args.has("dry-run"), progress=session.progress
    )
    session.end_progress()
    if report is not None:
        show(session, args, report)
    else:
        what = f"disk {', '.join(disks)}" if disks else "all disks"
        session.extra(f"Domain '{domain.name}' {what} flattened\n")


COMMANDS = {
    "flatten": Command(
        _flatten,
        (
            DOMAIN,
            many("disk", "target of a disk", place=Place.POSITIONAL),
            flag("all", "all disks that stand on other images"),
            flag("copy", "copy what snapshots need, which keep it, rather than stop above it"),
            DRY_RUN,
            JSON,
        ),
        "Let disks take in the images that they stand on. Their content, and that of all snapshots, stays.",
        ("domblklist demo --chain", "flatten demo vda --copy --dry-run", "flatten demo --all"),
    )
}
