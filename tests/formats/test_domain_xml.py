from dataclasses import dataclass

import pytest

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.errors import InvalidArg, VirtsnapError

MINIMAL = "<domain type='qemu'><name>b</name><memory>262144</memory><os><type>hvm</type></os>{}</domain>"


def devices(text: str) -> str:
    return MINIMAL.format(f"<devices>{text}</devices>")


@dataclass(frozen=True)
class Layer:
    path: str
    format: str = "qcow2"
    type: str = "file"


FULL = """<domain type='kvm' id='7'>
  <name>full</name>
  <uuid>05B359275e0c4f91b1844880e06e7b36</uuid>
  <memory unit='GiB'>1</memory>
  <currentMemory unit='MB'>512</currentMemory>
  <vcpu current='2'>4</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <nvram template='/t'>/n.fd</nvram>
  </os>
  <on_reboot>destroy</on_reboot>
  <devices>
    <disk type='file' device='disk' snapshot='external'>
      <driver name='qemu' type='qcow2' cache='none' discard='unmap'/>
      <source file='/v.qcow2' index='2'/>
      <backingStore type='file' index='3'>
        <format type='raw'/>
        <source file='/base'/>
        <backingStore/>
      </backingStore>
      <target dev='vda' bus='virtio'/>
      <alias name='virtio-disk0'/>
    </disk>
    <disk type='block' device='cdrom'>
      <target dev='sda'/>
      <alias name='ua-mine'/>
    </disk>
    <serial type='pty'>
      <source path='/dev/pts/3'/>
      <alias name='serial0'/>
    </serial>
    <console type='pty' tty='/dev/pts/3'>
      <source path='/dev/pts/3'/>
      <alias name='serial0'/>
    </console>
  </devices>
</domain>
"""


def test_typed_view() -> None:
    domain = DomainDefinition.parse(FULL)
    assert (domain.name, domain.id, domain.type, domain.os_type, domain.arch, domain.machine) == (
        "full",
        7,
        "kvm",
        "hvm",
        "x86_64",
        "q35",
    )
    assert domain.uuid == "05b35927-5e0c-4f91-b184-4880e06e7b36"
    assert (domain.vcpus, domain.max_vcpus) == (2, 4)
    assert (domain.memory_kib, domain.current_memory_kib) == (1048576, 500000)
    assert (domain.on_poweroff, domain.on_reboot, domain.on_crash) == ("destroy", "destroy", "destroy")
    assert domain.nvram_path == "/n.fd"
    disk, drive = domain.disks
    assert (disk.target, disk.bus, disk.source, disk.format, disk.snapshot, disk.alias) == (
        "vda",
        "virtio",
        "/v.qcow2",
        "qcow2",
        "external",
        "virtio-disk0",
    )
    assert (disk.cache, disk.discard, disk.readonly) == ("none", "unmap", False)
    assert (drive.bus, drive.empty, drive.readonly, drive.snapshot, drive.format) == (
        "scsi",
        True,
        True,
        "no",
        "raw",
    )
    assert domain.disk("sda") == drive
    assert domain.disk("nope") is None


def test_what_it_does_not_know_stays() -> None:
    assert DomainDefinition.parse(FULL).to_xml() == FULL


def test_inactive_form_drops_what_a_running_domain_adds() -> None:
    text = DomainDefinition.parse(FULL).to_inactive_xml()
    for gone in (" id='7'", "index=", "backingStore", "virtio-disk0", "serial0", "/dev/pts", "tty="):
        assert gone not in text
    assert "<alias name='ua-mine'/>" in text


def test_a_backing_chain_of_the_users_own_stays_in_the_inactive_form() -> None:
    text = devices(
        "<disk><source file='/a'/><backingStore type='file'><format type='raw'/><source file='/b'/>"
        "</backingStore><target dev='vda'/></disk>"
    )
    assert "<source file='/b'/>" in DomainDefinition.parse(text).to_inactive_xml()


