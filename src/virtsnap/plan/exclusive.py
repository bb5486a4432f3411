"""Which host resources of a definition only one QEMU at a time can hold.

A revert makes the new QEMU ready beside the old one; where the definition names one of these it cannot.
Not here: disks, which the plan of the revert judges itself.
"""

from __future__ import annotations

from lxml import etree

from virtsnap.formats import xml_text
from virtsnap.machine.support import COMMANDLINE

VARIABLE_STORE = "the UEFI variable store"


def held_alone(domain_xml: str) -> tuple[str, ...]:
    """In words, what two QEMUs with this definition would fight over."""
    root = xml_text.parse(domain_xml, "domain")
    held: list[str] = []
    for device in root.iterfind("devices/*"):
        if device.tag in ("serial", "console", "channel", "parallel"):
            held += _character_device(device)
        elif device.tag == "graphics":
            port = device.get("port", "-1")
            if device.get("autoport") != "yes" and port not in ("-1", ""):
                held.append(f"{device.get('type')} port {port}")
            held += [f"socket {path}" for path in _graphics_sockets(device)]
        elif device.tag == "hostdev":
            held.append("a host device")
    if root.find("os/nvram") is not None:
        held.append(VARIABLE_STORE)
    if root.find(f"{COMMANDLINE}/{{*}}arg") is not None:
        held.append("what the user's own QEMU arguments name")
    return tuple(dict.fromkeys(held))


def _character_device(device: etree._Element) -> list[str]:
    kind, source = device.get("type"), device.find("source")
    if source is None:
        return []
    if kind == "tcp" and source.get("mode") == "bind":
        return [f"TCP port {source.get('service')}"]
    if kind == "unix" and source.get("path") and source.get("mode", "bind") == "bind":
        return [f"socket {source.get('path')}"]
    if kind == "file":
        return [f"file {source.get('path')}"]
    return []


def _graphics_sockets(device: etree._Element) -> list[str]:
    paths = [device.get("socket")]
    paths += [listen.get("socket") for listen in device.iterfind("listen[@type='socket']")]
    return [path for path in paths if path]
