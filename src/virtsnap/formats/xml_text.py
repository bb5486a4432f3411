"""XML text in and out, the way libvirt reads and writes it.

`parse` takes no document type, no entities and nothing from the network, and bounds the size; `render`
writes libvirt's layout: two spaces, single quotes, no declaration. Inside a domain's `<metadata>`, which
libvirt hands to libxml2 as it is, the layout is libxml2's: double quotes, mixed content left alone.

Not here: what any element means (`domain_xml`, `snapshot_xml`), and the order of elements (`machine`).
"""

from __future__ import annotations

import copy
import re

from lxml import etree

from virtsnap.model.errors import XmlDetail, XmlError

MAX_BYTES = 16 * 1024 * 1024
"""Longest document that is read; libvirt's RPC accepts strings of a quarter of this."""

_PROLOG = re.compile(r"(?:\ufeff|\s+|<\?.*?\?>|<!--.*?-->)*", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;"})

_RAW = frozenset({("domain", "metadata"), ("inactiveDomain", "metadata")})
"""(parent, element) whose content is somebody else's and is written as libxml2 would."""


def parse(text: str, root: str | None) -> etree._Element:
    """The root element of `text`, which must be `root`; None for any.

    Raises XmlDetail (malformed, too long, or with a document type) and XmlError (another root), in
    libvirt's words.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise XmlDetail(f"XML is not valid Unicode text: {error.reason}") from error
    if len(data) > MAX_BYTES:
        raise XmlDetail(f"XML document of {len(data)} bytes is longer than {MAX_BYTES}")
    prolog = _PROLOG.match(text)
    if prolog is not None and text.startswith("<!DOCTYPE", prolog.end()):
        raise XmlDetail("document type declarations and entities are not accepted")
    # The text was decoded already, so whatever encoding its declaration names is history.
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, strip_cdata=False
    )
    try:
        element = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise XmlDetail(_syntax_message(text, error)) from error
    if root is not None and element.tag != root:
        raise XmlError(f"expecting root element of '{root}', not '{_local(element)}'")
    return element


def render(element: etree._Element) -> str:
    """`element` as libvirt would write it, ending in a newline. Comments outside metadata are dropped."""
    lines: list[str] = []
    _render(element, 0, lines, _namespaces_used(element), _parent_tag(element))
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text or an attribute's value, escaped as libvirt does: all five characters, no controls."""
    return _CONTROL.sub("", text).translate(_ESCAPES)


def _syntax_message(text: str, error: etree.XMLSyntaxError) -> str:
    line, column = error.position
    message = re.sub(r", line \d+, column \d+( \(.*\))?$", "", error.msg or "malformed document")
    rows = text.split("\n")
    at = min(line, len(rows))
    if not rows[at - 1]:
        # libvirt: an error behind the last line is shown at that line's end.
        while at and not rows[at - 1]:
            at -= 1
        column = len(rows[at - 1]) + 1 if at else 1
    context = rows[at - 1] if at else "(null)"
    # libxml2 shows at most 80 characters around the place
    start = max(0, column - 80)
    return f"at line {line}: {message}\n{context[start : start + 80]}\n{'-' * (column - 1 - start)}^"


def _local(element: etree._Element) -> str:
    return etree.QName(element).localname


def _parent_tag(element: etree._Element) -> str:
    parent = element.getparent()
    return "" if parent is None or not isinstance(parent.tag, str) else parent.tag


def _namespaces_used(element: etree._Element) -> set[str]:
    """URIs used in `element` and below, metadata aside."""
    used: set[str] = set()
    pending = [element]
    while pending:
        current = pending.pop()
        if not isinstance(current.tag, str) or (_parent_tag(current), current.tag) in _RAW:
            continue
        for name in [current.tag, *map(str, current.attrib)]:
            if name.startswith("{"):
                used.add(name[1:].partition("}")[0])
        pending.extend(current)
    return used


def _qualified(element: etree._Element, name: str) -> str:
    if not name.startswith("{"):
        return name
    uri, _, local = name[1:].partition("}")
    if uri == "http://www.w3.org/XML/1998/namespace":
        return f"xml:{local}"
    prefix = next((p for p, u in element.nsmap.items() if u == uri and p is not None), None)
    return f"{prefix}:{local}" if prefix is not None else local


def _start(element: etree._Element, used: set[str]) -> str:
    parent = element.getparent()
    inherited = {} if parent is None else parent.nsmap
    parts = [_qualified(element, str(element.tag))]
    parts += [
        f"{_qualified(element, str(name))}='{escape(str(value))}'" for name, value in element.attrib.items()
    ]
    for prefix, uri in element.nsmap.items():
        if uri in used and (parent is None or inherited.get(prefix) != uri):
            parts.append(f"xmlns{':' + prefix if prefix else ''}='{escape(uri)}'")
    return " ".join(parts)


def _render(element: etree._Element, depth: int, lines: list[str], used: set[str], parent: str) -> None:
    pad = "  " * depth
    if (parent, element.tag) in _RAW:
        lines.append(pad + _raw(element, depth))
        return
    start = _start(element, used)
    name = _qualified(element, str(element.tag))
    children = [child for child in element if isinstance(child.tag, str)]
    if not children:
        text = "".join([element.text or "", *(child.tail or "" for child in element)])
        if len(element) and not text.strip():
            text = ""
        lines.append(f"{pad}<{start}>{escape(text)}</{name}>" if text else f"{pad}<{start}/>")
        return
    if _mixed(element):
        lines.append(pad + _inline(element, used))
        return
    lines.append(f"{pad}<{start}>")
    for child in children:
        _render(child, depth + 1, lines, used, str(element.tag))
    lines.append(f"{pad}</{name}>")


def _mixed(element: etree._Element) -> bool:
    return bool((element.text or "").strip()) or any((child.tail or "").strip() for child in element)


def _inline(element: etree._Element, used: set[str]) -> str:
    """Text and elements mixed: every space may matter, so nothing is laid out."""
    parts = [f"<{_start(element, used)}>", escape(element.text or "")]
    for child in element:
        if isinstance(child.tag, str):
            parts.append(_inline(child, used))
        parts.append(escape(child.tail or ""))
    parts.append(f"</{_qualified(element, str(element.tag))}>")
    return "".join(parts)


def _raw(element: etree._Element, depth: int) -> str:
    # A copy on its own declares the prefixes that it inherits and uses, which is what libvirt prints too.
    copied = copy.deepcopy(element)
    copied.tail = None
    _lay_out(copied, depth)
    return etree.tostring(copied, encoding="unicode", with_tail=False)


def _lay_out(element: etree._Element, depth: int) -> None:
    """Indent like libxml2's format=1: an element holding any text of its own is left alone, whole."""
    if len(element) == 0 or _mixed(element):
        return
    element.text = "\n" + "  " * (depth + 1)
    for child in element:
        last = child.getnext() is None
        child.tail = "\n" + "  " * (depth if last else depth + 1)
        if isinstance(child.tag, str):
            _lay_out(child, depth + 1)
