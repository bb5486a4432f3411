"""Real virsh on virtsnapd, with a real QEMU and no guest. What it says in detail: tests/parity, --through."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests import daemon
from tests.server.conftest import Served
from tests.server.raw import Raw
from virtsnap.wire.frames import Kind, Status

pytestmark = pytest.mark.real
VGA = "<video><model type='vga'/></video>"
PTY = "<serial type='pty'/><console type='pty'/>"


@pytest.fixture
def vm(served: Served) -> Served:
    served.define(devices=VGA + PTY)
    yield served
    served.virsh("destroy", "vm")
    served.ok("undefine", "vm", "--snapshots-metadata", "--managed-save")


def test_a_life_with_snapshots(vm: Served) -> None:
    assert vm.ok("start", "vm") == "Domain 'vm' started\n\n"
    assert vm.ok("domstate", "vm", "--reason") == "running (booted)\n\n"
    assert vm.ok("snapshot-create-as", "vm", "one") == "Domain snapshot one created\n"
    vm.ok("snapshot-create-as", "vm", "two", "--disk-only", "--no-metadata", "--diskspec", "vda")
    vm.ok("snapshot-create-as", "vm", "three", "--disk-only")
    assert vm.ok("snapshot-list", "vm", "--tree").split() == ["one", "|", "+-", "three"]
    assert vm.ok("snapshot-list", "vm", "--from", "one", "--name") == "three\n\n"
    assert vm.ok("snapshot-parent", "vm", "three").strip() == "one"
    vm.ok("snapshot-revert", "vm", "one", "--paused")
    assert vm.ok("domstate", "vm", "--reason") == "paused (from snapshot)\n\n"
    assert "<name>one</name>" in vm.ok("snapshot-dumpxml", "vm", "one")
    refused = vm.virsh("snapshot-revert", "vm", "four")
    assert refused.returncode == 1
    nothing = "error: Domain snapshot not found: no domain snapshot with matching name 'four'"
    assert refused.stderr.strip() == nothing


def test_saved_states(vm: Served) -> None:
    vm.ok("start", "vm")
    assert "saved to" in vm.ok("save", "vm", "vm.sav", "--verbose")
    assert "<name>vm</name>" in vm.ok("save-image-dumpxml", "vm.sav")
    assert vm.ok("restore", "vm.sav") == "Domain restored from vm.sav\n\n"
    vm.ok("managedsave", "vm")
    assert " -    vm     saved\n" in vm.ok("list", "--all", "--managed-save")
    assert "Managed save:   yes" in vm.ok("dominfo", "vm")
    vm.ok("start", "vm")
    assert vm.ok("domstate", "vm", "--reason") == "running (restored)\n\n"


def test_a_screenshot(vm: Served) -> None:
    vm.ok("start", "vm")
    assert "type of image/png" in vm.ok("screenshot", "vm", "shot.png")
    assert (vm.folder / "shot.png").read_bytes().startswith(b"\x89PNG")


def test_a_console_ends_with_its_domain_and_belongs_to_one(vm: Served) -> None:
    vm.ok("start", "vm")
    with Raw(vm.socket) as one, Raw(vm.socket) as two:
        dom = one.open().call("domain_lookup_by_name", "vm")
        two.open()
        assert one.call("domain_open_console", dom, None, 0) is None
        refused = two.call("domain_open_console", dom, None, 0)
        assert refused.message == "operation failed: Active console session exists for this domain"
        call = two.send("domain_open_console", dom, None, 1)  # by force
        end = one.receive()
        assert end is not None
        assert (end.kind, end.status, end.payload) == (Kind.STREAM, Status.CONTINUE, b"")
        assert two.value(two.receive()) is None
        two.socket.sendall(call.stream(b"typed\r").pack())
        vm.ok("destroy", "vm")
        end = two.receive()
        assert end is not None
        assert (end.kind, end.status, end.payload, end.serial) == (
            Kind.STREAM,
            Status.CONTINUE,
            b"",
            call.serial,
        )
        finished = two.exchange(call.stream(status=Status.OK))
        assert finished is not None
        assert (finished.kind, finished.status) == (Kind.STREAM, Status.OK)
        assert two.call("connect_get_type") == "QEMU"


def test_a_client_that_leaves_gives_its_console_back(vm: Served) -> None:
    vm.ok("start", "vm")
    for _ in range(3):
        with Raw(vm.socket) as client:
            dom = client.open().call("domain_lookup_by_name", "vm")
            while (answer := client.call("domain_open_console", dom, None, 0)) is not None:
                # The one before is being seen off.
                assert "Active console session" in answer.message


def _descriptors(vm: Served) -> int:
    return len(os.listdir(f"/proc/{vm.process.pid}/fd"))


def test_clients_that_leave_in_the_middle_of_a_stream_leave_nothing(vm: Served) -> None:
    vm.ok("start", "vm")
    with Raw(vm.socket) as client:
        dom = client.open().call("domain_lookup_by_name", "vm")
        before = _descriptors(vm)
        for turn in range(30):
            with Raw(vm.socket) as rude:
                rude.open()
                rude.send("domain_open_console", dom, None, 1)
                rude.send("domain_screenshot", dom, 0, 0)
                if turn % 2:
                    rude.receive()
        while client.call("domain_open_console", dom, None, 0) is not None:
            pass  # they are being seen off
        while _descriptors(vm) > before + 1:
            client.call("connect_get_type")


def test_a_stream_keeps_its_serial(vm: Served) -> None:
    vm.ok("start", "vm")
    with Raw(vm.socket) as client:
        dom = client.open().call("domain_lookup_by_name", "vm")
        before = _descriptors(vm)
        call = client.send("domain_open_console", dom, None, 0)
        first = client.receive()
        client.socket.sendall(call.pack())
        second = client.receive()
        assert first is not None
        assert second is not None
        assert (first.status, second.status) == (Status.OK, Status.ERROR)
        assert (
            client.value(second).message == f"internal error: serial {call.serial} is that of an open stream"
        )
        assert _descriptors(vm) == before + 1
        end = client.exchange(call.stream(status=Status.OK))
        assert end is not None
        assert (end.kind, end.status) == (Kind.STREAM, Status.OK)
        assert _descriptors(vm) == before


def test_calls_of_one_client_run_side_by_side(vm: Served) -> None:
    """A call that waits for a domain's lock holds up no other one."""
    vm.ok("start", "vm")
    from virtsnap.engine.locks import DomainLock

    uuid = vm.ok("domuuid", "vm").strip()
    lock = DomainLock(vm.folder / "root", uuid)
    with Raw(vm.socket) as client:
        dom = client.open().call("domain_lookup_by_name", "vm")
        assert lock.try_acquire()
        try:
            slow = client.send("domain_suspend", dom)
            assert client.call("domain_get_state", dom, 0) == (1, 1)
            assert "running" in vm.ok("list")
        finally:
            lock.release()
        answer = client.receive()
        assert answer is not None
        assert (answer.serial, answer.status) == (slow.serial, Status.OK)