def test_changed_copies_leave_the_original_alone() -> None:
    domain = DomainDefinition.parse(FULL)
    other = domain.with_name("x").with_uuid("1" * 32).with_id(None).with_memory(1000)
    assert (other.name, other.id, other.memory_kib) == ("x", None, 1000)
    assert other.uuid == "11111111-1111-1111-1111-111111111111"
    assert domain.to_xml() == FULL
    assert domain.with_id(9).id == 9
    assert domain != other
    assert domain == DomainDefinition.parse(FULL)


def test_uuid_goes_behind_the_name() -> None:
    domain = DomainDefinition.parse(MINIMAL.format(""))
    assert domain.uuid is None
    assert "<name>b</name>\n  <uuid>u</uuid>\n" in domain.with_uuid("u").to_xml()


def test_disk_source_is_replaced_and_its_chain_forgotten() -> None:
    domain = DomainDefinition.parse(FULL).with_disk_source("vda", "/new", "raw", "block")
    assert domain.disks[0].source == "/new"
    assert (domain.disks[0].type, domain.disks[0].format, domain.disks[0].cache) == ("block", "raw", "none")
    assert "<source dev='/new'/>\n      <target" in domain.to_xml()
    filled = domain.with_disk_source("sda", "/cd.iso", "raw")
    assert filled.disks[1].source == "/cd.iso"
    assert filled.with_disk_source("sda", None, "raw").disks[1].empty
    with pytest.raises(InvalidArg, match="vdx"):
        domain.with_disk_source("vdx", "/new", "raw")


def test_backing_chain_is_shown_as_libvirt_shows_it() -> None:
    domain = DomainDefinition.parse(devices("<disk><source file='/a'/><target dev='vda'/></disk>"))
    shown = domain.with_backing_chain("vda", [Layer("/a"), Layer("/b"), Layer("/dev/c", "raw", "block")], 4)
    assert """      <source file='/a' index='4'/>
      <backingStore type='file' index='5'>
        <format type='qcow2'/>
        <source file='/b'/>
        <backingStore type='block' index='6'>
          <format type='raw'/>
          <source dev='/dev/c'/>
          <backingStore/>
        </backingStore>
      </backingStore>
""" in shown.to_xml()
    assert shown.with_backing_chain("vda", [Layer("/a")]).to_xml().count("backingStore") == 1
    assert shown.to_inactive_xml() == domain.to_xml()


def test_a_layer_goes_on_top_of_the_live_chain_and_out_of_it_again() -> None:
    disk = "<disk type='file'><driver name='qemu' type='raw'/><source file='/a'/><target dev='vda'/></disk>"
    domain = DomainDefinition.parse(devices(disk)).with_backing_chain("vda", [Layer("/a", "raw")])
    two = domain.with_layer("vda", "/b", "qcow2", "file", 5).with_layer("vda", "/dev/c", "qcow2", "block", 9)
    assert """      <driver name='qemu' type='qcow2'/>
      <source dev='/dev/c' index='9'/>
      <backingStore type='file' index='5'>
        <format type='qcow2'/>
        <source file='/b'/>
        <backingStore type='file' index='1'>
          <format type='raw'/>
          <source file='/a'/>
          <backingStore/>
        </backingStore>
      </backingStore>
""" in two.to_xml()
    middle = two.without_layer("vda", "/b").to_xml()
    assert "'/b'" not in middle
    assert middle.count("<backingStore type='file' index='1'>") == 1
    assert two.without_layer("vda", "/dev/c") == domain.with_layer("vda", "/b", "qcow2", "file", 5)
    assert two.without_layer("vda", "/dev/c").without_layer("vda", "/b") == domain
    assert domain.without_layer("vda", "/a") == domain
    assert two.without_layer("vda", "/nowhere") == two
    assert "backingStore" not in two.to_inactive_xml()


def test_what_only_live_children_filled_is_empty_again() -> None:
    text = devices("<input type='mouse' bus='ps2'>\n  <alias name='input0'/>\n</input>")
    assert "<input type='mouse' bus='ps2'/>\n" in DomainDefinition.parse(text).to_inactive_xml()


