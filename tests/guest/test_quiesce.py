"""The guest agent: quiesced snapshots hold clean file systems, and no guest is ever left frozen."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests import daemon
from tests.guest.agent_seed import (
    QUIESCE,
    agent_answers,
    agent_seed,
    agent_socket,
    below,
    faults,
    moves_on,
    needs_recovery,
    quiesced,
    stands_still,
)
from tests.guest.machine import NAME, Machine
from tests.service.crash import Crasher
from tests.service.local_domain import kill_all, processes_naming
from tests.service.sweep import Call, sweep
from virtsnap.model.domain import DomainState, Reason
from virtsnap.model.errors import AgentCommandFailed, BareInvalidArg, InternalRefused, OperationInvalid
from virtsnap.model.flags import ShutdownMethod, SnapshotCreate
from virtsnap.qemu import agent

pytestmark = pytest.mark.guest


@pytest.fixture
async def machine(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> AsyncIterator[Machine]:
    """A running guest whose agent answers and whose writer writes."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    try:
        machine = await Machine.resume(tmp_path / "vm", await agent_seed(base))
        yield machine
        await machine.end()
        assert not processes_naming(tmp_path)
    finally:
        kill_all(processes_naming(tmp_path))
        shutil.rmtree(tmp_path)


async def test_a_quiesced_snapshot_is_a_clean_file_system(machine: Machine, tmp_path: Path) -> None:
    await moves_on(machine)
    await machine.disk_only("torn")
    await moves_on(machine)
    await quiesced(machine, "clean")
    await moves_on(machine)
    images = {name: below(machine.folder / f"vdb.{name}") for name in ("torn", "clean")}
    assert needs_recovery(images["torn"])
    assert not needs_recovery(images["clean"])
    assert faults(images["clean"], tmp_path) == ""
    assert not await agent.is_frozen(agent_socket(machine))


async def test_a_freeze_is_real_and_somebody_elses_is_his(machine: Machine) -> None:
    await moves_on(machine)
    assert await agent.freeze(agent_socket(machine)) == 1
    assert await stands_still(machine)
    with pytest.raises(InternalRefused, match="frozen already"):
        await quiesced(machine, "refused")
    assert await agent.is_frozen(agent_socket(machine))
    assert await agent.thaw(agent_socket(machine)) == 1
    await moves_on(machine)


async def test_killed_at_every_point_the_guest_goes_on(crasher: Crasher, machine: Machine) -> None:
    async def ready(number: int) -> Call:
        xml = f"<domainsnapshot><name>take-{number}</name></domainsnapshot>"
        return machine, "snapshot_create_xml", xml, int(QUIESCE)

    async def is_new(number: int) -> bool:
        return f"take-{number}" in await machine.names()

    async def check(number: int, new: bool) -> None:
        assert not await agent.is_frozen(agent_socket(machine))
        await moves_on(machine)
        if new:
            assert not needs_recovery(below(machine.folder / f"vdb.take-{number}"))

    await sweep(crasher, ready, is_new, check)


async def test_a_create_that_fails_thaws(machine: Machine) -> None:
    # The overlay of the second disk cannot be opened once more: QEMU has it open for the first.
    same = machine.folder / "same"
    same.touch()
    link = machine.folder / "link"
    os.link(same, link)
    disks = f"<disk name='vda'><source file='{same}'/></disk><disk name='vdb'><source file='{link}'/></disk>"
    with pytest.raises(Exception, match=r"lock|in use|already"):
        await quiesced(machine, "failing", disks)
    assert not await agent.is_frozen(agent_socket(machine))
    await moves_on(machine)


async def test_a_manual_disk_keeps_the_guest_frozen_until_it_resumes(machine: Machine) -> None:
    await moves_on(machine)
    await quiesced(machine, "manual", "<disk name='vdb' snapshot='manual'/>")
    state = await machine.service.domain_state(machine.uuid)
    assert state == (DomainState.PAUSED, Reason.PAUSED_SNAPSHOT)
    assert not needs_recovery((await machine.sources())["vdb"])
    with pytest.raises(OperationInvalid, match="domain is not running"):
        await quiesced(machine, "paused")
    await machine.service.resume(machine.uuid)
    assert not await agent.is_frozen(agent_socket(machine))
    await moves_on(machine)


async def test_halt(machine: Machine, tmp_path: Path) -> None:
    await moves_on(machine)
    await quiesced(machine, "halted", flags=SnapshotCreate.HALT)
    assert await machine.state() is DomainState.SHUTOFF
    assert faults((await machine.sources())["vdb"], tmp_path) == ""


