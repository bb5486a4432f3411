from __future__ import annotations

import asyncio
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import virtsnap
from tests.api.fake_service import FakeService
from virtsnap.api import aio, sync
from virtsnap.api.names import PUBLIC
from virtsnap.api.portal import Portal
from virtsnap.model.errors import NoDomain, OperationInvalid
from virtsnap.service.interface import PlanReport, Progress

XML = "<domainsnapshot><name>{}</name></domainsnapshot>"


@pytest.fixture(name="service")
def _service() -> FakeService:
    service = FakeService()
    service.add("demo", running=True)
    return service


@pytest.fixture(name="connection")
def _connection(service: FakeService) -> Iterator[sync.Connection]:
    portal = Portal()
    with sync.Connection(aio.Connection(service), portal) as connection:
        yield connection


def test_a_snapshot_taken_reverted_to_and_deleted(connection: sync.Connection) -> None:
    domain = connection.lookupByName("demo")
    base = domain.snapshotCreateXML(XML.format("base"))
    later = domain.snapshotCreateXML(XML.format("later"))
    assert isinstance(later, sync.DomainSnapshot)
    assert later.getParent() == base
    assert domain.revertToSnapshot(base) == 0
    assert domain.snapshotCurrent() == base
    assert [one.getName() for one in domain.listAllSnapshots()] == ["base", "later"]
    assert later.getDomain() == domain
    assert later.getConnect() == connection
    assert later.delete() == 0
    assert isinstance(base.delete(dry_run=True), PlanReport)


def test_errors_come_through(connection: sync.Connection) -> None:
    with pytest.raises(NoDomain, match="no domain with matching name 'x'"):
        connection.lookupByName("x")


def test_after_close_nothing_hangs(service: FakeService) -> None:
    connection = sync.Connection(aio.Connection(service), Portal())
    domain = connection.lookupByName("demo")
    connection.close()
    connection.close()
    assert service.closed
    with pytest.raises(OperationInvalid, match="closed"):
        domain.isActive()


def test_the_thread_ends_with_the_connection(service: FakeService) -> None:
    before = threading.active_count()
    connection = sync.Connection(aio.Connection(service), Portal())
    assert threading.active_count() == before + 1
    connection.close()
    assert threading.active_count() == before


def test_a_call_from_a_progress_callback_is_refused_not_deadlocked(connection: sync.Connection) -> None:
    domain = connection.lookupByName("demo")
    refused: list[str] = []

    def call_back(progress: Progress) -> None:
        try:
            domain.isActive()
        except RuntimeError as error:
            refused.append(str(error))

    domain.snapshotCreateXML(XML.format("x"), progress=call_back)
    assert len(refused) == 2


def test_an_interrupt_waits_for_the_undo(
    connection: sync.Connection, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.hold = asyncio.Event()
    domain = connection.lookupByName("demo")

    def interrupted(progress: Progress) -> None:
        # The operation has begun: interrupt the thread that waits for it, as Ctrl-C does.
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        domain.snapshotCreateXML(XML.format("x"), progress=interrupted)
    assert service.undone == 1
    assert domain.snapshotNum() == 0


def test_the_package_shows_it_lazily() -> None:
    assert virtsnap.open is sync.open
    assert virtsnap.aio is aio
    assert virtsnap.Connection is sync.Connection
    assert virtsnap.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY == virtsnap.SnapshotCreate.DISK_ONLY == 16
    assert virtsnap.VIR_DOMAIN_SHUTOFF == 5
    assert "open" in dir(virtsnap)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(virtsnap, "nonsense")  # noqa: B009


def test_what_type_checkers_see_is_there() -> None:
    stub = Path(virtsnap.__file__).with_name("__init__.pyi").read_text()
    shown = set(re.findall(r" as (\w+)$", stub, re.MULTILINE))
    assert shown == {*PUBLIC, "aio"}
    for name in shown:
        assert getattr(virtsnap, name) is not None
