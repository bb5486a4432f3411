"""The command line against what real libvirt answered for the same definitions (tests/machine/golden)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.machine.guest_visible import pairs, reduce
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.command_line import CommandLine, Launch, Layer, command_line
from virtsnap.machine.complete import complete
from virtsnap.machine.host import Host
from virtsnap.model.errors import ConfigUnsupported

HERE = Path(__file__).parent
CORPUS = sorted({path.stem for path in (HERE / "golden").glob("*.args")})
LAUNCH = Launch(run_dir="/run/x", monitor_fd=5, now=1_700_000_000)


def golden(name: str) -> DomainDefinition:
    return DomainDefinition.parse((HERE / "golden" / f"{name}.xml").read_text())


def golden_options(name: str) -> list[tuple[str, str]]:
    lines = (HERE / "golden" / f"{name}.args").read_text().splitlines()[1:]
    return [(option, value) for option, _, value in (line.partition(" ") for line in lines)]


def start(devices: str = "", top: str = "", launch: Launch = LAUNCH, machine: str = "q35") -> CommandLine:
    text = (
        f"<domain type='qemu'><name>x</name><uuid>{'1' * 32}</uuid><memory>262144</memory>"
        f"<os><type machine='{machine}'>hvm</type></os>{top}<devices>{devices}</devices></domain>"
    )
    return command_line(complete(DomainDefinition.parse(text), Host()), launch)


def values(line: CommandLine, option: str) -> list[str]:
    return [value for name, value in pairs(line.argv) if name == option]


def nodes(line: CommandLine) -> dict[str, dict[str, Any]]:
    return {node["node-name"]: node for node in map(json.loads, values(line, "-blockdev"))}


def front(line: CommandLine, identifier: str) -> dict[str, Any]:
    return next(d for d in map(json.loads, values(line, "-device")) if d.get("id") == identifier)


@pytest.mark.parametrize("name", CORPUS)
def test_the_guest_sees_what_libvirt_shows_it(name: str) -> None:
    ours = command_line(golden(name), LAUNCH)
    assert reduce(pairs(ours.argv)) == reduce(golden_options(name))


DISK = "<disk><driver type='qcow2'/><source file='/top'/><target dev='vda'/></disk>"


def test_a_backing_chain_is_given_node_by_node() -> None:
    chain = (Layer("/top", "qcow2"), Layer("/mid", "qcow2"), Layer("/dev/base", "raw", "block"))
    second = "<disk><driver type='raw'/><source file='/b'/><target dev='vdb'/></disk>"
    line = start(DISK + second, launch=Launch("/run/x", chains={"vda": chain}))
    assert line.node_indexes == {"vdb": 1, "vda": 2}
    graph = nodes(line)
    assert list(graph) == [
        *("libvirt-4-storage", "libvirt-4-format", "libvirt-3-storage", "libvirt-3-format"),
        *("libvirt-2-storage", "libvirt-2-format", "libvirt-1-storage", "libvirt-1-format"),
    ]
    assert graph["libvirt-2-format"]["backing"] == "libvirt-3-format"
    assert graph["libvirt-3-format"]["backing"] == "libvirt-4-format"
    assert graph["libvirt-4-storage"]["driver"] == "host_device"
    assert [graph[f"libvirt-{n}-format"]["read-only"] for n in (2, 3, 4)] == [False, True, True]
    assert "backing" not in graph["libvirt-4-format"]
    assert front(line, "virtio-disk0")["drive"] == "libvirt-2-format"


def test_what_an_image_says_of_its_backing_file_is_not_followed() -> None:
    node = nodes(start(DISK))["libvirt-1-format"]
    assert "backing" in node
    assert node["backing"] is None


def test_an_empty_drive_keeps_a_number() -> None:
    line = start(DISK + "<disk device='cdrom'><target dev='sda' bus='sata'/></disk>")
    assert line.node_indexes == {"sda": 1, "vda": 2}
    assert "drive" not in front(line, "sata0-0-0")


def test_monitors_are_descriptors_and_a_log() -> None:
    launch = Launch("/run/x", monitor_fd=7, query_fd=8, events_path="/r/ev,1", hello_path="/r/hello")
    line = start(launch=launch)
    assert values(line, "-mon") == [
        "chardev=charmonitor,id=monitor,mode=control",
        "chardev=charquery,id=query,mode=control",
        "chardev=charevents,id=events,mode=control",
    ]
    assert values(line, "-chardev") == [
        "socket,id=charmonitor,fd=7,server=on,wait=off",
        "socket,id=charquery,fd=8,server=on,wait=off",
        "file,id=charevents,path=/r/ev,,1,input-path=/r/hello,append=on",
    ]


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        ("", "reboot=reset,shutdown=poweroff,panic=shutdown"),
        ("<on_reboot>destroy</on_reboot>", "reboot=shutdown,shutdown=poweroff,panic=shutdown"),
        ("<on_crash>preserve</on_crash>", "reboot=reset,shutdown=poweroff,panic=pause"),
    ],
)
def test_the_process_ends_without_anyone_watching(top: str, expected: str) -> None:
    line = start(top=top)
    assert values(line, "-action") == [expected]
    assert "-no-shutdown" not in line.argv
    assert "-S" in line.argv


def test_an_incoming_start_waits_for_its_stream() -> None:
    assert values(start(launch=Launch("/run/x", incoming=True)), "-incoming") == ["defer"]
    assert "-incoming" not in start().argv


def test_chardevs_and_sockets_are_reported() -> None:
    line = start(
        "<serial type='pty'/><console type='pty'><target type='virtio'/></console>"
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        "<serial type='unix'><source mode='bind' path='/s,1'/></serial>"
        "<serial type='unix'><source mode='connect' path='/t'/></serial>"
    )
    assert line.chardevs == {
        "serial0": "charserial0",
        "serial1": "charserial1",
        "serial2": "charserial2",
        "channel0": "charchannel0",
        "console1": "charconsole1",
    }
    assert line.sockets == {"serial1": "/s,1", "channel0": "/run/x/channel0.sock"}
    assert "socket,id=charserial1,path=/s,,1,server=on,wait=off" in values(line, "-chardev")


def test_a_reconnecting_socket_is_told_in_this_qemus_words() -> None:
    serial = (
        "<serial type='unix'><source mode='connect' path='/t'>"
        "<reconnect enabled='yes' timeout='3'/></source></serial>"
    )
    assert start(serial).argv.count("socket,id=charserial0,path=/t,reconnect-ms=3000") == 1
    old = Launch("/run/x", qemu_version=(7, 2, 0))
    assert start(serial, launch=old).argv.count("socket,id=charserial0,path=/t,reconnect=3") == 1


def test_memory_is_rounded_up_to_whole_mebibytes() -> None:
    text = (
        f"<domain type='qemu'><name>x</name><uuid>{'1' * 32}</uuid><memory unit='b'>1048577</memory>"
        "<os><type machine='q35'>hvm</type></os></domain>"
    )
    line = command_line(complete(DomainDefinition.parse(text), Host()), LAUNCH)
    assert values(line, "-m") == ["size=2048k"]
    assert '{"qom-type":"memory-backend-ram","id":"pc.ram","size":2097152}' in values(line, "-object")


def test_a_clock_that_differs_from_the_hosts_starts_from_now() -> None:
    line = start(top="<clock offset='variable' adjustment='-3600'/>", launch=Launch("/r", now=1_700_000_000))
    assert values(line, "-rtc") == ["base=2023-11-14T21:13:20"]
    fixed = start(top="<clock offset='absolute' start='86400'/>")
    assert values(fixed, "-rtc") == ["base=1970-01-02T00:00:00"]


def test_old_qemu_is_not_told_of_clusters() -> None:
    top = "<vcpu>2</vcpu><cpu><topology sockets='1' cores='2' threads='1'/></cpu>"
    old = start(top=top, launch=Launch("/r", qemu_version=(7, 2, 0)))
    assert values(old, "-smp") == ["2,sockets=1,dies=1,cores=2,threads=1"]
    assert values(start(top=top), "-smp") == ["2,sockets=1,dies=1,clusters=1,cores=2,threads=1"]


def test_what_has_no_option_is_left_as_commands() -> None:
    line = start(
        "<interface type='user'><mac address='52:54:00:00:00:01'/><link state='down'/></interface>"
        "<memballoon model='virtio'><stats period='5'/></memballoon>"
    )
    assert line.commands == (
        ("set_link", {"name": "net0", "up": False}),
        (
            "qom-set",
            {
                "path": "/machine/peripheral/balloon0",
                "property": "guest-stats-polling-interval",
                "value": 5,
            },
        ),
    )


def test_a_generation_id_can_be_replaced() -> None:
    top = "<genid>a5a5a5a5-1111-2222-3333-444455556666</genid>"
    assert front(start(top=top), "vmgenid0")["guid"].startswith("a5a5")
    assert front(start(top=top, launch=Launch("/r", gen_id="new")), "vmgenid0")["guid"] == "new"


@pytest.mark.parametrize(
    ("secret", "time"),
    [
        ("passwd='x'", "never"),
        ("passwd='x' passwdValidTo='2001-09-09T01:46:41'", "1000000001"),
        ("passwd='x' passwdValidTo='2001-09-09T01:46:40'", "now"),
        ("passwd=''", "now"),
    ],
)
def test_a_password_is_a_command(secret: str, time: str) -> None:
    line = start(f"<graphics type='vnc' {secret}/>", launch=replace(LAUNCH, now=1_000_000_000))
    assert values(line, "-vnc") == ["127.0.0.1:0,to=9999,password=on,audiodev=audio1"]
    password = "x" if "x" in secret.split()[0] else ""
    assert line.commands == (
        ("set_password", {"protocol": "vnc", "password": password}),
        ("expire_password", {"protocol": "vnc", "time": time}),
    )
    assert "x'" not in " ".join(line.argv)


def test_vnc() -> None:
    assert values(start("<graphics type='vnc'/>"), "-vnc") == ["127.0.0.1:0,to=9999,audiodev=audio1"]
    fixed = "<graphics type='vnc' port='5905' listen='::' keymap='de'/>"
    assert values(start(fixed), "-vnc") == ["[::]:5,audiodev=audio1"]
    assert values(start(fixed), "-k") == ["de"]
    socket = "<graphics type='vnc'><listen type='socket' socket='/v'/></graphics>"
    assert values(start(socket), "-vnc") == ["vnc=unix:/v,audiodev=audio1"]


def test_the_users_own_arguments_and_aliases() -> None:
    text = (
        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
        f"<name>x</name><uuid>{'1' * 32}</uuid><memory>262144</memory><os><type>hvm</type></os>"
        "<devices><disk><source file='/a'/><target dev='vda'/><alias name='ua-root'/></disk></devices>"
        "<qemu:commandline><qemu:arg value='-foo'/><qemu:env name='A' value='b'/></qemu:commandline></domain>"
    )
    line = command_line(complete(DomainDefinition.parse(text), Host()), LAUNCH)
    assert line.argv[-1] == "-foo"
    assert line.env == {"A": "b"}
    assert front(line, "ua-root")["driver"] == "virtio-blk-pci"


def test_seccomp_can_be_left_out() -> None:
    assert "-sandbox" in start().argv
    assert "-sandbox" not in start(launch=Launch("/r", seccomp=False)).argv


def test_iothreads_take_listed_numbers_first() -> None:
    top = "<iothreads>3</iothreads><iothreadids><iothread id='2'/></iothreadids>"
    found = [json.loads(v)["id"] for v in values(start(top=top), "-object") if "iothread" in v]
    assert found == ["iothread2", "iothread1", "iothread3"]


def test_uefi_by_explicit_paths() -> None:
    text = (
        f"<domain type='qemu'><name>x</name><uuid>{'1' * 32}</uuid><memory>262144</memory>"
        "<os><type machine='q35'>hvm</type><loader readonly='yes' type='pflash'>/code.fd</loader>"
        "<nvram template='/vars'>/n.fd</nvram></os></domain>"
    )
    line = command_line(complete(DomainDefinition.parse(text), Host()), LAUNCH)
    assert "pflash0=libvirt-pflash0-format,pflash1=libvirt-pflash1-format" in values(line, "-machine")[0]
    graph = nodes(line)
    assert graph["libvirt-pflash0-format"]["read-only"] is True
    assert graph["libvirt-pflash1-storage"]["filename"] == "/n.fd"
    assert graph["libvirt-pflash1-format"]["read-only"] is False


def test_host_model_is_refused() -> None:
    with pytest.raises(ConfigUnsupported, match="host-model"):
        command_line(golden("q35-host-model"), LAUNCH)


def test_companions_share_the_index_of_their_usb2_controller() -> None:
    """As tools write them: no index at all, and perhaps before the controller that they serve."""
    one = "<controller type='usb' model='ich9-ehci1'/>"
    two = "".join(
        f"<controller type='usb' model='ich9-uhci{n}'><master startport='{2 * n - 2}'/></controller>"
        for n in (1, 2, 3)
    )
    for devices in (one + two, two + one):
        line = start(devices + "<controller type='usb' index='1' model='qemu-xhci'/>", machine="pc")
        usb = [d for d in map(json.loads, values(line, "-device")) if "usb" in d["driver"]]
        assert [d.get("masterbus") for d in usb if "uhci" in d["driver"]] == ["usb.0"] * 3
        assert usb[0]["driver"] == "ich9-usb-ehci1"
