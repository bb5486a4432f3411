"""virtsnap as a client: the same API over a connection, to virtsnapd and to a real libvirtd."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests import daemon
from tests.parity import oracle
from tests.server.conftest import Served
from tests.server.raw import Raw
from virtsnap.api.connect import open_service
from virtsnap.engine.locks import DomainLock
from virtsnap.model.errors import (
    InvalidArg,
    NoDomain,
    NoSnapshot,
    NoSupport,
    OperationDenied,
    OperationInvalid,
    SystemRefused,
    VirtsnapError,
)
from virtsnap.model.event import EventKind, Life
from virtsnap.model.flags import DomainList
from virtsnap.model.job import JobStats, JobType
from virtsnap.service.interface import MadeSnapshot, PlanReport, Progress, Service

pytestmark = pytest.mark.real
XML = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><title>a title</title>
<memory unit='MiB'>{memory}</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
<disk type='file'><driver name='qemu' type='qcow2'/><source file='{image}'/>
<target dev='vda' bus='virtio'/></disk>
<serial type='pty'/><video><model type='vga'/></video></devices></domain>"""
UUID = "11111111-2222-4333-8444-777777777777"


def _xml(folder: Path, name: str = "c", memory: int = 32) -> str:
    image = folder / f"{name}.qcow2"
    if not image.exists():
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
    return XML.format(name=name, uuid=UUID, image=image, memory=memory)


@pytest.fixture
async def service(served: Served) -> AsyncIterator[Service]:
    opened = await open_service(served.uri)
    try:
        yield opened
    finally:
        for handle in await opened.list_domains():
            if handle.id is not None:
                await opened.destroy(handle.uuid)
        for handle in await opened.list_domains(DomainList.PERSISTENT):
            await opened.undefine(handle.uuid, 3)
        await opened.close()


async def test_a_life(served: Served, service: Service) -> None:
    assert service.uri == served.uri
    assert await service.hypervisor_version() > 7_000_000
    assert (await service.node_info()).cpus == os.cpu_count()
    assert "<domain type='qemu'/>" in await service.capabilities_xml()
    assert "<machine>pc-q35" in await service.domain_capabilities_xml(None, None, "q35", "qemu")
    handle = await service.define_xml(_xml(served.folder))
    assert (handle.uuid, handle.name, handle.id) == (UUID, "c", None)
    assert await service.lookup_by_name("c") == handle
    started = await service.create(UUID)
    assert started.id is not None
    assert await service.lookup_by_id(started.id) == started
    facts = await service.domain_info(UUID)
    assert (facts.id, facts.state.name, facts.persistent, facts.autostart) == (
        started.id,
        "RUNNING",
        True,
        False,
    )
    assert facts.max_memory_kib == 32 * 1024
    assert (await service.domain_state(UUID))[1].name == "RUNNING_BOOTED"
    await service.suspend(UUID)
    assert (await service.domain_state(UUID))[1].name == "PAUSED_USER"
    await service.resume(UUID)
    assert "<title>a title</title>" in await service.domain_xml(UUID)
    assert [disk.target for disk in await service.block_devices(UUID)] == ["vda"]
    assert (await service.block_info(UUID, "vda")).capacity == 1024 * 1024
    mime, picture = await service.screenshot(UUID)
    assert (mime, picture[1:4]) == ("image/png", b"PNG")
    assert stat.S_ISCHR(os.stat(await service.console_path(UUID)).st_mode)
    await service.set_autostart(UUID, True)
    await service.set_metadata(UUID, 0, "words")
    assert await service.metadata(UUID, 0) == "words"
    await service.send_key(UUID, 0, 0, [28])
    await service.save(UUID, str(served.folder / "c.sav"))
    assert "<name>c</name>" in await service.save_image_xml(str(served.folder / "c.sav"))
    assert (await service.restore(str(served.folder / "c.sav"))).id is not None
    await service.managed_save(UUID)
    assert (await service.domain_info(UUID)).managed_save
    await service.managed_save_remove(UUID)


async def test_snapshots(served: Served, service: Service) -> None:
    await service.define_xml(_xml(served.folder))
    assert len(await service.snapshot_tree(UUID)) == 0
    plan = await service.snapshot_create_xml(
        UUID, "<domainsnapshot><name>p</name></domainsnapshot>", dry_run=True
    )
    assert isinstance(plan, PlanReport)
    assert plan.subject == "p"
    for name in ("one", "two"):
        xml = f"<domainsnapshot><name>{name}</name><description>of {name}</description></domainsnapshot>"
        assert await service.snapshot_create_xml(UUID, xml) == name
    tree = await service.snapshot_tree(UUID)
    assert (list(tree.snapshots), tree.current, tree["two"].parent) == (["one", "two"], "two", "one")
    assert tree["one"].description == "of one"
    assert (await service.block_chains(UUID))["vda"][0].snapshots == ("one", "two")
    await service.snapshot_revert(UUID, "one")
    assert (await service.snapshot_tree(UUID)).current == "one"
    deleted = await service.snapshot_delete(UUID, "one", 1, dry_run=True)
    assert deleted is not None
    assert deleted.operation == "delete"
    await service.snapshot_delete(UUID, "one", 1)
    assert len(await service.snapshot_tree(UUID)) == 0
    with pytest.raises(OperationInvalid, match="no disk stands on other images"):
        await service.flatten(UUID, dry_run=True)
    with pytest.raises(NoSnapshot, match="no domain snapshot with matching name 'one'"):
        await service.snapshot_xml(UUID, "one")


