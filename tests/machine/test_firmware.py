"""Choosing a firmware; what libvirt makes of each kind of definition is in the corpus (uefi)."""

from __future__ import annotations

import json

import pytest

from tests.machine.debian import HOST
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.complete import complete
from virtsnap.machine.firmware import from_json
from virtsnap.machine.host import Host
from virtsnap.model.errors import VirtsnapError

DESCRIPTOR = {
    "description": "UEFI",
    "interface-types": ["uefi"],
    "mapping": {
        "device": "flash",
        "executable": {"filename": "/code.fd", "format": "raw"},
        "nvram-template": {"filename": "/vars.fd", "format": "raw"},
    },
    "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
    "features": ["secure-boot", "requires-smm"],
    "tags": [],
}


def domain(os: str, features: str = "<acpi/>") -> DomainDefinition:
    return DomainDefinition.parse(
        f"<domain type='qemu'><name>x</name><uuid>{'1' * 32}</uuid><memory>262144</memory>"
        f"{os}<features>{features}</features></domain>"
    )


EFI = "<os firmware='efi'><type machine='q35'>hvm</type>{}</os>"


def test_a_descriptor_is_read() -> None:
    found = from_json(json.dumps(DESCRIPTOR))
    assert found is not None
    assert (found.executable, found.template, found.machines) == ("/code.fd", "/vars.fd", ("pc-q35-*",))
    assert found.needs_smm


@pytest.mark.parametrize(
    "change",
    [
        {"interface-types": ["bios"]},
        {"mapping": {"device": "memory", "filename": "/f"}},
        {"mapping": {**DESCRIPTOR["mapping"], "mode": "stateless"}},  # type: ignore[dict-item]
    ],
)
def test_what_is_no_uefi_in_flash_is_passed_over(change: dict[str, object]) -> None:
    assert from_json(json.dumps({**DESCRIPTOR, **change})) is None


def test_a_descriptor_for_another_architecture_fits_no_machine() -> None:
    found = from_json(json.dumps(DESCRIPTOR), "aarch64")
    assert found is not None
    assert found.machines == ()


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"interface-types": ["uefi"], "mapping": 3, "targets": []}', "x"]
)
def test_what_is_no_descriptor_is_said_so(text: str) -> None:
    with pytest.raises(ValueError, match=r"descriptor|Expecting"):
        from_json(text)


@pytest.mark.parametrize(
    ("definition", "host", "message"),
    [
        (domain(EFI.format("")), Host(), "Unable to find 'efi' firmware"),
        (domain(EFI.format("<loader stateless='yes'/>")), HOST, "Unable to find 'efi' firmware"),
        (domain(EFI.replace("efi", "bios").format("")), HOST, "Unable to find 'bios' firmware"),
        (domain(EFI.format(""), "<apic/>"), HOST, "UEFI requires ACPI"),
        (domain(EFI.replace("q35", "pc").format("<loader secure='yes'/>")), HOST, "Unable to find 'efi'"),
    ],
)
def test_refusals_are_libvirts(definition: DomainDefinition, host: Host, message: str) -> None:
    with pytest.raises(VirtsnapError, match=message):
        complete(definition, host)


def test_the_choice_is_written_down_and_stays() -> None:
    done = complete(domain(EFI.format("")), HOST)
    assert done.nvram_path == "/ROOT/lib/qemu/nvram/x_VARS.fd"
    assert done.nvram_template == "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
    assert complete(done, Host()).to_xml() == done.to_xml()
