from __future__ import annotations

import pytest

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.xpath import filtered

XML = """<domain type='qemu'>
  <name>test</name>
  <vcpu placement='static'>2</vcpu>
  <os>
    <type arch='i686'>hvm</type>
    <boot dev='hd'/>
  </os>
  <note>a &lt; b</note>
</domain>
"""


def _filtered(expression: str | None, *, wrap: bool = False) -> str:
    values: dict[str, list[str]] = {} if expression is None else {"xpath": [expression]}
    if wrap:
        values["wrap"] = []
    return filtered(XML, Args("dumpxml", values))


def test_without_an_expression_the_document_is_left_alone() -> None:
    assert _filtered(None) == _filtered(None, wrap=True) == XML


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("//name", "<name>test</name>\n"),
        ("//name/text()", "test\n"),
        ("//note/text()", "a &lt; b\n"),
        ("//vcpu/@placement", ' placement="static"\n'),
        ("//os", '<os>\n  <type arch="i686">hvm</type>\n  <boot dev="hd"/>\n</os>\n'),
        ("//name|//boot", '<name>test</name>\n<boot dev="hd"/>\n'),
        ("//nothing", ""),
    ],
)
def test_nodes_are_printed_one_by_one(expression: str, text: str) -> None:
    assert _filtered(expression) == text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("//name|//boot", '<nodes>\n  <name>test</name>\n  <boot dev="hd"/>\n</nodes>\n'),
        ("//vcpu/@placement", '<nodes placement="static"/>\n'),
        ("//vcpu/text()", "<nodes>2</nodes>\n"),
        ("//nothing", "<nodes/>\n"),
    ],
)
def test_nodes_are_wrapped(expression: str, text: str) -> None:
    assert _filtered(expression, wrap=True) == text


@pytest.mark.parametrize("expression", ["count(//name)", "string(//name)", "//name["])
def test_what_selects_no_nodes_is_refused(expression: str) -> None:
    with pytest.raises(CliError) as caught:
        _filtered(expression)
    assert caught.value.lines == (f"internal error: Incorrect xpath '{expression}'",)
