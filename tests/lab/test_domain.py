"""The XML that the lab writes is well formed and means what was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from lab.domain import disk_targets, domain_xml
from lab.guest import GuestImage

GUEST = GuestImage(Path("/k & k"), Path("/i"), "6.1", cmdline="console=ttyS0")


def test_disks_have_format_and_target() -> None:
    tree = etree.fromstring(domain_xml("d", GUEST, [Path("/a.qcow2"), Path("/b.raw")]))
    assert tree.xpath("//disk/driver/@type") == ["qcow2", "raw"]
    assert tree.xpath("//disk/source/@file") == ["/a.qcow2", "/b.raw"]
    assert tree.xpath("//disk/target/@dev") == ["vda", "vdb"] == disk_targets(2)
    assert tree.findtext("os/kernel") == "/k & k"
    assert tree.xpath("//serial/@type") == ["pty"]


def test_serial_on_a_socket_and_ticks_in_a_file() -> None:
    tree = etree.fromstring(domain_xml("d", GUEST, serial=Path("/s"), tick=Path("/t"), cmdline="more"))
    assert tree.xpath("//serial/@type") == ["unix", "file"]
    assert tree.xpath("//serial/source/@path") == ["/s", "/t"]
    assert tree.findtext("os/cmdline") == "console=ttyS0 virtsnap.tick=ttyS1 more"


@pytest.mark.parametrize(
    ("bus", "first"), [("virtio", "vda"), ("scsi", "sda"), ("sata", "sda"), ("ide", "hda")]
)
def test_other_buses(bus: str, first: str) -> None:
    tree = etree.fromstring(
        domain_xml("d", GUEST, [Path("/a")], bus=bus, machine="pc", uuid="u", devices="<x/>")
    )
    assert tree.xpath("//target/@dev") == [first]
    assert bool(tree.xpath("//controller[@type='scsi']")) == (bus == "scsi")
    assert tree.findtext("uuid") == "u"
    assert tree.find("devices/x") is not None
