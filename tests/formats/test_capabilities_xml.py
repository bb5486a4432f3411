"""The two documents that tools read before they define anything."""

from __future__ import annotations

from dataclasses import replace

from lxml import etree

from virtsnap.formats.capabilities_xml import capabilities, domain_capabilities
from virtsnap.model.host import Emulator, NodeInfo

NODE = NodeInfo("x86_64", 4096, 4, 2000, 1, 1, 2, 2)
QEMU = Emulator(
    "/usr/bin/q&emu",
    (10, 0, 2),
    ("pc-i440fx-9.2", "pc-q35-10.0", "pc-i440fx-10.0", "pc-q35-2.5"),
    {"pc": "pc-i440fx-10.0", "q35": "pc-q35-10.0"},
    {"pc-q35-10.0": 4096},
    firmwares=("/usr/share/OVMF/a.fd",),
    secure=True,
    tpm_versions=("2.0",),
)


def test_capabilities() -> None:
    root = etree.fromstring(capabilities("11111111-2222-3333-4444-555555555555", NODE, QEMU))
    assert root.findtext("host/cpu/arch") == "x86_64"
    assert [cpu.get("siblings") for cpu in root.iterfind(".//cpus/cpu")] == ["0-1", "0-1", "2-3", "2-3"]
    guest = root.find("guest/arch")
    assert guest is not None
    assert guest.findtext("emulator") == "/usr/bin/q&emu"
    names = [machine.text for machine in guest.iterfind("machine")]
    assert names == ["pc-i440fx-10.0", "pc", "pc-i440fx-9.2", "pc-q35-10.0", "q35", "pc-q35-2.5"]
    assert guest.find("machine[.='q35']").attrib == {"canonical": "pc-q35-10.0", "maxCpus": "4096"}
    assert [domain.get("type") for domain in guest.iterfind("domain")] == ["qemu"]


def test_domain_capabilities() -> None:
    root = etree.fromstring(domain_capabilities(QEMU, "pc-q35-10.0", "qemu"))
    assert (root.findtext("machine"), root.findtext("domain")) == ("pc-q35-10.0", "qemu")
    assert root.find("vcpu").get("max") == "4096"
    buses = [value.text for value in root.iterfind("devices/disk/enum[@name='bus']/value")]
    assert "virtio" in buses
    assert "ide" not in buses
    assert root.findtext("os/loader/value") == "/usr/share/OVMF/a.fd"
    old = etree.fromstring(domain_capabilities(QEMU, "pc-i440fx-10.0", "qemu"))
    assert "ide" in [value.text for value in old.iterfind("devices/disk/enum[@name='bus']/value")]


def test_a_tpm_is_offered_where_there_is_one() -> None:
    tpm = etree.fromstring(domain_capabilities(QEMU, "pc-q35-10.0", "qemu")).find("devices/tpm")
    assert tpm is not None
    assert tpm.get("supported") == "yes"
    said = {enum.get("name"): [value.text for value in enum] for enum in tpm}
    assert said == {
        "model": ["tpm-tis", "tpm-crb"],
        "backendModel": ["emulator"],
        "backendVersion": ["2.0"],
    }
    without = etree.fromstring(domain_capabilities(replace(QEMU, tpm_versions=()), "pc-q35-10.0", "qemu"))
    assert without.find("devices/tpm").attrib == {"supported": "no"}