@pytest.mark.parametrize("method", [ShutdownMethod.GUEST_AGENT, 0], ids=["agent", "default"])
async def test_the_agent_shuts_down(machine: Machine, method: int) -> None:
    # The lab guest's own power button handler is ended: only the agent can do it.
    await machine.guest("for pid in $(pidof dd); do kill $pid; done")
    await machine.service.shutdown(machine.uuid, method)
    async with asyncio.timeout(60):
        while await machine.state() is not DomainState.SHUTOFF:
            await asyncio.sleep(0.05)  # QEMU ends by itself, and nobody tells
    assert await machine.service.domain_state(machine.uuid) == (
        DomainState.SHUTOFF,
        Reason.SHUTOFF_SHUTDOWN,
    )


async def test_the_agent_reboots(machine: Machine) -> None:
    pid = machine.instance.pid
    console = await machine.console()
    await machine.service.reboot(machine.uuid, ShutdownMethod.GUEST_AGENT)
    await console.seen("@ready ")
    assert machine.instance.pid == pid
    await machine.guest("qga start")
    await agent_answers(machine)


async def test_words_for_the_agent(machine: Machine) -> None:
    service, uuid = machine.service, machine.uuid
    ping = '{"execute":"guest-ping"}'
    assert await service.qemu_agent_command(uuid, ping) == '{"return":{}}'
    assert await machine.cli_ok("qemu-agent-command", "guest", ping, "--timeout", "30") == '{"return":{}}\n\n'
    assert await service.qemu_agent_command(uuid, ping, 0) is None
    assert await service.qemu_agent_command(uuid, ping, -1) == '{"return":{}}'
    with pytest.raises(AgentCommandFailed, match="The command guest-nothing has not been found"):
        await service.qemu_agent_command(uuid, '{"execute":"guest-nothing"}')
    with pytest.raises(InternalRefused, match="cannot parse json"):
        await service.qemu_agent_command(uuid, "guest-ping")


async def test_methods_that_qemu_has_not(machine: Machine) -> None:
    with pytest.raises(BareInvalidArg) as caught:
        await machine.service.shutdown(machine.uuid, ShutdownMethod.INITCTL)
    assert str(caught.value) == "unsupported flags (0x4) in function qemuDomainShutdownFlags"


async def test_what_virsh_asks_the_agent(machine: Machine) -> None:
    """By way of the daemon. Texts are what libvirtd 11.3 says of the same guest."""
    if shutil.which("virsh") is None:
        pytest.skip("no virsh here (script/setup --with-parity installs it)")
    path = machine.folder / "sock"
    process = daemon.start(machine.folder / "root", path)

    async def virsh(*words: str) -> tuple[int, str]:
        done = await asyncio.create_subprocess_exec(
            *("virsh", "-q", "-c", f"qemu:///system?socket={path}", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await done.communicate()
        assert done.returncode is not None
        return done.returncode, said.decode().strip()

    try:
        status, told = await virsh("guestinfo", NAME)
        found = dict(re.split(r"\s*: ", line, maxsplit=1) for line in told.splitlines())
        expected = {"os.machine": "x86_64", "hostname": "lab", "fs.count": "1", "fs.0.mountpoint": "/mnt/vdb"}
        expected |= {"fs.0.fstype": "ext4", "fs.0.disk.0.alias": "vdb", "disk.0.alias": "vda"}
        expected |= {"if.0.name": "lo", "if.0.addr.0.addr": "127.0.0.1"}
        assert status == 0
        assert expected.items() <= found.items()
        status, told = await virsh("domfsinfo", NAME)
        assert (status, told.split()) == (0, ["/mnt/vdb", "vdb", "ext4", "vdb"])
        assert await virsh("domfsfreeze", NAME) == (0, "")
        assert await stands_still(machine)
        failed = "error: guest agent command failed: unable to execute QEMU agent command"
        status, told = await virsh("domfsfreeze", NAME)
        assert (status, told.splitlines()[1].startswith(f"{failed} 'guest-fsfreeze-freeze': ")) == (1, True)
        assert await virsh("domfsthaw", NAME) == (0, "")
        await moves_on(machine)
        status, told = await virsh("set-user-password", NAME, "root", "x")
        assert (status, told.startswith(f"{failed} 'guest-set-user-password': ")) == (1, True)
        if "load.1m" not in found:  # agents from QEMU 9.2 on
            assert (await virsh("guestinfo", NAME, "--load"))[1].startswith(f"{failed} 'guest-get-load': ")
    finally:
        daemon.stop(process)
