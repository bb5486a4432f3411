"""The structures that callers handle by name, and typed parameters from and to dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

INT, UINT, LLONG, ULLONG, DOUBLE, BOOLEAN, STRING = range(1, 8)
"""virTypedParameterType."""

Value = int | float | bool | str


class WireDomain(NamedTuple):
    """A domain. Only the uuid says which one; `id` is -1 while it is not active."""

    name: str
    uuid: bytes
    id: int

    @property
    def uuid_text(self) -> str:
        """The uuid as text."""
        text = self.uuid.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class WireSnapshot(NamedTuple):
    """A snapshot of a domain."""

    name: str
    domain: WireDomain


class Param(NamedTuple):
    """A typed parameter; `type` is one of the numbers above."""

    field: str
    type: int
    value: Value


class ErrorInfo(NamedTuple):
    """virError as it travels. Clients show `message` and decide by `code` and `domain`."""

    code: int
    domain: int
    message: str | None
    level: int = 2
    dom: WireDomain | None = None
    str1: str | None = None
    str2: str | None = None
    str3: str | None = None
    int1: int = -1
    int2: int = -1
    net: tuple[str, bytes] | None = None


def params_of(values: Mapping[str, Value], types: Mapping[str, int] | None = None) -> list[Param]:
    """Typed parameters. `types` where the default is not meant: ULLONG for numbers, else by the value."""
    found = []
    for name, value in values.items():
        if isinstance(value, bool):
            default = BOOLEAN
        elif isinstance(value, int):
            default = ULLONG
        else:
            default = DOUBLE if isinstance(value, float) else STRING
        found.append(Param(name, (types or {}).get(name, default), value))
    return found


def values_of(params: Iterable[Param]) -> dict[str, Value]:
    """The other way round; of a name that comes twice the last counts."""
    return {param.field: param.value for param in params}
