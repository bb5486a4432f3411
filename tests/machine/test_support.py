"""What cannot be run is refused by name; nothing unknown slips through."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.complete import complete
from virtsnap.machine.host import Host
from virtsnap.machine.support import check_supported
from virtsnap.model.errors import ConfigUnsupported

HERE = Path(__file__).parent


def domain(devices: str = "", top: str = "", *, type: str = "qemu", os: str = "") -> DomainDefinition:
    return DomainDefinition.parse(
        f"<domain type='{type}'><name>x</name><uuid>{'1' * 32}</uuid><memory>262144</memory>"
        f"<os><type machine='q35'>hvm</type>{os}</os>{top}<devices>{devices}</devices></domain>"
    )


def refusal(definition: DomainDefinition) -> str:
    with pytest.raises(ConfigUnsupported) as caught:
        check_supported(complete(definition, Host()))
    return str(caught.value)


DISK = "<disk><source file='/a'/><target dev='vda'/>{}</disk>"


@pytest.mark.parametrize(
    ("definition", "named"),
    [
        (domain("<tpm><backend type='passthrough'/></tpm>"), "type='passthrough' of <devices/tpm/backend>"),
        (domain("<filesystem type='mount'><source dir='/'/></filesystem>"), "element <devices/filesystem>"),
        (domain("<hostdev mode='subsystem' type='usb'/>"), "element <devices/hostdev>"),
        (domain("<vsock model='virtio'><cid auto='yes'/></vsock>"), "element <devices/vsock>"),
        (domain("<interface type='network'><source network='d'/></interface>"), "type='network'"),
        (domain("<interface type='user'><mtu size='9000'/></interface>"), "element <devices/interface/mtu>"),
        (domain("<graphics type='spice'/>"), "type='spice' of <devices/graphics>"),
        (domain("<graphics type='vnc' connected='keep'/>"), "'connected' of <devices/graphics>"),
        (domain(DISK.format("<iotune><total_bytes_sec>1</total_bytes_sec></iotune>")), "devices/disk/iotune"),
        (domain(DISK.format("<transient/>")), "element <devices/disk/transient>"),
        (domain(DISK.replace("<disk>", "<disk rawio='yes'>").format("")), "attribute 'rawio'"),
        (domain(DISK.replace("<source", "<driver copy_on_read='on'/><source").format("")), "'copy_on_read'"),
        (
            domain("<disk type='network'><source protocol='nbd'/><target dev='vda'/></disk>"),
            "type='network' of <devices/disk>",
        ),
        (domain(top="<cpu mode='host-model'/>"), "mode='host-model' of <cpu>"),
        (domain(top="<cpu><numa><cell cpus='0' memory='262144'/></numa></cpu>"), "element <cpu/numa>"),
        (domain(top="<cpu mode='host-passthrough'/>"), "CPU mode 'host-passthrough'"),
        (domain(top="<maxMemory slots='2'>2097152</maxMemory>"), "element <maxMemory>"),
        (domain(top="<memoryBacking><hugepages/></memoryBacking>"), "element <memoryBacking/hugepages>"),
        (domain(top="<vcpu cpuset='1'>1</vcpu>"), "attribute 'cpuset' of <vcpu>"),
        (domain(top="<cputune><shares>1</shares></cputune>"), "element <cputune>"),
        (domain(top="<features><msrs unknown='ignore'/></features>"), "element <features/msrs>"),
        (domain(top="<launchSecurity type='sev'/>"), "element <launchSecurity>"),
        (domain(top="<on_poweroff>restart</on_poweroff>"), "on_poweroff 'restart'"),
        (domain("<panic/>", "<on_crash>restart</on_crash>"), "on_crash 'restart'"),
        (domain(top="<clock><timer name='pit' tickpolicy='discard'/></clock>"), "tickpolicy='discard'"),
        (domain(top="<vcpu>2</vcpu><cpu><topology sockets='1' cores='1' threads='1'/></cpu>"), "topology"),
        (domain(top="<future/>"), "element <future>"),
        (domain(os="<acpi><table type='slic'>/t</table></acpi>"), "element <os/acpi>"),
        (domain("<graphics type='vnc'/><graphics type='vnc'/>"), "more than one <graphics>"),
        (
            domain("<video><model type='vga'/></video><video><model type='vga'/></video>"),
            "video type 'vga' is only valid as primary video device",
        ),
    ],
)
def test_refused_by_name(definition: DomainDefinition, named: str) -> None:
    message = refusal(definition)
    assert message.startswith("unsupported configuration: ")
    assert named in message


def test_on_crash_restart_is_harmless_without_a_way_to_tell_a_crash() -> None:
    check_supported(complete(domain(top="<on_crash>restart</on_crash>"), Host()))


FULL = (HERE / "golden" / "q35-full.xml").read_text()
ELEMENTS = sum(
    1
    for element in DomainDefinition.parse(FULL).element.iter("*")
    if element.tag not in ("metadata", "firmware")
)


@given(st.integers(0, ELEMENTS - 1), st.booleans())
def test_an_unknown_word_anywhere_is_seen(position: int, attribute: bool) -> None:
    root = DomainDefinition.parse(FULL).tree()
    element = list(root.iter("*"))[position]
    if attribute:
        element.set("zzz", "1")
    else:
        element.append(element.makeelement("zzz"))
    with pytest.raises(ConfigUnsupported, match="zzz"):
        check_supported(DomainDefinition(root))
