"""help: the list of commands, one group of it, or one command."""

from __future__ import annotations

from virtsnap.cli import helptext
from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.registry import GROUPS, find
from virtsnap.cli.session import Session
from virtsnap.cli.spec import Command, positional


async def _help(session: Session, args: Args) -> None:
    subject = args.string("command")
    if subject is None:
        session.print(helptext.all_groups())
        return
    command = find(subject)
    if command is not None:
        session.print(helptext.of_command(subject, command))
        return
    group = next((one for one in GROUPS if subject in (one.keyword, one.title)), None)
    if group is None:
        raise CliError(f"command or command group '{subject}' doesn't exist")
    session.print(helptext.of_group(group))


_SUBJECT = "Prints global help, command specific help, or help for a group of related commands"

COMMANDS = {
    "help": Command(
        _help,
        (positional("command", _SUBJECT),),
        "Prints global help, command specific help, or help for a\ngroup of related commands",
        ("help snapshot", "help snapshot-create-as"),
        connects=False,
    )
}
