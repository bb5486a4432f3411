"""Answers that are remembered are right at once when anything happens, whoever did it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.service.local_domain import BareDomain
from virtsnap.engine.world import query_path
from virtsnap.model.domain import DomainRecord, DomainState, Reason
from virtsnap.model.errors import NoDomain
from virtsnap.model.flags import DomainList, DomainXml
from virtsnap.qemu import process
from virtsnap.qemu.monitor import Monitor
from virtsnap.service import questions
from virtsnap.service.interface import WouldWait
from virtsnap.service.local import LocalService, open_local

pytestmark = pytest.mark.real


@pytest.fixture
async def other(bare: BareDomain) -> AsyncIterator[LocalService]:
    """Another service on the same folder, which asks all the time."""
    service = await open_local(bare.folder / "root")
    yield service
    await service.close()


async def told(service: LocalService, uuid: str) -> tuple[Reason, int | None, str, list[str]]:
    """Everything that is remembered, asked twice."""
    for _ in range(2):
        reason = (await service.domain_state(uuid))[1]
        info = await service.domain_info(uuid)
        running = [handle.name for handle in await service.list_domains(DomainList.ACTIVE)]
        xml = await service.domain_xml(uuid)
        assert info.state is reason.state
        assert ("id='" in xml.split(">")[0]) == (info.id is not None) == bool(running)
        try:
            now = service.at_once(service.domain_info(uuid))
        except WouldWait:
            assert service.readonly, "who looks may write down what has happened"
            continue
        assert replace(now, cpu_time_ns=info.cpu_time_ns) == info
        assert service.at_once(service.domain_xml(uuid)) == xml
        assert service.at_once(service.domain_state(uuid)) == (reason.state, reason)
    return reason, info.id, info.name, running


async def test_what_others_do(bare: BareDomain, other: LocalService) -> None:
    uuid = bare.uuid
    assert await told(other, uuid) == (Reason.SHUTOFF_UNKNOWN, None, "bare", [])
    await bare.cli_ok("start", "bare")
    assert await told(other, uuid) == (Reason.RUNNING_BOOTED, 1, "bare", ["bare"])
    await bare.service.suspend(uuid)
    assert (await told(other, uuid))[0] is Reason.PAUSED_USER
    await bare.service.resume(uuid)
    assert (await told(other, uuid))[0] is Reason.RUNNING_UNPAUSED
    await bare.service.set_autostart(uuid, True)
    assert (await other.domain_info(uuid)).autostart
    assert len(await other.list_domains(DomainList.AUTOSTART)) == 1
    await bare.disk_only("s")
    assert list(await other.snapshot_tree(uuid)) == list(await bare.service.snapshot_tree(uuid))
    assert await other.snapshot_tree(uuid) is await other.snapshot_tree(uuid)
    assert "vda.s" in await other.domain_xml(uuid)
    assert len(await other.list_domains(DomainList.HAS_SNAPSHOT)) == 1
    await bare.service.destroy(uuid)
    assert await told(other, uuid) == (Reason.SHUTOFF_DESTROYED, None, "bare", [])
    await bare.service.rename(uuid, "renamed")
    assert (await told(other, uuid))[2] == "renamed"
    xml = (await bare.service.domain_xml(uuid, DomainXml.INACTIVE)).replace(">16384<", ">32768<")
    await bare.service.define_xml(xml)
    assert (await other.domain_info(uuid)).max_memory_kib == 32768
    await bare.service.snapshot_delete(uuid, "s")
    assert len(await other.snapshot_tree(uuid)) == 0


async def test_a_qemu_that_is_killed(bare: BareDomain, other: LocalService) -> None:
    await bare.start()
    looking = await open_local(bare.folder / "root", readonly=True)
    for service in (other, looking):
        assert (await told(service, bare.uuid))[0] is Reason.RUNNING_BOOTED
    instance = bare.instance
    os.kill(instance.pid, signal.SIGKILL)
    assert await process.wait_gone(instance, 30)
    for service in (looking, other, looking):
        assert await told(service, bare.uuid) == (Reason.SHUTOFF_CRASHED, None, "bare", [])
    await looking.close()


async def test_a_transient_one_that_ends(bare: BareDomain, other: LocalService) -> None:
    await bare.start()
    await bare.service.undefine(bare.uuid)
    assert (await told(other, bare.uuid))[0] is Reason.RUNNING_BOOTED
    os.kill(bare.instance.pid, signal.SIGKILL)
    assert await process.wait_gone(bare.instance, 30)
    with pytest.raises(NoDomain):
        await other.domain_state(bare.uuid)
    assert len(await other.list_domains()) == 0
    bare.ended = True
    await bare.service.close()


async def test_what_a_qemu_says(
    bare: BareDomain, other: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops and goes on without our doing; and whatever it says, its balloon may have changed."""
    await bare.start()
    asked = []

    async def ask_soon(record: DomainRecord, command: str, seconds: float) -> dict[str, int]:
        asked.append(command)
        return {"actual": len(asked) << 20}

    monkeypatch.setattr(questions, "ask_soon", ask_soon)
    for _ in range(3):
        assert (await other.domain_info(bare.uuid)).used_memory_kib == 1024
        assert "<currentMemory unit='KiB'>1024<" in await other.domain_xml(bare.uuid)
    async with other.events() as events, await Monitor.connect(query_path(bare.instance.run_dir)) as monitor:
        for number, (command, state) in enumerate(
            (("stop", DomainState.PAUSED), ("cont", DomainState.RUNNING)), start=2
        ):
            await monitor.execute(command)
            await anext(events)
            for _ in range(3):
                assert (await other.domain_state(bare.uuid))[0] is state
                assert (await other.domain_info(bare.uuid)).used_memory_kib == number * 1024
    assert asked == ["query-balloon"] * 3