def test_an_operation_goes_on_when_its_client_has_gone(vm: Served) -> None:
    vm.ok("start", "vm")
    with Raw(vm.socket) as client:
        dom = client.open().call("domain_lookup_by_name", "vm")
        client.send(
            "domain_snapshot_create_xml", dom, "<domainsnapshot><name>left</name></domainsnapshot>", 0
        )
    with Raw(vm.socket) as client:
        client.open()
        for _ in range(1000):
            snapshots, _count = client.call("domain_list_all_snapshots", dom, 1, 0)
            if snapshots:
                break
    assert [snapshot.name for snapshot in snapshots] == ["left"]


def test_nobody_waits_for_a_guest_that_does_not_restart(vm: Served) -> None:
    """There is no system in it that would react to its power button."""
    assert "domain is not running" in vm.virsh("reboot", "vm").stderr
    vm.ok("start", "vm")
    vm.ok("reboot", "vm")
    vm.ok("reset", "vm")
    vm.ok("reboot", "vm")
    vm.ok("reboot", "vm")
    vm.ok("shutdown", "vm")
    vm.ok("reboot", "vm")
    vm.ok("destroy", "vm")
    assert "shut off" in vm.ok("domstate", "vm")


def test_guests_outlive_the_daemon(vm: Served) -> None:
    vm.ok("start", "vm")
    id = vm.ok("domid", "vm")
    vm.restart()
    assert vm.ok("domid", "vm") == id
    assert vm.ok("domstate", "vm") == "running\n\n"


