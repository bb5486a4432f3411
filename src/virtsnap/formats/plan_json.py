"""Plans and facts as JSON text and back, for the journal.

Every frozen record becomes an object with its class under "is"; enums become their class and name. Only the
classes of `model` that a journal may hold are known, so a journal can never name anything else. An entry
of a virtsnap that knew other fields is refused as Damaged rather than guessed at.
"""

from __future__ import annotations

import dataclasses
import json
from enum import Enum
from typing import Any, TypeVar

from virtsnap.model import block_job, domain, event, facts, snapshot, steps
from virtsnap.model.errors import Damaged

_RECORDS: dict[str, type[Any]] = {
    cls.__name__: cls
    for module in (block_job, domain, facts, snapshot, steps)
    for cls in vars(module).values()
    if isinstance(cls, type) and dataclasses.is_dataclass(cls)
}
_ENUMS: dict[str, type[Enum]] = {
    cls.__name__: cls
    for module in (block_job, domain, event, facts, snapshot)
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, Enum)
}

T = TypeVar("T")


def dumps(value: object) -> str:
    """The value as one line of JSON."""
    return json.dumps(_encode(value), ensure_ascii=False, separators=(",", ":"))


def loads(text: str, expected: type[T]) -> T:
    """The value again, equal to what was written. Raises Damaged."""
    try:
        value = _decode(json.loads(text))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"the journal cannot be read: {error}") from error
    if not isinstance(value, expected):
        raise Damaged(f"the journal holds a {type(value).__name__} instead of a {expected.__name__}")
    return value


def _encode(value: object) -> object:
    if isinstance(value, Enum):
        return {"enum": type(value).__name__, "name": value.name}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, tuple | frozenset):
        items = sorted(value) if isinstance(value, frozenset) else value
        return {"set" if isinstance(value, frozenset) else "list": [_encode(item) for item in items]}
    if isinstance(value, dict):
        return {"map": [[key, _encode(item)] for key, item in value.items()]}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} has no place in a journal")


def _decode(value: Any) -> object:
    if not isinstance(value, dict):
        return value
    if "enum" in value:
        return _ENUMS[value["enum"]][value["name"]]
    if "is" in value:
        fields = {key: _decode(item) for key, item in value.items() if key != "is"}
        return _RECORDS[value["is"]](**fields)
    if "list" in value:
        return tuple(_decode(item) for item in value["list"])
    if "set" in value:
        return frozenset(_decode(item) for item in value["set"])
    return {key: _decode(item) for key, item in value["map"]}