def test_console_paths() -> None:
    domain = DomainDefinition.parse(
        devices(
            "<serial type='pty'><alias name='serial0'/></serial>"
            "<console type='pty'><alias name='serial0'/></console>"
            "<channel type='unix'><target type='virtio' name='x'/><alias name='channel0'/></channel>"
        )
    )
    text = domain.with_console_paths({"serial0": "/dev/pts/9", "channel0": "/run/x"}).to_xml()
    assert text.count("<source path='/dev/pts/9'/>") == 2
    assert "<console type='pty' tty='/dev/pts/9'>" in text
    assert "<source mode='bind' path='/run/x'/>" in text


def test_the_display_shows_where_it_listens_only_while_it_runs() -> None:
    text = devices("<graphics type='vnc' port='-1' autoport='yes'><listen type='address'/></graphics>")
    domain = DomainDefinition.parse(text)
    live = domain.with_vnc(5903)
    assert "<graphics type='vnc' port='5903' autoport='yes' listen='127.0.0.1'>" in live.to_xml()
    assert "<listen type='address' address='127.0.0.1'/>" in live.to_xml()
    assert live.with_id(3).to_inactive_xml() == domain.to_inactive_xml()


DISK = "<disk type='file'><source file='/x'/><target dev='vda'/></disk>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<domain/>", "missing name information"),
        ("<domain type='qemu'><name></name></domain>", "missing name information"),
        ("<domain><name>b</name></domain>", "internal error: missing domain type attribute"),
        ("<domain type='x'><name>b</name></domain>", "unsupported configuration: invalid domain type x"),
        (
            "<domain type='qemu'><name>b</name><uuid>zz</uuid></domain>",
            "internal error: malformed uuid element",
        ),
        (
            "<domain type='qemu'><name>a/b</name></domain>",
            "XML error: name a/b cannot contain '/'",
        ),
        (
            "<domain type='qemu'><name>b</name><memory>1</memory><os/></domain>",
            "XML error: an os <type> must be specified",
        ),
        (
            "<domain type='qemu'><name>b</name><os><type>hvm</type></os></domain>",
            "XML error: Memory size must be specified via <memory> or in the <numa> configuration",
        ),
        (
            MINIMAL.replace("262144", "abc").format(""),
            "XML error: Invalid value 'abc' for element or attribute './memory[1]'",
        ),
        (
            MINIMAL.replace("<memory>", "<memory unit='foo'>").format(""),
            "invalid argument: unknown suffix 'foo'",
        ),
        (
            MINIMAL.format("<on_poweroff>foo</on_poweroff>"),
            "unsupported configuration: unknown on_poweroff action: foo",
        ),
        (
            MINIMAL.format("<on_reboot>coredump-destroy</on_reboot>"),
            "unsupported configuration: Lifecycle event 'reboot' doesn't support 'coredump-destroy' action",
        ),
        (
            devices("<disk type='file'><source file='/x'/></disk>"),
            "missing target information for device /x",
        ),
        (
            devices(DISK.replace("'file'", "'foo'", 1)),
            "XML error: Invalid value for attribute 'type' in element 'disk': 'foo'.",
        ),
        (
            devices("<disk><source file='/x'/><target dev='vda' bus='foo'/></disk>"),
            "XML error: Invalid value for attribute 'bus' in element 'target': 'foo'.",
        ),
        (
            devices("<disk device='foo'><source file='/x'/><target dev='vda'/></disk>"),
            "XML error: Invalid value for attribute 'device' in element 'disk': 'foo'.",
        ),
        (
            devices("<disk><source file='/x'/><target dev='xyz'/></disk>"),
            "XML error: Unknown disk name 'xyz' and no address specified",
        ),
        (
            devices(DISK * 2),
            "XML error: target 'vda' duplicated for disk sources '/x' and '/x'",
        ),
        (devices("<disk><target dev='vda'/></disk>"), "missing source information for device vda"),
        (
            devices("<disk><driver type='foo'/><source file='/x'/><target dev='vda'/></disk>"),
            "unsupported configuration: unknown driver format value 'foo'",
        ),
    ],
)
def test_refusals_in_libvirts_words(text: str, message: str) -> None:
    with pytest.raises(VirtsnapError) as caught:
        DomainDefinition.parse(text)
    assert str(caught.value) == message
