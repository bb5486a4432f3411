import pytest

from virtsnap.formats import xml_text
from virtsnap.model.errors import XmlDetail, XmlError


def test_layout_is_libvirts() -> None:
    root = xml_text.parse('<a x="1"><b/><c> t </c><d><e y="\'&quot;&lt;"/></d><!-- gone --></a>', "a")
    assert xml_text.render(root) == (
        "<a x='1'>\n  <b/>\n  <c> t </c>\n  <d>\n    <e y='&apos;&quot;&lt;'/>\n  </d>\n</a>\n"
    )


def test_text_is_escaped_and_controls_are_dropped() -> None:
    assert (
        xml_text.escape("<a> & 'b' \"c\"\n\t\r\x01é") == "&lt;a&gt; &amp; &apos;b&apos; &quot;c&quot;\n\t\ré"
    )


def test_metadata_is_written_as_libxml2_writes_it() -> None:
    text = """<domain xmlns:q='urn:q' xmlns:unused='urn:u'><name>m</name><metadata>
      <f:bar xmlns:f="urn:f" a='1"2' b="x'y">  text <f:i/> more <!-- c --> </f:bar>
      <q:s><a xmlns="urn:d"><b/><c><![CDATA[<x>]]></c></a></q:s></metadata><q:commandline/></domain>"""
    assert (
        xml_text.render(xml_text.parse(text, "domain"))
        == """<domain xmlns:q='urn:q'>
  <name>m</name>
  <metadata xmlns:q="urn:q">
    <f:bar xmlns:f="urn:f" a="1&quot;2" b="x'y">  text <f:i/> more <!-- c --> </f:bar>
    <q:s>
      <a xmlns="urn:d">
        <b/>
        <c><![CDATA[<x>]]></c>
      </a>
    </q:s>
  </metadata>
  <q:commandline/>
</domain>
"""
    )


def test_rendering_again_changes_nothing() -> None:
    text = "<domain><metadata><a:b xmlns:a='urn:a'> x <c/></a:b></metadata><x>1<y/>2</x></domain>"
    once = xml_text.render(xml_text.parse(text, "domain"))
    assert xml_text.render(xml_text.parse(once, "domain")) == once


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at line 1: Document is empty\n(null)\n^"),
        ("hello", "at line 1: Start tag expected, '<' not found\nhello\n^"),
        ("   ", "at line 1: Start tag expected, '<' not found\n   \n---^"),
        ("<a", "at line 1: Couldn't find end of Start Tag a line 1\n<a\n--^"),
        (
            "<a>\n<b></a>",
            "at line 2: Opening and ending tag mismatch: b line 2 and a\n<b></a>\n-------^",
        ),
    ],
)
def test_malformed_text_is_refused_in_libvirts_words(text: str, message: str) -> None:
    with pytest.raises(XmlDetail) as caught:
        xml_text.parse(text, "a")
    assert str(caught.value) == message


def test_another_root_is_refused() -> None:
    with pytest.raises(XmlError, match="expecting root element of 'domain', not 'network'"):
        xml_text.parse("<network/>", "domain")


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>",
        "<?xml version='1.0'?>\n<!-- c --><!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
    ],
)
def test_document_types_are_refused(text: str) -> None:
    with pytest.raises(XmlDetail, match="document type"):
        xml_text.parse(text, "a")


def test_a_document_that_is_too_long_is_refused() -> None:
    with pytest.raises(XmlDetail, match="longer than"):
        xml_text.parse("<a>" + "x" * xml_text.MAX_BYTES + "</a>", "a")


def test_a_declared_encoding_does_not_matter_for_text() -> None:
    root = xml_text.parse("<?xml version='1.0' encoding='ISO-8859-1'?><a>é</a>", "a")
    assert root.text == "é"


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(XmlDetail, match="not valid Unicode"):
        xml_text.parse("<a>\ud800</a>", "a")
