"""Which device boots first: QEMU's bootindex from `<boot order>` of devices or `<boot dev>` of the system."""

from __future__ import annotations

from lxml import etree

from virtsnap.machine import tree


def boot_indexes(root: etree._Element) -> dict[etree._Element, int]:
    """Device element -> bootindex. With `<boot dev>` the first device of each kind gets one."""
    found: dict[etree._Element, int] = {}
    for device in tree.devices(root):
        order = tree.attribute(device, "boot", "order")
        if order is not None:
            found[device] = int(order)
    if found:
        return found
    for number, boot in enumerate(root.iterfind("os/boot"), start=1):
        first = _first(root, boot.get("dev", ""))
        if first is not None and first not in found:
            found[first] = number
    return found


def _first(root: etree._Element, kind: str) -> etree._Element | None:
    if kind == "network":
        return next(tree.children(root, "interface"), None)
    wanted = {"hd": ("disk", "lun"), "cdrom": ("cdrom",), "fd": ("floppy",)}.get(kind, ())
    return next((d for d in tree.children(root, "disk") if d.get("device") in wanted), None)
