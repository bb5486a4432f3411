"""Which procedures there are, and what those say that a guest's agent answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from virtsnap.model.errors import AgentCommandFailed, InvalidArg
from virtsnap.server.calls import HANDLERS, guest, guest_info
from virtsnap.server.client import _GREETINGS
from virtsnap.wire.procedures import QEMU, REMOTE
from virtsnap.wire.values import WireDomain

DOCUMENT = Path(__file__).parents[2] / "docs/daemon.md"
DOM = WireDomain("vm", bytes(16), 1)


def test_the_document_lists_what_is_not_supported() -> None:
    text = DOCUMENT.read_text().partition("## What is not supported")[2]
    listed = re.findall(r"\bvir[A-Z]\w+", text)
    missing = {
        procedure.api
        for program in (REMOTE, QEMU)
        for procedure in program
        if procedure.access != "e" and procedure.number not in HANDLERS[program.number]
        if procedure.name not in _GREETINGS
    }
    assert sorted(listed) == sorted(missing)


class Asked:
    """A session whose domain has an agent with ready answers."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers
        self.service = self
        self.heard: list[dict[str, Any]] = []

    async def domain(self, dom: WireDomain) -> WireDomain:
        return dom

    async def domain_xml(self, uuid: str) -> str:
        return """<domain><devices>
          <controller type='scsi' index='0'><address type='pci' domain='0x0000' bus='0x00' slot='0x05'
            function='0x0'/></controller>
          <disk type='file'><target dev='vda' bus='virtio'/><address type='pci' domain='0x0000' bus='0x00'
            slot='0x04' function='0x0'/></disk>
          <disk type='file'><target dev='sda' bus='scsi'/><address type='drive' controller='0' bus='0'
            target='0' unit='1'/></disk>
        </devices></domain>"""

    async def qemu_agent_command(self, uuid: str, command: str) -> str:
        message = json.loads(command)
        self.heard.append(message)
        if message["execute"] not in self._answers:
            raise AgentCommandFailed(message["execute"], "CommandNotFound", "The command has not been found")
        return json.dumps({"return": self._answers[message["execute"]]})

    async def vcpu_count(self, uuid: str) -> int:
        return 4


def _place(slot: int, unit: int = 0) -> dict[str, Any]:
    controller = {"domain": 0, "bus": 0, "slot": slot, "function": 0}
    return {"pci-controller": controller, "bus-type": "scsi", "bus": 0, "target": 0, "unit": unit}


