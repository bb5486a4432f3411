"""Documents against a small schema."""

from __future__ import annotations

import pytest
from lxml import etree

from virtsnap.formats.schema import check
from virtsnap.model.errors import XmlDetail, XmlError, XmlInvalidSchema

RULES = etree.RelaxNG(
    etree.fromstring(
        "<element name='a' xmlns='http://relaxng.org/ns/structure/1.0'>"
        "<interleave><optional><element name='b'><text/></element></optional>"
        "<optional><element name='c'><attribute name='d'/></element></optional></interleave></element>"
    )
)


@pytest.mark.parametrize("text", ["<a/>", "<a><b>x</b></a>", "<?xml version='1.0'?><a><c d='1'/><b/></a>"])
def test_what_matches_is_let_through(text: str) -> None:
    check(text, "a", RULES, "/a.rng")


def test_everything_that_libxml2_says_is_told() -> None:
    with pytest.raises(XmlInvalidSchema) as caught:
        check("<a><c/></a>", "a", RULES, "/a.rng")
    assert str(caught.value) == (
        "XML document failed to validate against schema: Unable to validate doc against /a.rng\n"
        "Extra element c in interleave\nElement a failed to validate content\n"
    )
    assert caught.value.get_error_code() == 92


def test_one_document_leaves_nothing_to_the_next() -> None:
    for _ in range(2):
        with pytest.raises(XmlInvalidSchema, match=r"a\.rng\nElement a has extra content: x\n$"):
            check("<a><x/></a>", "a", RULES, "/a.rng")
    check("<a/>", "a", RULES, "/a.rng")


def test_what_is_no_such_document_is_no_matter_of_the_schema() -> None:
    with pytest.raises(XmlError, match="expecting root element of 'a', not 'x'"):
        check("<x/>", "a", RULES, "/a.rng")
    with pytest.raises(XmlDetail):
        check("<a>", "a", RULES, "/a.rng")
