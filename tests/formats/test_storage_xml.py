"""<volume>: what is asked for is understood or refused by name."""

from __future__ import annotations

import pytest

from virtsnap.formats.storage_xml import format_volume, parse_pool, parse_volume
from virtsnap.model.errors import ConfigUnsupported, InvalidArg, OperationInvalid, VirtsnapError, XmlError
from virtsnap.model.storage import Volume


def volume(rest: str, target: str = "<format type='qcow2'/>", name: str = "v") -> str:
    return f"<volume><name>{name}</name>{rest}<target>{target}</target></volume>"


def test_all_of_a_volume_is_read() -> None:
    wish = parse_volume(
        volume(
            "<capacity unit='MiB'>2</capacity><allocation>512</allocation>"
            "<backingStore><path>/b</path><format type='raw'/></backingStore>",
            "<format type='qcow2'/>"
            "<permissions><mode>0640</mode><owner>7</owner><group>-1</group></permissions>"
            "<compat>1.1</compat><clusterSize unit='KiB'>4</clusterSize>"
            "<features><lazy_refcounts/></features>",
        )
    )
    assert (wish.capacity, wish.allocation, wish.backing, wish.backing_format) == (2 << 20, 512, "/b", "raw")
    assert (wish.mode, wish.owner, wish.group) == (0o640, 7, None)
    assert (wish.compat, wish.cluster_size, wish.lazy_refcounts, wish.extended_l2) == (
        "1.1",
        4096,
        True,
        False,
    )


@pytest.mark.parametrize(
    ("xml", "error", "words"),
    [
        (volume(""), XmlError, "missing capacity element"),
        (volume("<capacity>5x</capacity>"), XmlError, "malformed capacity element"),
        (volume("<capacity unit='bogus'>5</capacity>"), InvalidArg, "unknown suffix 'bogus'"),
        (volume("<capacity unit='EiB'>9</capacity>"), InvalidArg, "too large"),
        (volume("<capacity>5</capacity>", name="../v"), OperationInvalid, "cannot contain '/'"),
        (volume("<capacity>5</capacity>", name=".."), OperationInvalid, "'..'"),
        (
            volume("<capacity>5</capacity>", "<format type='zork'/>"),
            ConfigUnsupported,
            "unknown volume format",
        ),
        (volume("<capacity>5</capacity>", "<format type='vmdk'/>"), ConfigUnsupported, "'vmdk' are not"),
        (volume("<capacity>5</capacity>", "<encryption/>"), ConfigUnsupported, "'encryption' of 'target'"),
        (volume("<capacity>5</capacity>", "<compat>1.1</compat>"), ConfigUnsupported, "not of raw ones"),
        (volume("<zork/><capacity>5</capacity>"), ConfigUnsupported, "'zork' of 'volume'"),
        (volume("<backingStore><path>b</path></backingStore>"), XmlError, "not an absolute path"),
    ],
)
def test_what_is_not_made_is_refused(xml: str, error: type[VirtsnapError], words: str) -> None:
    with pytest.raises(error) as refused:
        parse_volume(xml)
    assert words in str(refused.value)


def test_a_volume_is_shown_as_libvirt_shows_it() -> None:
    shown = format_volume(
        Volume("b.img", "/p/b.img", "raw", 1048576, 4096, 1048576, 0o600, 7, 8, times=(5 * 10**9 + 1, 0, 25))
    )
    assert (
        shown
        == """<volume type='file'>
  <name>b.img</name>
  <key>/p/b.img</key>
  <capacity unit='bytes'>1048576</capacity>
  <allocation unit='bytes'>4096</allocation>
  <physical unit='bytes'>1048576</physical>
  <target>
    <path>/p/b.img</path>
    <format type='raw'/>
    <permissions>
      <mode>0600</mode>
      <owner>7</owner>
      <group>8</group>
    </permissions>
    <timestamps>
      <atime>5.000000001</atime>
      <mtime>0.000000000</mtime>
      <ctime>0.000000025</ctime>
      <btime>0</btime>
    </timestamps>
  </target>
</volume>
"""
    )
    assert parse_volume(shown).capacity == 1048576


def test_a_pool_has_nothing_that_is_ignored() -> None:
    pool = "<pool type='dir'><name>p</name>{}<target><path>/p/</path>{}</target></pool>"
    wish = parse_pool(pool.format("<source/>", "<permissions><mode>0750</mode></permissions>"))
    assert (wish.path, wish.mode, wish.owner) == ("/p", 0o750, None)
    for more, target in (
        ("<zork/>", ""),
        ("<source><device path='/d'/></source>", ""),
        ("", "<encryption/>"),
    ):
        with pytest.raises(ConfigUnsupported):
            parse_pool(pool.format(more, target))
