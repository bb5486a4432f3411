"""The programs and their procedures, by number and name, each with the codecs of its values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import field
from functools import cached_property
from typing import Any

from virtsnap.model.frozen import dataclass
from virtsnap.wire import tables
from virtsnap.wire.values import ErrorInfo, WireDomain, WireSnapshot
from virtsnap.wire.xdr import Array, Reader, Record, Types, pack

_ERROR = (
    "code: int, domain: int, message: string?, level: int, dom: domain?, str1: string?, str2: string?,"
    " str3: string?, int1: int, int2: int, net: network?"
)


def _entries(text: str) -> Iterator[str]:
    for entry in re.split(r"\n(?! )", text.strip()):
        yield entry.replace("\n ", "")


def _pair(entry: str) -> tuple[str, str]:
    name, _, fields = entry.partition(" = ")
    return name, fields


TYPES = Types(
    dict(_pair(entry) for entry in _entries(tables.STRUCTS + tables.OWN_STRUCTS)),
    {"domain": WireDomain, "domain_snapshot": WireSnapshot},
)
ERROR = TYPES.record(_ERROR, ErrorInfo)
HOLE = TYPES.record("length: hyper, flags: uint")


@dataclass(frozen=True)
class Procedure:
    """One procedure. `arguments` of an event: what the message holds."""

    program: int
    number: int
    name: str
    api: str
    """The public function, for messages."""
    access: str
    """See `virtsnap.wire.tables`: r, c, w, or e for an event."""
    streams: bool
    _arguments: str = field(repr=False)
    _answer: str = field(repr=False)

    @cached_property
    def arguments(self) -> Record:
        """What a call takes."""
        return TYPES.record(self._arguments)

    @cached_property
    def answer(self) -> Record:
        """What is answered."""
        return TYPES.record(self._answer)

    @property
    def writes(self) -> bool:
        """Nothing for a read-only connection."""
        return self.access == "w"

    def pack_arguments(self, *values: Any) -> bytes:
        """A call's payload. Raises XdrError."""
        return pack(self.arguments, values)

    def unpack_arguments(self, payload: bytes) -> tuple[Any, ...]:
        """Its values in the order of the table. Raises XdrError."""
        values: tuple[Any, ...] = self.arguments.unpack(Reader(payload))
        return values

    def pack_answer(self, value: Any) -> bytes:
        """An answer's payload: None for a procedure without, the value of its only field, or a tuple."""
        count = len(self.answer.names)
        return pack(self.answer, () if count == 0 else (value,) if count == 1 else value)

    def unpack_answer(self, payload: bytes) -> Any:
        """The other way round. Raises XdrError."""
        values = self.answer.unpack(Reader(payload))
        return None if not values else values[0] if len(values) == 1 else values


class Program:
    """A set of procedures with a number of its own."""

    version = 1

    def __init__(self, number: int, table: str) -> None:
        self.number = number
        self._by_number: dict[int, Procedure] = {}
        self._by_name: dict[str, Procedure] = {}
        for entry in _entries(table):
            head, _, signature = entry.partition(" (")
            id, name, api, access = head.split()
            arguments, _, answer = signature.removesuffix(")").partition(") -> (")
            one = Procedure(
                number, int(id), name, api, access[0], "s" in access, arguments.removesuffix(")"), answer
            )
            self._by_number[one.number] = self._by_name[name] = one

    def __iter__(self) -> Iterator[Procedure]:
        return iter(self._by_number.values())

    def __getitem__(self, name: str) -> Procedure:
        return self._by_name[name]

    def get(self, number: int) -> Procedure | None:
        """The procedure of that number that can be called or sent; None for any other."""
        return self._by_number.get(number)


REMOTE = Program(0x20008086, tables.REMOTE)
QEMU = Program(0x20008087, tables.QEMU)
VIRTSNAP = Program(0x76736E70, tables.OWN)
PROGRAMS = {program.number: program for program in (REMOTE, QEMU, VIRTSNAP)}
KEEPALIVE = 0x6B656570


def pack_snapshots(names: Sequence[str], domain: WireDomain, count: int) -> bytes:
    """The answer of domain_list_all_snapshots, which names the domain with each: its bytes are made once.

    Raises XdrError.
    """
    snapshots, number = REMOTE["domain_list_all_snapshots"].answer.codecs
    assert isinstance(snapshots, Array)
    out = bytearray()
    snapshots.pack_count(out, len(names))
    text, named = TYPES.codec("string"), pack(TYPES.codec("domain"), domain)
    for name in names:
        text.pack(out, name)
        out += named
    number.pack(out, count)
    return bytes(out)
