"""Commands about the program: cd, pwd, echo, connect, quit and exit."""

from __future__ import annotations

import os

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.session import Session
from virtsnap.cli.spec import Command, Place, flag, many, positional, string


async def _cd(session: Session, args: Args) -> None:
    directory = args.string("dir") or os.path.expanduser("~")
    try:
        os.chdir(directory)
    except OSError as error:
        raise CliError(f"cd: {error.strerror}: {directory}") from error


async def _pwd(session: Session, args: Args) -> None:
    session.print(os.getcwd() + "\n")


async def _echo(session: Session, args: Args) -> None:
    args.exclusive("shell", "xml")
    words = args.many("string")
    if args.has("split"):
        from virtsnap.cli.specs import split_commas

        words = ["".join(f"{piece}\n" for piece in split_commas(word)) for word in words]
    if args.has("xml"):
        from xml.sax.saxutils import escape

        words = [escape(word, {'"': "&quot;", "'": "&apos;"}) for word in words]
    if args.has("shell"):
        import shlex

        words = [shlex.quote(word).replace("'\"'\"'", "'\\''") for word in words]
    text = " ".join(words)
    prefix = args.string("prefix")
    if prefix is not None:
        text = f"{prefix} {text}"
    if args.has("err"):
        session.complain(text)
    else:
        session.print(text)


async def _connect(session: Session, args: Args) -> None:
    await session.reconnect(args.string("name"), args.has("readonly"))


async def _quit(session: Session, args: Args) -> None:
    session.leave = True


COMMANDS = {
    "cd": Command(
        _cd,
        (positional("dir", "directory to switch to (default: home or else root)"),),
        "Change the current directory.",
        connects=False,
    ),
    "pwd": Command(_pwd, (), "Print the current directory.", connects=False),
    "echo": Command(
        _echo,
        (
            flag("shell", "escape for shell use"),
            flag("xml", "escape for XML use"),
            flag("split", "split each argument on ','; ',,' is an escape sequence"),
            flag("err", "output to stderr"),
            string("prefix", "prefix the message"),
            many("string", "arguments to echo", place=Place.POSITIONAL),
        ),
        "Echo back arguments, possibly with quoting. Used for internal testing.",
        connects=False,
    ),
    "connect": Command(
        _connect,
        (positional("name", "connection URI"), flag("readonly", "read-only connection")),
        "Leave the present connection and open another one.",
    ),
    "quit": Command(_quit, connects=False),
    "exit": Command(_quit, connects=False),
}