async def test_how_the_memory_of_a_snapshot_was_written(served: Served, service: Service) -> None:
    await service.define_xml(_xml(served.folder))
    await service.create(UUID)
    memory = served.folder / "one.mem"
    xml = f"<domainsnapshot><name>one</name><memory snapshot='external' file='{memory}'/></domainsnapshot>"
    made = await service.snapshot_create_xml(UUID, xml)
    assert isinstance(made, MadeSnapshot)
    job = await service.job_info(UUID, JobStats.COMPLETED)
    assert made.memory_mode in ("background", "in-place", "paused")
    assert (made, made.memory_mode, made.memory_reason) == ("one", job.memory_mode, job.memory_reason)
    virtsnap = str(Path(sys.executable).with_name("virtsnap"))
    words = ["snapshot-create-as", "c", "two", "--memspec", f"{served.folder}/two.mem,mode=paused", "--json"]
    done = await asyncio.to_thread(
        subprocess.run, [virtsnap, "-c", served.uri, *words], capture_output=True, check=True
    )
    assert json.loads(done.stdout) == {"name": "two", "memory": {"mode": "paused", "reason": None}}
    three = await service.snapshot_create_xml(UUID, "<domainsnapshot><name>three</name></domainsnapshot>", 16)
    assert isinstance(three, MadeSnapshot)
    assert (three, three.memory_mode) == ("three", "")


async def test_refusals_are_those_of_the_service(served: Served, service: Service) -> None:
    with pytest.raises(NoDomain, match="no domain with matching name 'x'"):
        await service.lookup_by_name("x")
    with pytest.raises(InvalidArg, match=r"unsupported flags \(0x100000\)"):
        await service.list_domains(1 << 20)
    await service.define_xml(_xml(served.folder))
    with pytest.raises(OperationInvalid, match="domain is not running"):
        await service.destroy(UUID)
    with pytest.raises(NoSupport):
        await service.import_libvirt("x")
    reader = await open_service(served.uri, readonly=True)
    try:
        with pytest.raises(OperationDenied, match="read only access prevents virDomainCreate"):
            await reader.create(UUID)
        with pytest.raises(OperationDenied, match="with secure flag"):
            await reader.domain_xml(UUID, 1)
    finally:
        await reader.close()


async def test_events(served: Served, service: Service) -> None:
    other = await open_service(served.uri)
    try:
        async with service.events() as events:
            await other.define_xml(_xml(served.folder))
            event = await anext(events)
            assert (event.name, event.kind) == ("c", EventKind.LIFECYCLE)
            assert event.change.number("event") == Life.DEFINED
            assert await service.lookup_by_name("c")  # calls go on while it listens
    finally:
        await other.close()


async def test_a_cancelled_call_leaves_nothing(served: Served, service: Service) -> None:
    """It waits for the domain's lock, which somebody else holds: nobody else's work may be aborted for it."""
    await service.define_xml(_xml(served.folder))
    lock = DomainLock(served.folder / "root", UUID)
    assert lock.try_acquire()
    try:
        xml = "<domainsnapshot><name>never</name></domainsnapshot>"
        call = asyncio.create_task(service.snapshot_create_xml(UUID, xml))
        assert (await service.domain_state(UUID))[0].name == "SHUTOFF"
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    finally:
        lock.release()
    assert len(await service.snapshot_tree(UUID)) == 0
    await service.snapshot_create_xml(UUID, xml)


async def test_a_save_that_is_cancelled_lets_the_guest_run_on(served: Served, service: Service) -> None:
    await service.define_xml(_xml(served.folder, memory=512))
    await service.create(UUID)
    file = served.folder / "given up.sav"
    call = asyncio.create_task(service.save(UUID, str(file)))
    while not call.done():
        if (await service.job_info(UUID)).type is not JobType.NONE:
            break
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await service.domain_state(UUID))[0].name == "RUNNING"
    assert not file.exists()


async def test_progress_is_told_to_its_end(served: Served, service: Service) -> None:
    told: list[Progress] = []
    await service.define_xml(_xml(served.folder))
    await service.create(UUID)
    await service.managed_save(UUID, progress=told.append)
    assert all(one.done <= one.total for one in told)
    assert (await service.domain_info(UUID)).managed_save


