"""The `<disk>` that names the destination of a block copy: text to a value.

Of a disk's elements only those that say where the destination is and of which format mean anything there;
others are refused by name.
"""

from __future__ import annotations

from virtsnap.formats import xml_text
from virtsnap.model.errors import ConfigUnsupported, XmlError
from virtsnap.model.frozen import dataclass


@dataclass(frozen=True)
class CopyDestination:
    """`format` None: not said."""

    path: str
    type: str
    format: str | None


def parse_copy_destination(text: str) -> CopyDestination:
    """Read it. Raises XmlDetail, XmlError, ConfigUnsupported."""
    root = xml_text.parse(text, "disk")
    type = root.get("type", "file")
    if type not in ("file", "block"):
        raise ConfigUnsupported(f"a copy to a disk of type '{type}' is not supported")
    path = format = None
    for element in root:
        if element.tag == "source":
            path = element.get("file" if type == "file" else "dev")
        elif element.tag == "driver":
            format = element.get("type")
            for name in element.attrib:
                if name not in ("name", "type"):
                    raise ConfigUnsupported(f"attribute '{name!s}' of <driver> is not supported for a copy")
        elif element.tag != "target":
            raise ConfigUnsupported(f"element <{element.tag}> is not supported for a copy")
    if not path:
        raise XmlError("missing source for the destination of a copy")
    if not path.startswith("/"):
        raise XmlError(f"destination '{path}' of a copy must be an absolute path")
    return CopyDestination(path, type, format)
