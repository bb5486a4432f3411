"""XDR (RFC 4506) as libvirt uses it: from a type's name to what packs and unpacks its values.

    int uint hyper uhyper double     numbers
    string                           text, at most 4 MiB; bytes that are no UTF-8 survive as surrogates
    uuid, bytes[N], bytes<MAX>       bytes, of fixed length or counted
    T?                               None or a T
    T<MAX>, T[N]                     a list, counted or of fixed length
    typed_param                      `values.Param`
    NAME                             a structure of `virtsnap.wire.tables`: a tuple in the order of its fields

As with libvirt padding may hold anything, and bytes behind the last field are nobody's business.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol

from virtsnap.wire.values import BOOLEAN, DOUBLE, INT, LLONG, STRING, UINT, ULLONG, Param

STRING_MAX = 4 * 1024 * 1024
_PARAM_NAME_MAX = 80


class XdrError(ValueError):
    """The bytes are not of the type that is expected, or a value cannot be of it."""


class Reader:
    """Bytes and how far they are read."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def take(self, count: int) -> bytes:
        """The next bytes. Raises XdrError when there are fewer."""
        end = self.at + count
        if end > len(self.data):
            raise XdrError(f"{count} bytes expected at {self.at}, {len(self.data) - self.at} left")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def skip_padding(self, count: int) -> None:
        """Go on to the next multiple of four after `count` bytes."""
        self.take(-count % 4)


class Codec(Protocol):
    """One type."""

    def pack(self, out: bytearray, value: Any) -> None:
        """Append a value. Raises XdrError for what is not of the type."""
        ...

    def unpack(self, reader: Reader) -> Any:
        """Read a value. Raises XdrError."""
        ...


class Number:
    """Four or eight bytes."""

    def __init__(self, format: str) -> None:
        self._struct = struct.Struct(format)

    def pack(self, out: bytearray, value: Any) -> None:
        try:
            out += self._struct.pack(value)
        except (struct.error, TypeError) as error:
            raise XdrError(f"{value!r}: {error}") from error

    def unpack(self, reader: Reader) -> Any:
        return self._struct.unpack(reader.take(self._struct.size))[0]


_INT, _UINT = Number(">i"), Number(">I")


def _count(reader: Reader, limit: int) -> int:
    count: int = _UINT.unpack(reader)
    if count > limit:
        raise XdrError(f"{count} is more than the limit of {limit}")
    return count


