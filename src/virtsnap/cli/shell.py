"""The interactive shell: the program without a command. One connection for the whole session.

Lines are command strings. On a terminal there are history and completion of command names (readline);
from a pipe the same lines are read without them. Ctrl-C stops the running command, not the shell.
"""

from __future__ import annotations

import asyncio
import sys

from virtsnap.cli.errors import CliError
from virtsnap.cli.parser import parse_string
from virtsnap.cli.registry import GROUPS, find
from virtsnap.cli.runner import run_line
from virtsnap.cli.session import Session

WELCOME = """Welcome to virtsnap, the virtualization interactive terminal.

Type:  'help' for help with commands
       'quit' to quit

"""


def run_shell(session: Session) -> int:
    """Read and run lines until quit or the end of input. The exit status: 0 when the last line was good."""
    session.extra(WELCOME)
    session.flush()
    if sys.stdin.isatty():
        _use_readline()
    good = True
    with asyncio.Runner() as runner:
        try:
            while not session.leave:
                line = _read_line(session)
                if line is None:
                    break
                good = _run_one_line(runner, session, line)
        finally:
            runner.run(session.close())
    session.flush()
    return 0 if good else 1


def _read_line(session: Session) -> str | None:
    """The next line; None at the end. Ctrl-C at the prompt begins a new one."""
    prompt = "virtsnap > " if session.settings.readonly else "virtsnap # "
    while True:
        try:
            return input(prompt)
        except EOFError:
            session.print("\n")
            return None
        except KeyboardInterrupt:
            session.print("\n")
            session.flush()


def _run_one_line(runner: asyncio.Runner, session: Session, line: str) -> bool:
    try:
        commands = parse_string(line, find)
    except CliError as error:
        session.complain(*error.lines)
        return False
    try:
        return runner.run(run_line(session, commands))
    except KeyboardInterrupt:
        session.complain("interrupted")
        return False


def _use_readline() -> None:
    """History and Tab. `input` uses readline once it is imported; not every Python has it."""
    try:
        import readline
    except ImportError:
        return
    names = sorted(one.name for group in GROUPS for one in group.entries)

    def complete(text: str, state: int) -> str | None:
        line = readline.get_line_buffer()[: readline.get_begidx()]
        if line.strip() and not line.rstrip().endswith(";"):
            return None
        fitting = [name for name in names if name.startswith(text)]
        return f"{fitting[state]} " if state < len(fitting) else None

    readline.set_completer_delims(" \t\n;")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")
