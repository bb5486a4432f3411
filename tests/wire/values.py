"""Any value of any type of the protocol, for hypothesis."""

from __future__ import annotations

import hypothesis.strategies as st

from virtsnap.wire.procedures import _entries, _pair
from virtsnap.wire.tables import OWN_STRUCTS, STRUCTS
from virtsnap.wire.values import Param, WireDomain, WireSnapshot

_FIELDS = dict(_pair(entry) for entry in _entries(STRUCTS + OWN_STRUCTS))
_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
_RANGES = {
    "int": (-(2**31), 2**31 - 1),
    "uint": (0, 2**32 - 1),
    "hyper": (-(2**63), 2**63 - 1),
    "uhyper": (0, 2**64 - 1),
}
_PARAMS = st.one_of(
    *(
        st.builds(Param, _TEXT, st.just(type), st.integers(*_RANGES[name]))
        for type, name in enumerate(("int", "uint", "hyper", "uhyper"), 1)
    ),
    st.builds(Param, _TEXT, st.just(5), st.floats(allow_nan=False)),
    st.builds(Param, _TEXT, st.just(6), st.booleans()),
    st.builds(Param, _TEXT, st.just(7), _TEXT),
)


def of_type(name: str) -> st.SearchStrategy[object]:
    """Values of one type."""
    if name.endswith("?"):
        return st.none() | of_type(name[:-1])
    if name.endswith((">", "]")):
        element, _, number = name[:-1].rpartition("<" if name.endswith(">") else "[")
        least = int(number) if name.endswith("]") else 0
        most = least or min(int(number), 3)
        if element == "bytes":
            return st.binary(min_size=least, max_size=most)
        return st.lists(of_type(element), min_size=least, max_size=most)
    if name in _RANGES:
        return st.integers(*_RANGES[name])
    match name:
        case "string":
            return _TEXT
        case "uuid":
            return st.binary(min_size=16, max_size=16)
        case "typed_param":
            return _PARAMS
        case "domain":
            return st.builds(WireDomain, _TEXT, st.binary(min_size=16, max_size=16), of_type("int"))
        case "domain_snapshot":
            return st.builds(WireSnapshot, _TEXT, of_type("domain"))
    return of_fields(_FIELDS[name])


def of_fields(fields: str) -> st.SearchStrategy[tuple[object, ...]]:
    """Tuples of values for `name: type, name: type`."""
    return st.tuples(*(of_type(part.split(": ")[1]) for part in fields.split(", ") if part))
