"""What two QEMUs of one definition would fight over."""

from __future__ import annotations

import pytest

from tests.plan.simulation import disk_xml, domain_xml
from virtsnap.plan.exclusive import held_alone


@pytest.mark.parametrize(
    ("device", "held"),
    [
        ("<serial type='pty'><target port='0'/></serial>", []),
        ("<serial type='null'/>", []),
        ("<serial type='file'><source path='/log'/></serial>", ["file /log"]),
        (
            "<serial type='tcp'><source mode='bind' host='::' service='4555'/></serial>",
            ["TCP port 4555"],
        ),
        ("<console type='tcp'><source mode='connect' host='h' service='4555'/></console>", []),
        ("<channel type='unix'><source mode='bind' path='/s'/></channel>", ["socket /s"]),
        ("<channel type='unix'><source path='/s'/></channel>", ["socket /s"]),
        ("<channel type='unix'><source mode='connect' path='/s'/></channel>", []),
        ("<channel type='unix'><target type='virtio' name='agent'/></channel>", []),
        ("<channel type='unix'><source mode='bind'/></channel>", []),
        ("<parallel type='file'><source path='/p'/></parallel>", ["file /p"]),
        ("<graphics type='vnc' port='5901' autoport='no'/>", ["vnc port 5901"]),
        ("<graphics type='vnc' port='5901'/>", ["vnc port 5901"]),
        ("<graphics type='vnc' port='5901' autoport='yes'/>", []),
        ("<graphics type='vnc' port='-1'/>", []),
        ("<graphics type='vnc' autoport='yes'/>", []),
        ("<graphics type='vnc' socket='/v'/>", ["socket /v"]),
        ("<graphics type='vnc'><listen type='socket' socket='/v'/></graphics>", ["socket /v"]),
        ("<graphics type='vnc'><listen type='socket'/></graphics>", []),
        ("<hostdev mode='subsystem' type='usb'/>", ["a host device"]),
        ("<interface type='user'/>", []),
        (
            "<serial type='file'><source path='/l'/></serial>"
            "<console type='file'><source path='/l'/></console>",
            ["file /l"],
        ),
    ],
)
def test_devices(device: str, held: list[str]) -> None:
    assert held_alone(domain_xml(disk_xml("vda", "/a"), more=device)) == tuple(held)


def test_the_uefi_variable_store() -> None:
    xml = domain_xml("").replace("</os>", "<nvram>/vars.fd</nvram></os>")
    assert held_alone(xml) == ("the UEFI variable store",)


def test_arguments_of_the_users_own_may_name_anything() -> None:
    arguments = (
        "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>{}</q:commandline></domain>"
    )
    xml = domain_xml("")
    assert held_alone(xml.replace("</domain>", arguments.format("<q:env name='A' value='b'/>"))) == ()
    assert held_alone(xml.replace("</domain>", arguments.format("<q:arg value='-nic'/>"))) == (
        "what the user's own QEMU arguments name",
    )