def test_a_daemon_that_was_killed_is_followed_by_another(vm: Served) -> None:
    vm.ok("start", "vm")
    vm.process.kill()
    vm.process.wait()
    assert vm.virsh("list").returncode == 1
    vm.process = daemon.start(vm.folder / "root", vm.socket)
    assert "running" in vm.ok("list")


def test_what_a_killed_daemon_was_at_is_wholly_done_or_wholly_not(vm: Served) -> None:
    vm.ok("start", "vm")
    file = vm.folder / "killed.sav"
    with Raw(vm.socket) as client:
        dom = client.open().call("domain_lookup_by_name", "vm")
        client.send("domain_save", dom, str(file))
        with Raw(vm.socket) as other:
            other.open()
            while vm.process.poll() is None:
                job = other.call("domain_get_job_info", dom)
                if not isinstance(job, tuple) or job[0]:  # it is at it, or over
                    vm.process.kill()
                    vm.process.wait()
    vm.process = daemon.start(vm.folder / "root", vm.socket)
    state = vm.ok("domstate", "vm").strip()
    assert (state, file.exists()) in (("running", False), ("shut off", True))
    assert "None" in vm.ok("domjobinfo", "vm") if state == "running" else vm.ok("restore", str(file))


def test_two_daemons_do_not_share_a_socket(served: Served) -> None:
    with pytest.raises(RuntimeError, match="another daemon listens there"):
        daemon.start(served.folder / "other", served.socket)
    served.ok("list")


def test_what_the_embedded_program_does_is_seen_at_once(vm: Served) -> None:
    from virtsnap.service.local import open_local

    async def start() -> None:
        service = await open_local(vm.folder / "root")
        await service.create((await service.lookup_by_name("vm")).uuid)
        await service.close()

    asyncio.run(start())
    assert "running" in vm.ok("list")


def test_empty_lists_of_what_there_is_not(served: Served) -> None:
    for command in ("net-list", "pool-list", "nodedev-list", "nwfilter-list", "secret-list", "iface-list"):
        assert len(served.ok(command).strip().splitlines()) <= 2


def test_read_only_virsh(vm: Served) -> None:
    assert vm.virsh("list", "--all", readonly=True).returncode == 0
    refused = vm.virsh("start", "vm", readonly=True)
    assert refused.returncode == 1
    assert "read only access prevents virDomainCreate" in refused.stderr


def test_sockets_from_systemd(tmp_path: Path) -> None:
    """The sockets are handed over as descriptors 3 and on, by name."""
    names = ["virtsnap-sock", "virtsnap-sock-ro"]
    sockets = []
    for name in names:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / name))
        sock.listen(5)
        sockets.append(sock)
    pid = os.fork()
    if pid == 0:
        try:
            for index, sock in enumerate(sockets):
                os.dup2(sock.fileno(), 3 + index)
            environment = os.environ | {
                "LISTEN_FDS": "2",
                "LISTEN_FDNAMES": ":".join(names),
                "LISTEN_PID": str(os.getpid()),
            }
            words = [sys.executable, "-m", "virtsnap.daemon.main", "--root", str(tmp_path / "root")]
            os.execve(sys.executable, words, environment)
        finally:
            os._exit(1)
    for sock in sockets:
        sock.close()
    done = os.pidfd_open(pid)
    try:
        with Raw(tmp_path / names[0]) as client:
            assert client.open().call("connect_num_of_domains") == 0
        with Raw(tmp_path / names[1]) as client:
            refused = client.open().call("domain_define_xml", "<domain/>")
            assert refused.code == 29
        os.kill(pid, signal.SIGTERM)
        assert select.select([done], [], [], 30)[0]
        assert os.waitpid(pid, 0)[1] == 0
        assert sorted(path.name for path in tmp_path.glob("virtsnap-sock*")) == names
    finally:
        os.close(done)


