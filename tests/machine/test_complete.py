"""`complete` against what real libvirt answered for the same definitions (tests/machine/golden)."""

from pathlib import Path

import pytest

from tests.machine.debian import HOST
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.complete import complete
from virtsnap.machine.host import Host
from virtsnap.model.errors import ConfigUnsupported, InvalidArg, VirtsnapError

HERE = Path(__file__).parent
CORPUS = sorted(path.stem for path in (HERE / "corpus").glob("*.xml"))


def corpus(name: str) -> DomainDefinition:
    return DomainDefinition.parse((HERE / "corpus" / f"{name}.xml").read_text())


def golden(name: str) -> str:
    return (HERE / "golden" / f"{name}.xml").read_text()


def test_the_corpus_is_there() -> None:
    assert len(CORPUS) >= 40


@pytest.mark.parametrize("name", CORPUS)
def test_same_text_as_libvirt(name: str) -> None:
    assert complete(corpus(name), HOST).to_xml() == golden(name)


@pytest.mark.parametrize("name", CORPUS)
def test_completing_again_changes_nothing(name: str) -> None:
    once = DomainDefinition.parse(golden(name))
    assert complete(once, HOST).to_xml() == golden(name)


def test_addresses_stay_when_a_device_is_added() -> None:
    done = complete(corpus("q35-full"), Host())
    more = done.tree()
    devices = more.find("devices")
    assert devices is not None
    devices.insert(
        0,
        DomainDefinition.parse(
            "<domain type='qemu'><name>x</name><memory>1</memory><os><type>hvm</type></os><devices>"
            "<disk><source file='/n'/><target dev='vdz' bus='virtio'/></disk></devices></domain>"
        ).element.find("devices/disk"),
    )
    again = complete(DomainDefinition(more), Host())
    before = {addr for addr in done.to_xml().splitlines() if "<address" in addr}
    after = {addr for addr in again.to_xml().splitlines() if "<address" in addr}
    assert before <= after
    assert again.disk("vdz") is not None


def test_a_uuid_is_needed() -> None:
    root = corpus("q35-bare").tree()
    uuid = root.find("uuid")
    assert uuid is not None
    root.remove(uuid)
    with pytest.raises(InvalidArg, match="uuid"):
        complete(DomainDefinition(root), Host())


def test_a_missing_mac_address_follows_from_the_uuid() -> None:
    head = "<domain type='qemu'><name>x</name><memory>1</memory><os><type>hvm</type></os>"
    two = head + "<devices><interface type='user'/><interface type='user'/></devices></domain>"
    first = complete(DomainDefinition.parse(two).with_uuid("1" * 32), Host()).to_xml()
    second = complete(DomainDefinition.parse(two).with_uuid("1" * 32), Host()).to_xml()
    macs = [line for line in first.splitlines() if "<mac" in line]
    assert first == second
    assert len(set(macs)) == 2
    assert all("52:54:00:" in mac for mac in macs)


def test_machine_aliases_come_from_the_host() -> None:
    host = Host(machine_aliases={"q35": "pc-q35-7.2"}, emulator="/opt/qemu")
    done = complete(corpus("q35-bare"), host)
    assert done.machine == "pc-q35-7.2"
    assert "<emulator>/opt/qemu</emulator>" in done.to_xml()


def devices(text: str, machine: str = "q35") -> DomainDefinition:
    return DomainDefinition.parse(
        f"<domain type='qemu'><name>x</name><uuid>{'1' * 32}</uuid><memory>1</memory>"
        f"<os><type machine='{machine}'>hvm</type></os><devices>{text}</devices></domain>"
    )


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (devices("", "microvm"), "machine type 'microvm' is not supported"),
        (
            devices(
                "<memballoon model='virtio'><address type='pci' bus='0' slot='31' function='0'/></memballoon>"
            ),
            "Attempted double use of PCI Address 0000:00:1f.0",
        ),
        (
            devices("<controller type='usb' model='none'/><input type='tablet' bus='usb'/>"),
            "No USB buses available",
        ),
        (
            devices("<serial type='pty'/>" * 5),
            "ISA serial ports",
        ),
        (
            devices(
                "<disk><source file='/a'/><target dev='sda' bus='sata'/>"
                "<address type='drive' controller='0' bus='0' target='0' unit='1'/></disk>"
                "<disk><source file='/b'/><target dev='sdb' bus='sata'/></disk>"
            ),
            "duplicate drive address",
        ),
    ],
)
def test_refusals(definition: DomainDefinition, message: str) -> None:
    with pytest.raises(VirtsnapError, match=message):
        complete(definition, Host())


def test_what_libvirt_refuses_of_lifecycle_actions() -> None:
    root = corpus("q35-bare").tree()
    root.append(DomainDefinition.parse(golden("q35-bare")).tree().find("on_reboot"))  # type: ignore[arg-type]
    action = root.find("on_reboot")
    assert action is not None
    action.text = "preserve"
    with pytest.raises(ConfigUnsupported, match="preserve"):
        complete(DomainDefinition(root), Host())
