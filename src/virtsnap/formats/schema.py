"""Whether a document matches a RELAX NG schema, in libxml2's words, which are those of libvirt.

Not here: which schema belongs to which document, and where it is installed (`service.schemas`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtsnap.formats.xml_text import parse
from virtsnap.model.errors import XmlInvalidSchema

if TYPE_CHECKING:
    from lxml import etree


def check(text: str, root: str, schema: etree.RelaxNG, name: str) -> None:
    """Return when `text`, whose root element must be `root`, matches; `name` is the schema's path.

    Raises XmlInvalidSchema with everything that libxml2 has to say, a line each, and what `parse` raises.
    """
    if not schema.validate(parse(text, root)):
        said = "".join(f"{entry.message}\n" for entry in schema.error_log)
        raise XmlInvalidSchema(f"Unable to validate doc against {name}\n{said}")