_COUNTS = [f"{kind}.{what}" for kind in ("rd", "wr", "fl") for what in ("reqs", "bytes", "times")]
_COUNTS.remove("fl.bytes")
_SIZES = ["allocation", "capacity", "physical"]
_STATS = [
    *["state.state", "state.reason", "cpu.time", "cpu.user", "cpu.system", "cpu.cache.monitor.count"],
    *["balloon.current", "balloon.maximum", "balloon.last-update", "balloon.rss"],
    *["vcpu.current", "vcpu.maximum", "vcpu.0.state", "vcpu.0.time", "vcpu.0.wait", "vcpu.0.delay"],
    *["net.count", "block.count"],
    *[f"block.0.{name}" for name in ["name", "path", "backingIndex", *_COUNTS, *_SIZES]],
    *[f"block.1.{name}" for name in ["name", "path", "backingIndex", *_SIZES]],
    *[f"block.2.{name}" for name in ["name", *_COUNTS]],
    *[f"dirtyrate.{name}" for name in ["calc_status", "calc_start_time", "calc_period", "calc_mode"]],
]
"""What libvirtd 11.3 tells of such a machine, but for two figures that are KVM's (cpu.haltpoll)."""


def test_every_figure_of_a_running_domain(served: Served) -> None:
    def told(*options: str) -> dict[str, str]:
        head, *lines = served.ok("domstats", "told", *options).split("\n")
        assert head == "Domain: 'told'"
        return dict(line.strip().split("=") for line in lines if line)

    served.define(
        "told", devices=VGA + "<disk device='cdrom'><target dev='hda'/></disk><interface type='user'/>"
    )
    served.ok("setvcpus", "told", "2", "--maximum", "--config")
    served.ok("start", "told", "--paused")
    served.ok("snapshot-create-as", "told", "top", "--disk-only", "--no-metadata")
    found = told("--backing")
    assert list(found) == _STATS
    assert int(found["cpu.time"]) == int(found["cpu.user"]) + int(found["cpu.system"])
    expected = {"vcpu.current": "1", "vcpu.maximum": "2", "vcpu.0.state": "1", "net.count": "1"}
    expected |= {"block.count": "3", "block.0.name": "vda", "block.1.name": "vda", "block.2.name": "hda"}
    expected |= {
        f"block.{number}.path": str(served.folder / f"told.{end}")
        for number, end in ((0, "top"), (1, "qcow2"))
    }
    expected |= {"block.1.capacity": str(1 << 20), "dirtyrate.calc_mode": "page-sampling"}
    assert expected.items() <= found.items()
    shown = served.ok("dumpxml", "told")
    assert f"index='{found['block.0.backingIndex']}'/>" in shown
    assert f"index='{found['block.1.backingIndex']}'>" in shown
    assert int(told("--balloon")["balloon.rss"]) > 1024
    assert [name for name in told("--block") if ".path" in name] == ["block.0.path"]
    served.ok("destroy", "told")
    left = ["state.state", "state.reason", "balloon.current", "balloon.maximum", "vcpu.current"]
    assert list(told("--state", "--cpu-total", "--balloon", "--vcpu", "--interface", "--dirtyrate")) == [
        *left,
        "vcpu.maximum",
    ]
    served.ok("undefine", "told")
