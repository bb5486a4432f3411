"""The table of a command: its options, its text, and what runs it. Nothing here parses or prints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TYPE_CHECKING

from virtsnap.model.frozen import dataclass

if TYPE_CHECKING:
    from virtsnap.cli.args import Args
    from virtsnap.cli.session import Session


class Kind(Enum):
    """What an option takes."""

    BOOL = "bool"
    STRING = "string"
    NUMBER = "number"
    MANY = "many"
    """A string that may be given several times, and takes all surplus positional words."""


class Place(Enum):
    """Whether an option's value may stand on the command line without its name."""

    NAMED = "named"
    POSITIONAL = "positional"
    TOLERATED = "tolerated"
    """Accepted without the name as virsh does for old scripts; help shows it as a named option."""


@dataclass(frozen=True)
class Option:
    """One option of a command. `alias_of` names the option that this one is another spelling of, and may
    give it a value: 'format=raw'."""

    name: str
    help: str = ""
    kind: Kind = Kind.BOOL
    place: Place = Place.NAMED
    required: bool = False
    alias_of: str | None = None


def flag(name: str, help: str) -> Option:
    """An option without a value."""
    return Option(name, help)


def string(name: str, help: str, *, tolerated: bool = False) -> Option:
    """An option with a value, given by name (`tolerated`: by place as well)."""
    return Option(name, help, Kind.STRING, Place.TOLERATED if tolerated else Place.NAMED)


def number(name: str, help: str, *, tolerated: bool = False) -> Option:
    """An option with a whole number, not negative (`tolerated`: by place as well)."""
    return Option(name, help, Kind.NUMBER, Place.TOLERATED if tolerated else Place.NAMED)


def many(name: str, help: str, *, place: Place = Place.TOLERATED) -> Option:
    """An option that may be given several times."""
    return Option(name, help, Kind.MANY, place)


def positional(name: str, help: str, *, required: bool = False) -> Option:
    """An argument, also by name."""
    return Option(name, help, Kind.STRING, Place.POSITIONAL, required)


def alias(name: str, of: str) -> Option:
    """Another spelling of the option `of`; not shown in help."""
    return Option(name, alias_of=of)


DOMAIN = positional("domain", "domain name, id or uuid", required=True)
JSON = flag("json", "print JSON")
DRY_RUN = flag("dry-run", "print what would be done, and do nothing")

Run = Callable[["Session", "Args"], Awaitable[None]]


@dataclass(frozen=True)
class Command:
    """One command. Its name and one-line help stand in `cli.registry`, so that help needs no import."""

    run: Run
    options: tuple[Option, ...] = ()
    description: str = ""
    examples: tuple[str, ...] = ()
    """Words after `virtsnap`, one command each."""
    connects: bool = True
    """False: needs no service (help, echo, pwd ...)."""
