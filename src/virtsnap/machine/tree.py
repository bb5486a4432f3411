"""Small steps on a domain's tree that the modules of this package share. They change it in place."""

from __future__ import annotations

from collections.abc import Iterator

from lxml import etree


def devices(root: etree._Element) -> etree._Element:
    """The `<devices>` element, made if there is none."""
    found = root.find("devices")
    return etree.SubElement(root, "devices") if found is None else found


def children(root: etree._Element, *tags: str) -> Iterator[etree._Element]:
    """The devices with these tags, tag by tag."""
    for tag in tags:
        yield from list(devices(root).iterfind(tag))


def ensure(parent: etree._Element, tag: str) -> etree._Element:
    """The child `tag`, made at the end if there is none."""
    found = parent.find(tag)
    return etree.SubElement(parent, tag) if found is None else found


def default(element: etree._Element, name: str, value: str) -> None:
    """Set an attribute that is not set."""
    if element.get(name) is None:
        element.set(name, value)


def attribute(element: etree._Element, path: str, name: str) -> str | None:
    """An attribute of a descendant; None where either is missing."""
    found = element.find(path)
    return None if found is None else found.get(name)


def text(element: etree._Element, path: str) -> str | None:
    """The text of a descendant."""
    found = element.find(path)
    return None if found is None else found.text


def number(value: str | None, fallback: int = 0) -> int:
    """A decimal or 0x-hexadecimal number."""
    return fallback if value is None else int(value, 0)


def controllers(root: etree._Element, type_: str) -> list[etree._Element]:
    """Controllers of one type in document order."""
    return [c for c in devices(root).iterfind("controller") if c.get("type") == type_]


def address(device: etree._Element) -> etree._Element | None:
    """The device's guest address element, if it says where (type and place)."""
    found = device.find("address")
    return found if found is not None and found.get("type") is not None else None


def add_controller(root: etree._Element, type_: str, index: int, model: str | None = None) -> etree._Element:
    """Add a controller where libvirt puts it: behind its kind's lower indexes, or at the end."""
    made = etree.Element("controller", type=type_, index=str(index))
    if model is not None:
        made.set("model", model)
    parent = devices(root)
    present = list(parent.iterfind("controller"))
    place: etree._Element | None = None
    for other in reversed(present):
        if other.get("type") != type_:
            continue
        if number(other.get("index")) <= index:
            other.addnext(made)
            return made
        place = other
    if place is not None:
        place.addprevious(made)
    else:
        parent.append(made)
    return made
