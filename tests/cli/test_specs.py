from __future__ import annotations

import pytest

from virtsnap.cli.errors import CliError
from virtsnap.cli.specs import snapshot_xml, split_commas


def test_doubled_commas_are_commas() -> None:
    assert split_commas("a,,b,c") == ["a,b", "c"]
    assert split_commas("a,,,b") == ["a,", "b"]
    assert split_commas(",") == ["", ""]
    assert split_commas("") == [""]


def test_the_whole_document() -> None:
    disks = [
        "vda,file=/a,,b,driver=qcow2,snapshot=external,stype=file",
        "vdb,stype=block,file=/dev/x",
        "vdc,snapshot=no",
    ]
    assert snapshot_xml("s1", "desc", "file=/x,snapshot=external", disks) == (
        "<domainsnapshot>\n"
        "  <name>s1</name>\n"
        "  <description>desc</description>\n"
        "  <memory snapshot='external' file='/x'/>\n"
        "  <disks>\n"
        "    <disk name='vda' snapshot='external' type='file'>\n"
        "      <driver type='qcow2'/>\n"
        "      <source file='/a,b'/>\n"
        "    </disk>\n"
        "    <disk name='vdb' type='block'>\n"
        "      <source dev='/dev/x'/>\n"
        "    </disk>\n"
        "    <disk name='vdc' snapshot='no'/>\n"
        "  </disks>\n"
        "</domainsnapshot>\n"
    )


def test_text_is_escaped() -> None:
    assert "<name>a&lt;&amp;&gt;&quot;&apos;</name>" in snapshot_xml("a<&>\"'", None, None, [])


def test_nothing_given_is_an_empty_document() -> None:
    assert snapshot_xml(None, None, None, []) == "<domainsnapshot>\n</domainsnapshot>\n"


@pytest.mark.parametrize("spec", ["foo", ",", "/x,/y", "file=a,file=b", "/x,snapshot=a,snapshot=b"])
def test_a_wrong_memspec_is_refused(spec: str) -> None:
    with pytest.raises(CliError) as caught:
        snapshot_xml("n", None, spec, [])
    assert caught.value.lines == (f"unable to parse memspec: {spec}",)


@pytest.mark.parametrize("spec", [",", "", "vda,foo=bar", "vda,file", "vda,file=/a,file=/b"])
def test_a_wrong_diskspec_is_refused(spec: str) -> None:
    with pytest.raises(CliError) as caught:
        snapshot_xml("n", None, None, [spec])
    assert caught.value.lines == (f"unable to parse diskspec: {spec}",)


def test_an_unknown_storage_type_is_named() -> None:
    with pytest.raises(CliError) as caught:
        snapshot_xml("n", None, None, ["vda,stype=xx"])
    assert caught.value.lines == ("Unknown storage type: 'xx'", "unable to parse diskspec: vda,stype=xx")