class Bytes:
    """Bytes, counted up to `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def pack(self, out: bytearray, value: Any) -> None:
        if len(value) > self.limit:
            raise XdrError(f"{len(value)} bytes are more than the limit of {self.limit}")
        out += len(value).to_bytes(4, "big") + value + bytes(-len(value) % 4)

    def unpack(self, reader: Reader) -> bytes:
        count = _count(reader, self.limit)
        taken = reader.take(count)
        reader.skip_padding(count)
        return taken


class FixedBytes:
    """So many bytes, no count before them."""

    def __init__(self, length: int) -> None:
        self.length = length

    def pack(self, out: bytearray, value: Any) -> None:
        if len(value) != self.length:
            raise XdrError(f"{len(value)} bytes where {self.length} are expected")
        out += value + bytes(-self.length % 4)

    def unpack(self, reader: Reader) -> bytes:
        taken = reader.take(self.length)
        reader.skip_padding(self.length)
        return taken


class Text(Bytes):
    """A string. NUL ends strings in C, so none may hold one."""

    def __init__(self, limit: int = STRING_MAX) -> None:
        super().__init__(limit)

    def pack(self, out: bytearray, value: Any) -> None:
        if not isinstance(value, str) or "\0" in value:
            raise XdrError(f"{value!r} is no string")
        try:
            data = value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise XdrError(f"{value!r} is no text") from error
        super().pack(out, data)

    def unpack(self, reader: Reader) -> Any:
        taken = super().unpack(reader)
        if b"\0" in taken:
            raise XdrError("a string holds a NUL")
        return taken.decode("utf-8", "surrogateescape")


class Optional:
    """None or a value."""

    def __init__(self, element: Codec) -> None:
        self.element = element

    def pack(self, out: bytearray, value: Any) -> None:
        _UINT.pack(out, int(value is not None))
        if value is not None:
            self.element.pack(out, value)

    def unpack(self, reader: Reader) -> Any:
        return self.element.unpack(reader) if _count(reader, 1) else None


class Array:
    """A list, counted up to `limit`."""

    def __init__(self, element: Codec, limit: int) -> None:
        self.element = element
        self.limit = limit

    def pack(self, out: bytearray, value: Any) -> None:
        self.pack_count(out, len(value))
        for one in value:
            self.element.pack(out, one)

    def pack_count(self, out: bytearray, count: int) -> None:
        """What goes before so many elements. Raises XdrError for too many."""
        if count > self.limit:
            raise XdrError(f"{count} elements are more than the limit of {self.limit}")
        out += count.to_bytes(4, "big")

    def unpack(self, reader: Reader) -> list[Any]:
        # A count that lies ends at the last byte: every element takes at least four.
        return [self.element.unpack(reader) for _ in range(_count(reader, self.limit))]


class Vector:
    """A list of fixed length."""

    def __init__(self, element: Codec, length: int) -> None:
        self.element = element
        self.length = length

    def pack(self, out: bytearray, value: Any) -> None:
        if len(value) != self.length:
            raise XdrError(f"{len(value)} elements where {self.length} are expected")
        for one in value:
            self.element.pack(out, one)

    def unpack(self, reader: Reader) -> list[Any]:
        return [self.element.unpack(reader) for _ in range(self.length)]


class Record:
    """Fields one after the other: a tuple, or what `make` makes of its values."""

    def __init__(self, fields: tuple[tuple[str, Codec], ...], make: Callable[..., Any] | None = None) -> None:
        self.names = tuple(name for name, _ in fields)
        self.codecs = tuple(codec for _, codec in fields)
        self._make = make

    def pack(self, out: bytearray, value: Any) -> None:
        if len(value) != len(self.codecs):
            raise XdrError(f"{len(value)} values where {', '.join(self.names) or 'none'} are expected")
        for codec, one in zip(self.codecs, value, strict=True):
            codec.pack(out, one)

    def unpack(self, reader: Reader) -> Any:
        values = tuple(codec.unpack(reader) for codec in self.codecs)
        return values if self._make is None else self._make(*values)


_VALUES: dict[int, Codec] = {
    INT: _INT,
    UINT: _UINT,
    LLONG: Number(">q"),
    ULLONG: Number(">Q"),
    DOUBLE: Number(">d"),
    BOOLEAN: _INT,
    STRING: Text(),
}


class TypedParam:
    """A name, the number of a type, and a value of it."""

    _name = Text(_PARAM_NAME_MAX)

    def pack(self, out: bytearray, value: Param) -> None:
        out += _param_head(value.field, value.type)
        _value_codec(value.type).pack(out, value.value)

    def unpack(self, reader: Reader) -> Param:
        name = self._name.unpack(reader)
        type = _INT.unpack(reader)
        value = _value_codec(type).unpack(reader)
        return Param(name, type, bool(value) if type == BOOLEAN else value)


@lru_cache(maxsize=512)
def _param_head(name: str, type: int) -> bytes:
    out = bytearray()
    TypedParam._name.pack(out, name)
    _INT.pack(out, type)
    return bytes(out)


def _value_codec(type: int) -> Codec:
    codec = _VALUES.get(type)
    if codec is None:
        raise XdrError(f"there is no parameter type {type}")
    return codec


class Types:
    """Codecs by the names of their types; structures are built when first needed."""

    def __init__(self, structures: Mapping[str, str], classes: Mapping[str, Callable[..., Any]]) -> None:
        self._structures = structures
        self._classes = classes
        self._known: dict[str, Codec] = {
            "int": _INT,
            "uint": _UINT,
            "hyper": _VALUES[LLONG],
            "uhyper": _VALUES[ULLONG],
            "double": _VALUES[DOUBLE],
            "string": Text(),
            "uuid": FixedBytes(16),
            "typed_param": TypedParam(),
        }

    def codec(self, name: str) -> Codec:
        """The codec of a type. Raises KeyError for one that does not exist."""
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self._build(name)
        return found

    def record(self, fields: str, make: Callable[..., Any] | None = None) -> Record:
        """What `name: type, name: type` says."""
        pairs = [part.split(": ") for part in fields.split(", ")] if fields else []
        return Record(tuple((name, self.codec(type)) for name, type in pairs), make)

    def _build(self, name: str) -> Codec:
        if name.endswith("?"):
            return Optional(self.codec(name[:-1]))
        for opening, closing, single, several in (
            ("<", ">", Bytes, Array),
            ("[", "]", FixedBytes, Vector),
        ):
            if name.endswith(closing):
                element, _, number = name[:-1].rpartition(opening)
                if element == "bytes":
                    return single(int(number))
                return several(self.codec(element), int(number))
        return self.record(self._structures[name], self._classes.get(name))


def pack(codec: Codec, value: Any) -> bytes:
    """A value's bytes. Raises XdrError."""
    out = bytearray()
    codec.pack(out, value)
    return bytes(out)
