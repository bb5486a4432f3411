"""Values to bytes and back, and bytes that are no values."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from tests.wire.values import of_fields
from virtsnap.wire.procedures import PROGRAMS, REMOTE, TYPES, Procedure, pack_snapshots
from virtsnap.wire.values import Param, WireDomain, WireSnapshot, params_of, values_of
from virtsnap.wire.xdr import Reader, XdrError, pack

EVERY = [procedure for program in PROGRAMS.values() for procedure in program]
DOMAIN = WireDomain("vm", bytes(range(16)), -1)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(procedure=st.sampled_from(EVERY), data=st.data())
def test_every_procedure_takes_and_gives_what_it_packs(procedure: Procedure, data: st.DataObject) -> None:
    arguments = data.draw(of_fields(procedure._arguments))
    packed = procedure.pack_arguments(*arguments)
    assert procedure.unpack_arguments(packed) == arguments
    assert procedure.pack_arguments(*procedure.unpack_arguments(packed)) == packed
    answer = data.draw(of_fields(procedure._answer))
    value = None if not answer else answer[0] if len(answer) == 1 else answer
    assert procedure.unpack_answer(procedure.pack_answer(value)) == value


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(procedure=st.sampled_from(EVERY), data=st.data())
def test_a_payload_that_ends_too_early_is_an_error_and_more_of_it_is_not(
    procedure: Procedure, data: st.DataObject
) -> None:
    arguments = data.draw(of_fields(procedure._arguments))
    packed = procedure.pack_arguments(*arguments)
    assert procedure.unpack_arguments(packed + b"more") == arguments
    if packed:
        with pytest.raises(XdrError):
            procedure.unpack_arguments(packed[: data.draw(st.integers(0, len(packed) - 1))])


@settings(max_examples=2000, deadline=None)
@given(st.sampled_from(EVERY), st.binary(max_size=200))
def test_noise_is_an_error_or_a_value(procedure: Procedure, noise: bytes) -> None:
    try:
        values = procedure.unpack_arguments(noise)
    except XdrError:
        return
    assert len(values) == len(procedure.arguments.names)


@pytest.mark.parametrize(
    ("type", "value", "expected"),
    [
        ("int", -2, "fffffffe"),
        ("uint", 2**32 - 1, "ffffffff"),
        ("hyper", -1, "ffffffffffffffff"),
        ("uhyper", 2**40, "0000010000000000"),
        ("double", 0.5, "3fe0000000000000"),
        ("string", "häu", "00000004 68c3a475"),
        ("string", "vm", "00000002 766d0000"),
        ("string", "\udcff", "00000001 ff000000"),
        ("string?", None, "00000000"),
        ("string?", "", "00000001 00000000"),
        ("bytes<4>", b"abc", "00000003 61626300"),
        ("bytes[3]", b"abc", "61626300"),
        ("int<3>", [1, 2], "00000002 00000001 00000002"),
        ("int[2]", [1, 2], "00000001 00000002"),
        ("typed_param", Param("a", 6, True), "00000001 61000000 00000006 00000001"),
        ("domain", DOMAIN, "00000002 766d0000 000102030405060708090a0b0c0d0e0f ffffffff"),
    ],
)
def test_the_bytes_are_those_of_the_standard(type: str, value: object, expected: str) -> None:
    codec = TYPES.codec(type)
    assert pack(codec, value) == bytes.fromhex(expected)
    assert codec.unpack(Reader(bytes.fromhex(expected))) == value


@pytest.mark.parametrize(
    ("type", "data"),
    [
        ("string", "00400001" + "00" * 8),
        ("string", "ffffffff"),
        ("string", "00000002 61000000"),
        ("string?", "00000002 00000000"),
        ("int<2>", "00000003" + "00000000" * 3),
        ("domain<16384>", "00004000"),
        ("typed_param", "00000001 61000000 00000009 00000000"),
        ("typed_param", "00000051" + "61" * 84),
    ],
)
def test_what_is_over_a_limit_or_of_no_type_is_refused(type: str, data: str) -> None:
    with pytest.raises(XdrError):
        TYPES.codec(type).unpack(Reader(bytes.fromhex(data)))


@pytest.mark.parametrize(
    ("type", "value"),
    [
        ("int", 2**31),
        ("uint", -1),
        ("int", "1"),
        ("string", "a\0b"),
        ("string", 5),
        ("bytes<2>", b"abc"),
        ("bytes[2]", b"a"),
        ("int<1>", [1, 2]),
        ("int[2]", [1]),
        ("domain", ("vm", b"")),
        ("typed_param", Param("a", 0, 1)),
    ],
)
def test_a_value_that_is_not_of_the_type_is_refused(type: str, value: object) -> None:
    with pytest.raises(XdrError):
        pack(TYPES.codec(type), value)


def test_typed_parameters_from_and_to_dictionaries() -> None:
    values = {"a": 1, "b": True, "c": "x", "d": 0.5}
    params = params_of(values, {"a": 1})
    assert [param.type for param in params] == [1, 6, 7, 5]
    assert values_of(params) == values


def test_every_type_in_the_tables_exists() -> None:
    for one in EVERY:
        assert isinstance(one.arguments.names, tuple)
        assert isinstance(one.answer.names, tuple)


def test_procedures_are_found_by_number_and_by_name() -> None:
    assert REMOTE["domain_get_xml_desc"] is REMOTE.get(14)
    assert REMOTE.get(9999) is None
    assert len({one.number for one in REMOTE}) == len(list(REMOTE))


def test_snapshots_of_one_domain_are_packed_as_any() -> None:
    answer = REMOTE["domain_list_all_snapshots"]
    for names in ([], ["a"], ["a", "größer", "\udcff"]):
        snapshots = [WireSnapshot(name, DOMAIN) for name in names]
        assert pack_snapshots(names, DOMAIN, 7) == answer.pack_answer((snapshots, 7))
    for wrong in ["x"] * 16385, ["\0"]:
        with pytest.raises(XdrError):
            pack_snapshots(wrong, DOMAIN, 1)
