"""Which of a running domain's devices is a console or a screen, and how it is reached."""

from __future__ import annotations

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.errors import InternalRefused


def console_path(definition: DomainDefinition, device: str | None) -> str:
    """A pty's path or `unix:PATH`. `device`: an alias; None: the first console. Raises InternalRefused."""
    for element in definition.tree().iterfind("devices/*"):
        if element.tag not in ("console", "serial", "parallel", "channel"):
            continue
        alias = element.find("alias")
        name = alias.get("name") if alias is not None else None
        if device is None and element.tag not in ("console", "serial"):
            continue
        if device is not None and name != device:
            continue
        source = element.find("source")
        path = source.get("path") if source is not None else None
        if path is None or element.get("type") not in ("pty", "unix"):
            raise InternalRefused(f"character device {name} is not using a PTY")
        return path if element.get("type") == "pty" else f"unix:{path}"
    raise InternalRefused(f"cannot find character device {device or '(null)'}")


def graphics_type(definition: DomainDefinition, index: int) -> str:
    """What is spoken at the screen of that number. Raises InternalRefused."""
    screens = definition.tree().findall("devices/graphics")
    if index >= len(screens):
        raise InternalRefused(f"No graphics backend with index {index}")
    kind = screens[index].get("type", "")
    if kind not in ("vnc", "spice"):
        raise InternalRefused(f"Can only open VNC or SPICE graphics backends, not {kind}")
    return kind