FS = [
    {
        "name": "vda1",
        "mountpoint": "/",
        "type": "ext4",
        "used-bytes": 1,
        "total-bytes": 2,
        "disk": [_place(4) | {"serial": "s"}],
    },
    {"name": "sda1", "mountpoint": "/b", "type": "xfs", "disk": [_place(5, 1), _place(9)]},
]
LINKS = [
    {"name": "lo", "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8}]},
    {"name": "eth0", "hardware-address": "52:54:00:00:00:01"},
    {"name": "eth0:1", "ip-addresses": [{"ip-address-type": "ipv6", "ip-address": "fe80::1", "prefix": 64}]},
]


async def test_file_systems_name_the_disks_that_they_are_on() -> None:
    session: Any = Asked({"guest-get-fsinfo": FS})
    found, count = await guest_info.domain_get_fsinfo(session, DOM, 0)
    assert count == 2
    assert found == [("/", "vda1", "ext4", ["vda"]), ("/b", "sda1", "xfs", ["sda"])]


async def test_addresses() -> None:
    session: Any = Asked({"guest-network-get-interfaces": LINKS})
    assert await guest_info.domain_interface_addresses(session, DOM, 1, 0) == [
        ("lo", None, [(0, "127.0.0.1", 8)]),
        ("eth0", "52:54:00:00:00:01", [(1, "fe80::1", 64)]),
    ]
    assert await guest_info.domain_interface_addresses(session, DOM, 0, 0) == []
    with pytest.raises(InvalidArg):
        await guest_info.domain_interface_addresses(session, DOM, 7, 0)


async def test_guest_info_tells_what_the_agent_can() -> None:
    answers: dict[str, Any] = {
        "guest-get-users": [{"user": "root", "login-time": 1.5}],
        "guest-get-osinfo": {"id": "debian", "kernel-release": "6.1"},
        "guest-get-timezone": {"zone": "CET", "offset": 3600},
        "guest-get-host-name": {"host-name": "h"},
        "guest-get-fsinfo": FS,
        "guest-get-disks": [{"name": "/dev/vda", "partition": False, "address": _place(4)}],
        "guest-network-get-interfaces": LINKS,
    }
    session: Any = Asked(answers)
    found = {one.field: one.value for one in await guest_info.domain_get_guest_info(session, DOM, 0, 0)}
    assert found["user.0.login-time"] == 1500
    assert (found["os.id"], found["os.kernel-release"], found["hostname"]) == ("debian", "6.1", "h")
    assert (found["timezone.offset"], found["fs.0.disk.0.alias"], found["disk.0.alias"]) == (
        3600,
        "vda",
        "vda",
    )
    assert (found["fs.1.disk.count"], found["if.1.addr.0.type"], found["disk.0.partition"]) == (
        2,
        "ipv6",
        False,
    )
    del answers["guest-get-users"]
    assert await guest_info.domain_get_guest_info(session, DOM, 0, 0)
    with pytest.raises(AgentCommandFailed, match="has not been found"):
        await guest_info.domain_get_guest_info(session, DOM, 1, 0)


async def test_passwords_and_keys() -> None:
    session: Any = Asked(
        {
            "guest-set-user-password": {},
            "guest-ssh-get-authorized-keys": {"keys": ["k"]},
            "guest-ssh-add-authorized-keys": {},
            "guest-ssh-remove-authorized-keys": {},
        }
    )
    await guest.domain_set_user_password(session, DOM, "root", "pässword", 1)
    said = {"username": "root", "password": "cMOkc3N3b3Jk", "crypted": True}
    assert session.heard.pop()["arguments"] == said
    with pytest.raises(InvalidArg):
        await guest.domain_set_user_password(session, DOM, None, "p", 0)
    assert await guest.domain_authorized_ssh_keys_get(session, DOM, "u", 0) == ["k"]
    for flags, command in ((0, "add"), (1, "add"), (2, "remove")):
        await guest.domain_authorized_ssh_keys_set(session, DOM, "u", ["k"], flags)
        heard = session.heard.pop()
        assert heard["execute"] == f"guest-ssh-{command}-authorized-keys"
        assert heard["arguments"].get("reset", False) is (flags == 0)


async def test_processors_of_a_guest() -> None:
    cpus = [{"logical-id": number, "online": number < 3, "can-offline": number > 0} for number in range(4)]
    session: Any = Asked({"guest-get-vcpus": cpus, "guest-set-vcpus": 1})
    found = {one.field: one.value for one in await guest.domain_get_guest_vcpus(session, DOM, 0)}
    assert found == {"vcpus": "0-3", "online": "0-2", "offlinable": "1-3"}
    assert await guest.guest_vcpus(session, DOM, maximum=False) == 3
    await guest.domain_set_guest_vcpus(session, DOM, "3", 1, 0)
    assert session.heard.pop()["arguments"] == {"vcpus": [{"logical-id": 3, "online": True}]}
    await guest.set_guest_vcpus(session, DOM, 2)
    assert session.heard.pop()["arguments"] == {"vcpus": [{"logical-id": 2, "online": False}]}
    for wrong in ("7", "x", "1-"):
        with pytest.raises(InvalidArg):
            await guest.domain_set_guest_vcpus(session, DOM, wrong, 1, 0)
    with pytest.raises(InvalidArg, match="5 > 4"):
        await guest.set_guest_vcpus(session, DOM, 5)
