"""Errors as they travel."""

from __future__ import annotations

import pytest

from virtsnap.model import errors
from virtsnap.wire.errors import WireError, error_of, info_of, not_supported, unknown_procedure
from virtsnap.wire.procedures import ERROR
from virtsnap.wire.values import ErrorInfo
from virtsnap.wire.xdr import Reader, pack

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.Refused) and kind is not errors.Refused
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_arrives_with_its_words_and_its_number(kind: type[errors.Refused]) -> None:
    error = kind("the disk 'vda' is round")
    arrived = error_of(ERROR.unpack(Reader(pack(ERROR, info_of(error)))))
    assert str(arrived) == str(error)
    assert arrived.get_error_code() == error.get_error_code()


def test_who_looks_for_a_class_finds_it() -> None:
    for kind in (errors.NoDomain, errors.NoSnapshot, errors.RevertRisky, errors.OperationInvalid):
        assert isinstance(error_of(info_of(kind("x"))), kind)
    assert isinstance(error_of(info_of(errors.BareInvalidArg("bad flag"))), errors.InvalidArg)
    assert isinstance(error_of(info_of(errors.Aborted("x"))), errors.Aborted)


def test_an_error_of_libvirt_that_we_do_not_have_keeps_number_and_text() -> None:
    error = error_of(ErrorInfo(80, 20, "metadata not found: Requested metadata element is not present"))
    assert (error.get_error_code(), str(error)) == (
        80,
        "metadata not found: Requested metadata element is not present",
    )


def test_an_error_without_text_has_one_all_the_same() -> None:
    assert str(error_of(ErrorInfo(42, 10, None)))


def test_what_clients_take_for_not_supported() -> None:
    unknown = info_of(unknown_procedure(77))
    assert (unknown.code, unknown.domain, unknown.level) == (39, 7, 2)
    assert unknown.message == "unknown procedure: 77"
    assert info_of(not_supported("virDomainFoo")).code == 3
    assert info_of(WireError(49, 18, "gone")).message == "gone"


@pytest.mark.parametrize(
    ("text", "arrives"),
    [
        ("no domain 'a\0b'", "no domain 'ab'"),
        ("the agent says \ud800", "the agent says ?"),
        ("no file '\udcff'", "no file '\udcff'"),
        ("ü" * 2_000_000, "ü" * 511),
    ],
    ids=["nul", "surrogate", "byte", "long"],
)
def test_an_error_arrives_whatever_it_repeats(text: str, arrives: str) -> None:
    for error in (WireError(1, 7, text), errors.BareInvalidArg(text)):
        assert str(error_of(ERROR.unpack(Reader(pack(ERROR, info_of(error)))))) == arrives


@pytest.mark.parametrize(
    ("error", "domain"),
    [
        (errors.OperationInvalid("domain is already running"), 10),
        (errors.OperationInvalid("domain is not running"), 20),
        (errors.OperationFailed("domain moment s already exists"), 20),
        (errors.InvalidArg("could not find base image in chain for 'vda'"), 18),
        (not_supported("virDomainInterfaceAddresses"), 20),
        (not_supported("virConnectListAllInterfaces"), 26),
    ],
    ids=str,
)
def test_the_part_of_libvirt_that_speaks(error: errors.VirtsnapError, domain: int) -> None:
    assert info_of(error).domain == domain
