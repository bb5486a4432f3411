"""clone and discard: domains that begin as a snapshot, and their end."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.plantext import show
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, DRY_RUN, JSON, Command, flag, number, positional
from virtsnap.service.interface import PlanReport


async def _clone(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    snapshot, name = args.required("snapshotname"), args.required("newname")
    count = args.number("count")
    if count == 0:
        raise CliError("--count must be at least 1")
    names = [name] if count is None else [f"{name}-{index}" for index in range(1, count + 1)]
    made = await (await session.service()).snapshot_clone(
        domain.uuid,
        snapshot,
        names,
        start=args.has("start"),
        paused=args.has("paused"),
        dry_run=args.has("dry-run"),
        progress=session.progress,
    )
    session.end_progress()
    if isinstance(made, PlanReport):
        show(session, args, made)
    elif session.wants_json(args):
        session.json([{"name": one.name, "uuid": one.uuid, "id": one.id} for one in made])
    else:
        origin = f"snapshot '{snapshot}' of domain '{domain.name}'"
        for one in made:
            session.extra(f"Domain '{one.name}' cloned from {origin}\n")


async def _discard(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    await (await session.service()).discard(domain.uuid)
    session.extra(f"Domain '{domain.name}' has been discarded\n")


COMMANDS = {
    "clone": Command(
        _clone,
        (
            DOMAIN,
            positional("snapshotname", "snapshot that the clone begins as", required=True),
            positional("newname", "name of the new domain", required=True),
            number("count", "make so many, all or none, named NEWNAME-1, NEWNAME-2 ..."),
            flag("start", "let it run: from the snapshot's memory, or else boot"),
            flag("paused", "start it, with its virtual CPUs still"),
            DRY_RUN,
            JSON,
        ),
        "Make a new domain of a snapshot: its disks are overlays on the snapshot's, its memory is shared "
        "until it is written to.\nThe domain that is cloned goes on. The clone has the snapshot as its own, "
        "to go back to.",
        ("clone demo ready worker --start", "clone demo ready worker --count 20 --start", "discard worker-1"),
    ),
    "discard": Command(
        _discard,
        (DOMAIN,),
        "End a clone, undefine it and delete every file that was made for it. A domain that writes to "
        "images of your own is refused.",
        ("discard worker",),
    ),
}
