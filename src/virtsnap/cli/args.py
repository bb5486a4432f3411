"""The parsed options of one command, with virsh's complaints when a value is not usable."""

from __future__ import annotations

import re

from virtsnap.cli.errors import CliError

_SCALED = re.compile(r"(\d+)\s*([A-Za-z]*)", re.ASCII)


def _scale(unit: str) -> int | None:
    """Bytes in a unit; None: there is none of that name."""
    if unit in ("", "b", "byte", "bytes"):
        return 1
    power = "kmgtpe".find(unit[0]) + 1
    if not power or unit[1:] not in ("", "b", "ib"):
        return None
    return int((1000 if unit[1:] == "b" else 1024) ** power)


class Args:
    """Values by option name. Option names are the canonical ones: aliases are resolved by the parser."""

    def __init__(self, command: str, values: dict[str, list[str]]) -> None:
        self.command = command
        self._values = values

    def has(self, name: str) -> bool:
        """The option was given, in whatever way."""
        return name in self._values

    def string(self, name: str) -> str | None:
        """The value, or None when the option was not given. Raises CliError for an empty one."""
        values = self._values.get(name)
        if values is None:
            return None
        if not values[0]:
            raise CliError(f"Failed to get option '{name}': Option argument is empty")
        return values[0]

    def required(self, name: str) -> str:
        """The value of an option that the parser demands, or that this use of the command demands."""
        value = self.string(name)
        if value is None:
            raise CliError(f"command '{self.command}' requires <{name}> option")
        return value

    def number(self, name: str) -> int | None:
        """A whole number from 0 to 2^32 - 1."""
        value = self.string(name)
        if value is None:
            return None
        if not value.isascii() or not value.isdigit() or int(value) >= 1 << 32:
            raise CliError(f"Numeric value '{value}' for <{name}> option is malformed or out of range")
        return int(value)

    def wide(self, name: str) -> int | None:
        """A whole number from 0 to 2^64 - 1."""
        value = self.string(name)
        if value is None:
            return None
        if not value.isascii() or not value.isdigit() or int(value) >= 1 << 64:
            raise CliError(f"Numeric value '{value}' for <{name}> option is malformed or out of range")
        return int(value)

    def scaled(self, name: str, default: str = "") -> int | None:
        """A size in bytes, with a unit such as k, MiB or GB; `default`: what a bare number counts."""
        value = self.string(name)
        if value is None:
            return None
        found = _SCALED.fullmatch(value)
        unit = (found[2] or default).lower() if found is not None else ""
        scale = _scale(unit)
        if found is None or scale is None or int(found[1]) * scale >= 1 << 64:
            complaint = f"Scaled numeric value '{value}' for <{name}> option is malformed or out of range"
            unknown = [f"invalid argument: unknown suffix '{found[2]}'"] if found and scale is None else []
            raise CliError(complaint, *unknown)
        return int(found[1]) * scale

    def many(self, name: str) -> list[str]:
        """All values of a repeated option."""
        return list(self._values.get(name, ()))

    def flags(self, table: dict[str, int]) -> int:
        """The sum of the flags whose options were given."""
        word = 0
        for name, bit in table.items():
            if name in self._values:
                word |= bit
        return word

    def exclusive(self, one: str, other: str) -> None:
        """Refuse both at once."""
        if one in self._values and other in self._values:
            raise CliError(f"Options --{one} and --{other} are mutually exclusive")

    def require(self, one: str, needs: str) -> None:
        """Refuse `one` without `needs`."""
        if one in self._values and needs not in self._values:
            raise CliError(f"Option --{needs} is required by option --{one}")
