"""virsh's command line grammar: words to commands with options. Reads no file and prints nothing.

A single argument is a command string (quotes, backslashes, `;` or a newline between commands, `#` for a
comment); several arguments are one command, word for word. Options stand anywhere, `--opt value` and
`--opt=value` mean the same, a value may stand without the name of a positional option, `--` ends options.

One difference from virsh 11.3: a single quote that is never closed is an error here, as a double one is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from virtsnap.cli.args import Args
from virtsnap.cli.errors import UsageError
from virtsnap.cli.spec import Command, Kind, Option, Place
from virtsnap.model.frozen import dataclass


@dataclass(frozen=True)
class Parsed:
    """A command ready to run. `help` is set when --help stood among its options."""

    name: str
    command: Command
    args: Args
    help: bool = False


Find = Callable[[str], Command | None]


def parse_string(text: str, find: Find) -> list[Parsed]:
    """Parse a command string. Raises UsageError, with nothing run, when any command in it is wrong."""
    return [parse_words(words, find) for words in split(text)]


def split(text: str) -> list[list[str]]:
    """Cut a command string into commands, and those into words."""
    commands: list[list[str]] = []
    words: list[str] = []
    word: str | None = None
    quote = ""
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == "\\" and quote != "'":
            if position == len(text):
                raise UsageError("dangling \\")
            if text[position] != "\n":
                word = (word or "") + text[position]
            position += 1
        elif quote:
            if char == quote:
                quote = ""
            else:
                word = (word or "") + char
        elif char in "'\"":
            quote = char
            word = word or ""
        elif char in " \t\n;":
            if word is not None:
                words.append(word)
                word = None
            if char in "\n;":
                commands.append(words)
                words = []
        elif char == "#" and word is None:
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
        else:
            word = (word or "") + char
    if quote:
        raise UsageError(f"missing {quote}")
    if word is not None:
        words.append(word)
    commands.append(words)
    return [command for command in commands if command]


def parse_words(words: Sequence[str], find: Find) -> Parsed:
    """Parse one command given as words. Raises UsageError."""
    name = words[0]
    command = find(name)
    if command is None:
        raise UsageError(f"unknown command: '{name}'")
    return _Reader(name, command).read(words[1:])


class _Reader:
    """Assigns the words of one command to its options, in one pass from left to right."""

    def __init__(self, name: str, command: Command) -> None:
        self.name = name
        self.command = command
        self.options = {option.name: option for option in command.options}
        self.values: dict[str, list[str]] = {}

    def read(self, words: Sequence[str]) -> Parsed:
        asks_help = False
        only_data = False
        rest = iter(words)
        for word in rest:
            if only_data or not word.startswith("--"):
                self._take(self._next_positional(word), word)
            elif word == "--":
                only_data = True
            elif word == "--help" or word.startswith("--help="):
                asks_help = True
            else:
                self._named(word[2:], rest)
        if not asks_help:
            self._check_required()
        return Parsed(self.name, self.command, Args(self.name, self.values), asks_help)

    def _named(self, text: str, rest: Iterator[str]) -> None:
        name, equals, value = text.partition("=")
        given = self.options.get(name)
        if given is not None and given.alias_of is not None and "=" in given.alias_of:
            if equals:
                raise UsageError(f"invalid '=' after option --{name}")
            name, equals, value = given.alias_of.partition("=")
        option = self._find(name)
        if option.kind is not Kind.MANY and option.name in self.values:
            raise UsageError(f"option --{option.name} already seen")
        if option.kind is Kind.BOOL:
            if equals:
                raise UsageError(f"invalid '=' after option --{name}")
            self.values[option.name] = []
            return
        if not equals:
            following = next(rest, None)
            if following is None:
                kind = "number" if option.kind is Kind.NUMBER else "string"
                raise UsageError(f"expected syntax: --{name} <{kind}>")
            value = following
        self._take(option, value)

    def _find(self, name: str) -> Option:
        option = self.options.get(name)
        if option is not None and option.alias_of is not None:
            option = self.options[option.alias_of]
        if option is None:
            raise UsageError(f"command '{self.name}' doesn't support option --{name}")
        return option

    def _next_positional(self, word: str) -> Option:
        for option in self.command.options:
            if option.place is Place.NAMED or option.kind is Kind.BOOL:
                continue
            if option.kind is Kind.MANY or option.name not in self.values:
                return option
        raise UsageError(f"unexpected data '{word}'")

    def _take(self, option: Option, value: str) -> None:
        self.values.setdefault(option.name, []).append(value)

    def _check_required(self) -> None:
        for option in self.command.options:
            if option.required and option.name not in self.values:
                raise UsageError(f"command '{self.name}' requires <{option.name}> option")