async def test_a_daemon_that_goes_away(tmp_path: Path) -> None:
    """The connection ends in the middle of a call: that call says so, and every later one."""
    from virtsnap.client.channel import Channel
    from virtsnap.client.service import RemoteService
    from virtsnap.client.target import SocketTarget
    from virtsnap.wire.frames import FrameReader
    from virtsnap.wire.procedures import REMOTE

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameReader()
        while data := await reader.read(65536):
            for frame in frames.feed(data):
                procedure = REMOTE.get(frame.procedure)
                assert procedure is not None
                if procedure.name == "auth_list":
                    writer.write(frame.answer(procedure.pack_answer([0])).pack())
                elif procedure.name == "connect_open":
                    writer.write(frame.answer().pack())
                else:
                    writer.close()
                    return

    path = tmp_path / "s"
    async with await asyncio.start_unix_server(serve, path):
        channel = await Channel.open(SocketTarget(str(path), "qemu:///system"), readonly=False)
        service = RemoteService(channel, "qemu:///system")
        for _ in range(2):
            with pytest.raises(VirtsnapError, match="End of file while reading data"):
                await service.lookup_by_name("x")
        await service.close()


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(SystemRefused, match=f"Failed to connect socket to '{tmp_path}/no': No such file"):
        await open_service(f"qemu:///system?socket={tmp_path}/no")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(SystemRefused, match="Connection refused"):
        await open_service(f"qemu:///system?socket={tmp_path}/dead")


async def test_by_way_of_ssh(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ssh is a program of ours, which joins its input and output to the socket."""
    program = tmp_path / "ssh"
    program.write_text(
        "#!/usr/bin/env python3\n"
        "import os, socket, sys, threading\n"
        f"assert sys.argv[1:-1] == ['-l', 'me', '-T', '-e', 'none', '--', 'host'], sys.argv\n"
        f"assert 'nc $ARG -U {served.socket}' in sys.argv[-1], sys.argv\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        f"s.connect({str(served.socket)!r})\n"
        "def out():\n"
        "    while data := s.recv(65536):\n"
        "        os.write(1, data)\n"
        "    os._exit(0)\n"
        "threading.Thread(target=out, daemon=True).start()\n"
        "while data := os.read(0, 65536):\n"
        "    s.sendall(data)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    service = await open_service(f"qemu+ssh://me@host/system?socket={served.socket}")
    try:
        assert await service.list_domains() == []
    finally:
        await service.close()


@pytest.fixture(scope="module")
def libvirtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[oracle.Oracle]:
    if (reason := oracle.missing()) is not None:
        pytest.skip(reason)
    folder = Path(tmp_path_factory.mktemp("l"))
    oracle.let_in(folder)
    with oracle.running(folder) as running:
        yield running


async def test_a_real_libvirtd(libvirtd: oracle.Oracle) -> None:
    folder = libvirtd.folder
    service = await open_service(f"qemu:///session?socket={folder}/r/libvirt/libvirt-sock")
    try:
        xml = _xml(folder)
        libvirtd.own(folder / "c.qcow2")
        assert (await service.define_xml(xml)).name == "c"
        assert (await service.create(UUID)).id is not None
        facts = await service.domain_info(UUID)
        assert (facts.state.name, facts.persistent) == ("RUNNING", True)
        one = "<domainsnapshot><name>one</name></domainsnapshot>"
        made = await service.snapshot_create_xml(UUID, one)
        assert isinstance(made, MadeSnapshot)
        assert (made, made.memory_mode) == ("one", "")
        await service.snapshot_create_xml(UUID, one.replace("one", "two"))
        tree = await service.snapshot_tree(UUID)
        assert (list(tree.snapshots), tree.current) == (["one", "two"], "two")
        await service.snapshot_revert(UUID, "one")
        assert (await service.domain_state(UUID))[1].name == "RUNNING_FROM_SNAPSHOT"
        async with service.events() as events:
            await service.suspend(UUID)
            assert (await anext(events)).change.number("event") == Life.SUSPENDED
        assert (await service.screenshot(UUID))[0] == "image/png"
        with pytest.raises(NoSupport):
            await service.block_chains(UUID)
        with pytest.raises(NoSnapshot):
            await service.snapshot_xml(UUID, "three")
        await service.destroy(UUID)
        await service.undefine(UUID, 2)
        assert await service.list_domains() == []
    finally:
        await service.close()


def test_a_users_daemon_comes_when_it_is_needed_and_goes(tmp_path: Path) -> None:
    """By the program as it is installed; a short idle time is all that is not as ever."""
    environment = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    virtsnap = str(Path(sys.executable).with_name("virtsnap"))
    command = [virtsnap, "-c", "qemu:///session", "list", "--name"]
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
    path = tmp_path / "virtsnap" / "virtsnap-sock"
    with Raw(path) as client:
        # Who is at the other end, by the kernel's word.
        peer = client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid = int.from_bytes(peer[:4], sys.byteorder)
        client.open()
        gone = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
    try:
        assert select.select([gone], [], [], 30)[0]
    finally:
        os.close(gone)
    assert not path.exists()


def test_a_daemon_with_a_timeout_leaves_when_nobody_is_there(tmp_path: Path) -> None:
    process = daemon.start(tmp_path / "root", tmp_path / "sock", "--timeout", "0.5")
    with Raw(tmp_path / "sock") as client:
        assert client.open().call("connect_get_type") == "QEMU"
    assert process.wait(30) == 0
    assert not (tmp_path / "sock").exists()
