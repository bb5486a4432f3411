"""The program: options before the command, then the commands (or none: a shell), then the exit status.

Exit status: 0 when the last command succeeded, 1 when it failed or the command line is wrong, 130 after
Ctrl-C. `--version` and help return before asyncio or the engine is imported.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import NoReturn

from virtsnap import __version__
from virtsnap.cli.errors import CliError, UsageError
from virtsnap.cli.parser import Parsed, parse_string, parse_words
from virtsnap.cli.registry import find
from virtsnap.cli.session import Session, Settings

INTERRUPTED = 130

_VALUED = {"c": "connect", "e": "escape", "d": "debug", "l": "log", "k": "keepalive-interval"}
_VALUED |= {"K": "keepalive-count"}
_PLAIN = {"h": "help", "q": "quiet", "r": "readonly", "t": "timing", "v": "version", "V": "long-version"}
_LONG = (*_VALUED.values(), "help", "quiet", "readonly", "timing", "version", "json")
_REFUSED = ("debug", "log", "keepalive-interval", "keepalive-count")


def program() -> NoReturn:
    """The installed command: `main` in a process of its own, which may begin and end in a hurry."""
    # What is imported stays: looking through it for garbage again and again only takes time.
    gc.set_threshold(200_000, 20, 100)
    status = main()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        # All is written and closed; taking a few hundred modules apart would serve nobody.
        os._exit(status)
    sys.exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with the given words (default: those of the process)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A word that is not UTF-8 comes out as the bytes that it came in with.
        sys.stdout.reconfigure(errors="surrogateescape")
    session = Session(Settings())
    try:
        before, rest = _global_options(words)
        answer = _answer_at_once(before)
        if answer is not None:
            session.print(answer)
            return 0
        session = Session(_settings(before))
        if not rest:
            from virtsnap.cli.shell import run_shell

            return run_shell(session)
        commands = _commands(rest)
    except CliError as error:
        session.complain(*error.lines)
        return 1
    try:
        return _run(session, commands)
    except KeyboardInterrupt:
        session.complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone. Keep the interpreter from failing on it again at exit.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        return 1


def _run(session: Session, commands: Sequence[Parsed]) -> int:
    from virtsnap.cli.runner import run_all

    if all(parsed.help or not parsed.command.connects for parsed in commands):
        return _status(session, _without_loop(run_all(session, commands)))
    import asyncio

    # asyncio.run turns the first SIGINT into a cancellation of this task: the service undoes what it
    # has begun, and only then does KeyboardInterrupt arrive here.
    return _status(session, asyncio.run(run_all(session, commands)))


def _status(session: Session, good: bool) -> int:
    session.flush()
    return 0 if good else 1


def _without_loop(coroutine: Coroutine[object, None, bool]) -> bool:
    """Run what never waits, such as help, without the time that importing asyncio takes."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return bool(end.value)
    coroutine.close()
    raise AssertionError("a command that does not connect waited for something")


def _commands(words: Sequence[str]) -> list[Parsed]:
    if len(words) == 1:
        return parse_string(words[0], find)
    return [parse_words(words, find)]


def _global_options(words: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Split off the options before the command, as (long name, value)."""
    found: list[tuple[str, str]] = []
    position = 0
    while position < len(words):
        word = words[position]
        if word == "--":
            position += 1
            break
        if not word.startswith("-") or word == "-":
            break
        position += 1
        if word.startswith("--"):
            position += _long_option(word, words[position:], found)
        else:
            position += _short_options(word[1:], words[position:], found)
    return found, list(words[position:])


def _long_option(word: str, rest: Sequence[str], found: list[tuple[str, str]]) -> int:
    name, equals, value = word[2:].partition("=")
    fitting = [one for one in _LONG if one == name] or [one for one in _LONG if one.startswith(name)]
    if len(fitting) != 1 or not name:
        raise UsageError(f"unsupported option '{word}'. See --help.")
    long = fitting[0]
    if long not in _VALUED.values():
        if equals and long != "version":
            raise UsageError(f"unsupported option '{word}'. See --help.")
        found.append(("long-version" if (long, value) == ("version", "long") else long, value))
        return 0
    if equals:
        found.append((long, value))
        return 0
    found.append((long, _value(long, rest)))
    return 1


def _short_options(letters: str, rest: Sequence[str], found: list[tuple[str, str]]) -> int:
    for index, letter in enumerate(letters):
        if letter in _VALUED:
            attached = letters[index + 1 :]
            found.append((_VALUED[letter], attached or _value(_VALUED[letter], rest)))
            return 0 if attached else 1
        if letter not in _PLAIN:
            raise UsageError(f"unsupported option '-{letter}'. See --help.")
        found.append((_PLAIN[letter], ""))
    return 0


def _value(long: str, rest: Sequence[str]) -> str:
    if not rest:
        letter = next(short for short, name in _VALUED.items() if name == long)
        raise UsageError(f"option '-{letter}'/'--{long}' requires an argument")
    return rest[0]


def _answer_at_once(options: Sequence[tuple[str, str]]) -> str | None:
    """The text of --help or --version, whichever stands first."""
    for name, _ in options:
        if name == "help":
            from virtsnap.cli.helptext import program

            return program()
        if name == "version":
            return f"{__version__}\n"
        if name == "long-version":
            return f"virtsnap {__version__}: snapshots for QEMU virtual machines in libvirt's own terms\n"
    return None


def _settings(options: Sequence[tuple[str, str]]) -> Settings:
    settings = Settings()
    for name, value in options:
        if name == "connect":
            settings.uri = value
        elif name == "escape":
            if not (len(value) == 1 or (len(value) == 2 and value.startswith("^"))):
                raise UsageError(f"Invalid string '{value}' for escape sequence")
            settings.escape = value
        elif name in _REFUSED:
            raise UsageError(f"option '--{name}' is not supported")
        else:
            setattr(settings, name, True)
    return settings
