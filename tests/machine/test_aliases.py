from pathlib import Path

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.aliases import with_aliases

HERE = Path(__file__).parent


def golden(name: str) -> DomainDefinition:
    return DomainDefinition.parse((HERE / "golden" / f"{name}.xml").read_text())


def names(definition: DomainDefinition, path: str) -> list[str]:
    return [e.get("name", "") for e in definition.element.iterfind(f"devices/{path}/alias")]


def test_names_are_libvirts() -> None:
    live = with_aliases(golden("q35-full"))
    assert names(live, "disk") == ["virtio-disk0", "virtio-disk1", "sata0-0-0", "sata0-0-2", "scsi0-0-1"]
    assert names(live, "controller")[:4] == ["usb", "ide", "pcie.0", "pci.1"]
    assert names(live, "interface") == ["net0", "net1"]
    assert names(live, "serial") == ["serial0", "serial1"]
    assert names(live, "console") == ["serial0"]
    assert names(live, "watchdog") == ["watchdog0", "watchdog1"]
    assert names(live, "memballoon") == ["balloon0"]


def test_wide_scsi_and_other_boards() -> None:
    assert names(with_aliases(golden("q35-virtio-scsi")), "disk")[0] == "scsi0-0-0-0"
    assert "ide" in names(with_aliases(golden("pc-ide")), "controller")
    assert "sata0" in names(with_aliases(golden("pc-sata")), "controller")


def test_aliases_stand_before_addresses_and_go_in_the_inactive_form() -> None:
    completed = golden("q35-full")
    live = with_aliases(completed)
    for alias in live.element.iterfind("devices/*/alias"):
        following = alias.getnext()
        assert following is None or following.tag == "address"
    assert live.to_inactive_xml() == completed.to_xml()


def test_the_users_alias_stays() -> None:
    root = golden("q35-full").tree()
    disk = root.find("devices/disk")
    assert disk is not None
    disk.append(disk.makeelement("alias", {"name": "ua-mine"}))
    assert names(with_aliases(DomainDefinition(root)), "disk")[0] == "ua-mine"
