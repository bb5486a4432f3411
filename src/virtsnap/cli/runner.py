"""Runs parsed commands one after the other, and turns every error into text and an exit status."""

from __future__ import annotations

import time
from collections.abc import Sequence

from virtsnap.cli.errors import CliError
from virtsnap.cli.helptext import of_command
from virtsnap.cli.parser import Parsed
from virtsnap.cli.session import Session
from virtsnap.model.errors import VirtsnapError


async def run_all(session: Session, commands: Sequence[Parsed]) -> bool:
    """Run the commands as `run_line` does, and let go of the connection."""
    try:
        return await run_line(session, commands)
    finally:
        await session.close()


async def run_line(session: Session, commands: Sequence[Parsed]) -> bool:
    """Run the commands in order, also after one failed. As with virsh the last one decides: True when
    it succeeded."""
    good = True
    for parsed in commands:
        began = time.monotonic()
        good = await run_one(session, parsed)
        if session.leave:
            break
        if session.settings.timing:
            session.print(f"\n(Time: {(time.monotonic() - began) * 1000:.3f} ms)\n\n")
        elif not (session.wants_json(parsed.args) and good):
            session.extra("\n")
        session.flush()
    return good


async def run_one(session: Session, parsed: Parsed) -> bool:
    """Run one command; False when it failed and has said so."""
    if parsed.help:
        session.print(of_command(parsed.name, parsed.command))
        return True
    try:
        if session.settings.json and not any(one.name == "json" for one in parsed.command.options):
            raise CliError(f"command '{parsed.name}' doesn't support option --json")
        await parsed.command.run(session, parsed.args)
    except CliError as error:
        session.complain(*error.lines)
    except VirtsnapError as error:
        session.complain(str(error))
    else:
        session.end_progress()
        return True
    return False
