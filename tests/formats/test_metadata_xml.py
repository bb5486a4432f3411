"""Titles, descriptions and elements of other programs in a definition."""

from __future__ import annotations

import pytest

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.formats.metadata_xml import MetadataType, get_metadata, set_metadata
from virtsnap.model.errors import InvalidArg, NoMetadata, XmlDetail

XML = """<domain type='qemu'><name>vm</name><uuid>11111111-2222-3333-4444-555555555555</uuid>
<memory>1</memory><os><type arch='x86_64'>hvm</type></os></domain>"""
VM = DomainDefinition.parse(XML)
URI = "http://example.org/x"


@pytest.mark.parametrize("type", [MetadataType.TITLE, MetadataType.DESCRIPTION])
def test_texts_come_and_go(type: MetadataType) -> None:
    with pytest.raises(NoMetadata):
        get_metadata(VM, type, None)
    changed = set_metadata(VM, type, "a & b", None, None)
    assert get_metadata(changed, type, None) == "a & b"
    assert get_metadata(set_metadata(changed, type, "c", None, None), type, None) == "c"
    assert set_metadata(changed, type, None, None, None).to_xml() == VM.to_xml()


def test_they_stand_where_libvirt_puts_them() -> None:
    changed = set_metadata(VM, MetadataType.ELEMENT, "<a/>", "k", URI)
    changed = set_metadata(changed, MetadataType.DESCRIPTION, "d", None, None)
    changed = set_metadata(changed, MetadataType.TITLE, "t", None, None)
    assert [child.tag for child in changed.tree()][:5] == ["name", "uuid", "title", "description", "metadata"]


def test_elements_by_their_namespace() -> None:
    one = set_metadata(VM, MetadataType.ELEMENT, "<a x='1'><b/></a>", "k", URI)
    two = set_metadata(one, MetadataType.ELEMENT, "<z>text</z>", "o", "urn:other")
    stored = DomainDefinition.parse(two.to_inactive_xml())
    assert '<k:a xmlns:k="http://example.org/x" x="1">' in stored.to_inactive_xml()
    assert get_metadata(stored, MetadataType.ELEMENT, URI) == '<a x="1">\n  <b/>\n</a>'
    assert get_metadata(stored, MetadataType.ELEMENT, "urn:other") == "<z>text</z>"
    left = set_metadata(stored, MetadataType.ELEMENT, None, None, URI)
    with pytest.raises(NoMetadata):
        get_metadata(left, MetadataType.ELEMENT, URI)
    assert get_metadata(left, MetadataType.ELEMENT, "urn:other") == "<z>text</z>"
    assert set_metadata(left, MetadataType.ELEMENT, None, None, "urn:other").to_xml() == VM.to_xml()


@pytest.mark.parametrize(
    ("type", "text", "key", "uri", "error"),
    [
        (MetadataType.TITLE, "two\nlines", None, None, InvalidArg),
        (MetadataType.ELEMENT, "<a>", "k", URI, XmlDetail),
        (MetadataType.ELEMENT, "<a/>", None, URI, InvalidArg),
        (MetadataType.ELEMENT, "<a/>", "k", None, InvalidArg),
        (MetadataType.ELEMENT, "<a/>", "no prefix", URI, XmlDetail),
        (MetadataType.ELEMENT, "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>", "k", URI, XmlDetail),
    ],
)
def test_bad_input(
    type: MetadataType, text: str, key: str | None, uri: str | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        set_metadata(VM, type, text, key, uri)
