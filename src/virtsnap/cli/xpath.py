"""--xpath and --wrap of the commands that print XML."""

from __future__ import annotations

from collections.abc import Sequence

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.spec import flag, string

OPTIONS = (
    string("xpath", "xpath expression to filter the XML document"),
    flag("wrap", "wrap xpath results in an common root element"),
)


def filtered(xml: str, args: Args) -> str:
    """The document, or with --xpath the nodes that match: each on its own line, or in `<nodes>`.

    Raises CliError for an expression that is wrong or that does not select nodes.
    """
    expression = args.string("xpath")
    if expression is None:
        return xml
    from lxml import etree

    document = etree.fromstring(xml.encode())
    try:
        found = document.xpath(expression)
    except etree.XPathError as error:
        raise CliError(f"internal error: Incorrect xpath '{expression}'") from error
    if not isinstance(found, list):
        raise CliError(f"internal error: Incorrect xpath '{expression}'")
    if args.has("wrap"):
        return _wrapped(found)
    return "".join(_alone(node) + "\n" for node in found)


def _alone(node: object) -> str:
    from lxml import etree

    if isinstance(node, etree._Element):
        return _element(node)
    name = getattr(node, "attrname", None)
    # An attribute is printed as libxml2 prints it: a blank, and its name and value.
    return f' {name}="{_quoted(str(node))}"' if name is not None else _escaped(str(node))


def _wrapped(found: Sequence[object]) -> str:
    from lxml import etree

    attributes = ""
    inside = ""
    for node in found:
        if isinstance(node, etree._Element):
            inside += "".join(f"\n  {line}" for line in _element(node).splitlines())
        elif getattr(node, "attrname", None) is not None:
            attributes += _alone(node)
        else:
            inside += _alone(node)
    if not inside:
        return f"<nodes{attributes}/>\n"
    return f"<nodes{attributes}>{inside}" + ("\n" if inside.startswith("\n") else "") + "</nodes>\n"


def _element(node: object) -> str:
    """The element as text, its lines moved left by the indent it has in the document."""
    from lxml import etree

    assert isinstance(node, etree._Element)
    text = etree.tostring(node, encoding="unicode", with_tail=False)
    lines = text.splitlines()
    indent = len(lines[-1]) - len(lines[-1].lstrip(" "))
    return "\n".join(
        line[indent:] if index and line[:indent].isspace() else line for index, line in enumerate(lines)
    )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', "&quot;")
