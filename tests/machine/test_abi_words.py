"""A record that replaces another must show the guest the same machine."""

from __future__ import annotations

import pytest

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.abi_words import check_words
from virtsnap.model.errors import ConfigUnsupported

XML = """<domain type='qemu'>
  <name>vm</name>
  <memory unit='KiB'>16384</memory>
  <currentMemory unit='KiB'>16384</currentMemory>
  <vcpu placement='static'>1</vcpu>
  <os><type arch='x86_64' machine='pc-i440fx-10.0'>hvm</type></os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact' check='none'><model fallback='forbid'>qemu64</model></cpu>
  <on_crash>destroy</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/i/a'/>
      <target dev='vda' bus='virtio'/>
      <serial>one</serial>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x04' function='0x0'/>
    </disk>
    <disk type='file' device='cdrom'>
      <target dev='hdc' bus='ide'/>
      <readonly/>
      <address type='drive' controller='0' bus='1' target='0' unit='0'/>
    </disk>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def compare(old: str, new: str) -> None:
    assert old in XML
    check_words(DomainDefinition.parse(XML), DomainDefinition.parse(XML.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("<name>vm<", "<name>wm<", "Target domain name 'wm' does not match source 'vm'"),
        (">1<", ">2<", "Target domain vCPU max 2 does not match source 1"),
        ("<acpi/>", "", "State of feature 'acpi' differs: source: 'on', destination: 'default'"),
        ("qemu64", "qemu32", "Target CPU model qemu32 does not match source qemu64"),
        (">one<", ">two<", "Target disk serial two does not match source one"),
        ("<readonly/>", "", "Target disk access mode does not match source"),
        ("0x04", "0x0f", "Target device PCI address 0000:00:0f.0 does not match source 0000:00:04.0"),
        ("<serial>one</serial>", "", "Target disk serial <null> does not match source one"),
        ("<memballoon model='none'/>", "", "Target domain memory balloon count 0 does not match source 1"),
    ],
)
def test_another_machine(old: str, new: str, text: str) -> None:
    with pytest.raises(ConfigUnsupported) as caught:
        compare(old, new)
    assert caught.value.detail == text


@pytest.mark.parametrize(
    ("old", "new"),
    [("/i/a", "/i/b"), ("qcow2", "raw"), ("<on_crash>destroy", "<on_crash>restart"), ("check='none'", "")],
)
def test_what_the_guest_does_not_see(old: str, new: str) -> None:
    compare(old, new)
