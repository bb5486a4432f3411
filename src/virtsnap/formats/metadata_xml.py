"""Title, description and programs' own elements in a definition (virDomainGetMetadata and -SetMetadata)."""

from __future__ import annotations

import copy
from enum import IntEnum

from lxml import etree

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.errors import InvalidArg, NoMetadata, XmlDetail

_BEFORE = ("name", "uuid", "genid")
"""What stands before the title; the description follows it, then the metadata."""
_ORDER = ("title", "description", "metadata")


class MetadataType(IntEnum):
    """virDomainMetadataType."""

    DESCRIPTION = 0
    TITLE = 1
    ELEMENT = 2


def get_metadata(definition: DomainDefinition, type: MetadataType, uri: str | None) -> str:
    """What is there. An element comes without its namespace. Raises NoMetadata, InvalidArg."""
    root = definition.tree()
    if type is not MetadataType.ELEMENT:
        text = root.findtext(type.name.lower())
        if not text:
            raise NoMetadata("Requested metadata element is not present")
        return text
    found = _element(root, _needed(uri, "uri"))
    if found is None:
        raise NoMetadata("Requested metadata element is not present")
    found = copy.deepcopy(found)
    found.tail = None
    for one in found.iter(f"{{{uri}}}*"):
        one.tag = etree.QName(one).localname
    etree.cleanup_namespaces(found)
    _unindent(found)
    return etree.tostring(found, encoding="unicode", pretty_print=True).rstrip("\n")


def set_metadata(
    definition: DomainDefinition, type: MetadataType, text: str | None, key: str | None, uri: str | None
) -> DomainDefinition:
    """With what is given in the place of what was there; None takes it away. Raises InvalidArg, XmlDetail."""
    root = definition.tree()
    if type is not MetadataType.ELEMENT:
        if type is MetadataType.TITLE and text and "\n" in text:
            raise InvalidArg("Domain title can't contain newlines")
        _replace_text(root, type.name.lower(), text)
        return DomainDefinition.from_element(root)
    uri = _needed(uri, "uri")
    old = _element(root, uri)
    if old is not None:
        parent = old.getparent()
        assert parent is not None
        parent.remove(old)
        if not len(parent):
            root.remove(parent)
    if text is not None:
        _append(root, text, _needed(key, "key"), uri)
    return DomainDefinition.from_element(root)


def _needed(value: str | None, name: str) -> str:
    if not value:
        raise InvalidArg(f"{name} in virDomainSetMetadata must not be NULL")
    return value


def _element(root: etree._Element, uri: str) -> etree._Element | None:
    for one in root.iterfind("metadata/*"):
        if isinstance(one.tag, str) and etree.QName(one).namespace == uri:
            return one
    return None


def _append(root: etree._Element, text: str, key: str, uri: str) -> None:
    if "<!DOCTYPE" in text:
        raise XmlDetail("document type declarations and entities are not accepted")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        given = etree.fromstring(text.encode(), parser)
        named = etree.Element(etree.QName(uri, etree.QName(given).localname), nsmap={key: uri})
    except (etree.XMLSyntaxError, ValueError) as error:
        raise XmlDetail(f"(metadata_xml): {error}") from error
    for name, value in given.attrib.items():
        named.set(name, value)
    named.text = given.text
    named.extend(list(given))
    for one in named.iter("{}*"):
        one.tag = f"{{{uri}}}{one.tag!s}"
    holder = root.find("metadata")
    if holder is None:
        holder = etree.Element("metadata")
        _insert(root, holder)
    holder.append(named)


def _unindent(element: etree._Element) -> None:
    """Without the white space that the definition's layout has brought, where nothing else is text."""
    for one in element.iter():
        if len(one) and not "".join([one.text or "", *(child.tail or "" for child in one)]).strip():
            one.text = None
            for child in one:
                child.tail = None


def _replace_text(root: etree._Element, tag: str, text: str | None) -> None:
    found = root.find(tag)
    if not text:
        if found is not None:
            root.remove(found)
        return
    if found is None:
        found = etree.Element(tag)
        _insert(root, found)
    found.text = text


def _insert(root: etree._Element, element: etree._Element) -> None:
    before = (*_BEFORE, *_ORDER[: _ORDER.index(str(element.tag))])
    position = max((index + 1 for index, child in enumerate(root) if child.tag in before), default=0)
    root.insert(position, element)
