"""What clients are told: all of it, in order, whoever does it; and no more once they do not want it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import pytest

from tests.server.conftest import Served
from tests.server.raw import Raw
from virtsnap.model.errors import InternalRefused
from virtsnap.model.event import DomainEvent, EventKind, Life
from virtsnap.server.events import WISHES_MAX, ClientEvents, Events
from virtsnap.service.local import open_local
from virtsnap.wire.events import event_of
from virtsnap.wire.frames import Kind
from virtsnap.wire.procedures import REMOTE

pytestmark = pytest.mark.real


class Listener(Raw):
    """A client that is told of everything."""

    def listen(self) -> None:
        self.open()
        self.ids = {
            self.call("connect_domain_event_callback_register_any", kind, None): kind for kind in range(28)
        }

    def until(self, life: Life) -> list[DomainEvent]:
        """What comes, up to a lifecycle event."""
        found = []
        while True:
            frame = self.receive()
            assert frame is not None
            assert frame.kind is Kind.MESSAGE
            told = event_of(frame, 0.0)
            assert told is not None
            callback, event = told
            assert self.ids[callback] == event.kind
            found.append(event)
            if event.kind is EventKind.LIFECYCLE and event.change.number("event") == life:
                return found


def _lives(events: list[DomainEvent]) -> list[tuple[int, int]]:
    return [
        (event.change.number("event"), event.change.number("detail"))
        for event in events
        if event.kind is EventKind.LIFECYCLE
    ]


def test_a_life(served: Served) -> None:
    with Listener(served.socket) as listener:
        listener.listen()
        served.define("e")
        assert _lives(listener.until(Life.DEFINED)) == [(0, 0)]
        served.ok("desc", "e", "words")
        frame = listener.receive()
        assert frame is not None
        assert REMOTE["domain_event_callback_metadata_change"].number == frame.procedure
        served.ok("start", "e")
        assert _lives(listener.until(Life.STARTED)) == [(4, 0), (2, 0)]
        served.ok("suspend", "e")
        assert _lives(listener.until(Life.SUSPENDED)) == [(3, 0)]
        served.ok("resume", "e")
        assert _lives(listener.until(Life.RESUMED)) == [(4, 0)]
        served.ok("save", "e", "e.sav")
        saved = listener.until(Life.STOPPED)
        assert _lives(saved) == [(3, 0), (6, 2), (5, 4)]
        assert EventKind.JOB_COMPLETED in [event.kind for event in saved]
        assert saved[-1].id is None
        served.ok("restore", "e.sav")
        assert (2, 2) in _lives(listener.until(Life.RESUMED))
        served.ok("destroy", "e")
        assert _lives(listener.until(Life.STOPPED)) == [(6, 2), (5, 1)]
        served.ok("undefine", "e")
        assert _lives(listener.until(Life.UNDEFINED)) == [(1, 0)]


def test_what_others_do_is_told_too(served: Served) -> None:
    served.define("o")

    async def start_and_kill() -> None:
        service = await open_local(served.folder / "root")
        uuid = (await service.lookup_by_name("o")).uuid
        await service.create(uuid)
        record = service.store.domain(uuid)
        assert record is not None
        assert record.instance is not None
        subprocess.run(["kill", f"-{signal.SIGKILL.value}", str(record.instance.pid)], check=True)
        await service.close()

    with Listener(served.socket) as listener:
        listener.listen()
        asyncio.run(start_and_kill())
        assert _lives(listener.until(Life.STOPPED))[-1][0] == Life.STOPPED
    assert "shut off" in served.ok("domstate", "o")
    served.ok("undefine", "o")


def test_only_what_is_wanted_and_no_longer_than_that(served: Served) -> None:
    served.define("a")
    served.define("b")
    with Raw(served.socket) as client:
        a = client.open().call("domain_lookup_by_name", "a")
        mine = client.call("connect_domain_event_callback_register_any", EventKind.LIFECYCLE, a)
        every = client.call("connect_domain_event_callback_register_any", EventKind.LIFECYCLE, None)
        served.ok("undefine", "b")
        first = client.receive()
        assert first is not None
        told = event_of(first, 0.0)
        assert told is not None
        assert (told[0], told[1].name) == (every, "b")
        assert client.call("connect_domain_event_callback_deregister_any", every) is None
        served.ok("undefine", "a")
        second = client.receive()
        assert second is not None
        told = event_of(second, 0.0)
        assert told is not None
        assert (told[0], told[1].name) == (mine, "a")
        assert client.call("connect_domain_event_callback_deregister_any", mine) is None
        refused = client.call("connect_domain_event_callback_deregister_any", mine)
        assert refused.message == f"internal error: domain event callback {mine} not registered"


def test_clients_without_callback_ids(served: Served) -> None:
    with Raw(served.socket) as client:
        client.open()
        assert client.call("connect_domain_event_register") == 1
        assert "already registered" in client.call("connect_domain_event_register").message
        refused = client.call("connect_domain_event_register_any", 16)
        assert refused.message == "internal error: unsupported event ID 16"
        served.define("c")
        frame = client.receive()
        assert frame is not None
        assert frame.procedure == 107
        assert client.call("connect_domain_event_deregister") == 0
        served.ok("undefine", "c")
        assert client.call("connect_get_type") == "QEMU"


@pytest.mark.parametrize(
    ("register", "deregister"),
    [
        ("connect_network_event_register_any", "connect_network_event_deregister_any"),
        ("connect_node_device_event_register_any", "connect_node_device_event_deregister_any"),
        ("connect_secret_event_register_any", "connect_secret_event_deregister_any"),
    ],
)
def test_events_that_never_come(served: Served, register: str, deregister: str) -> None:
    with Raw(served.socket) as client:
        number = client.open().call(register, 0, None)
        assert client.call(deregister, number) is None
        assert "not registered" in client.call(deregister, number).message


def test_an_event_that_does_not_exist(served: Served) -> None:
    with Raw(served.socket) as client:
        error = client.open().call("connect_domain_event_callback_register_any", 99, None)
        assert (error.code, error.domain, error.message) == (1, 7, "internal error: unsupported event ID 99")


async def test_a_registration_of_a_client_that_has_gone_is_none(tmp_path: Path) -> None:
    """A call goes on when its client hangs up; what it registers nobody would ever take back."""
    service = await open_local(tmp_path)
    events = Events(service)
    gone, here = ClientEvents(events, lambda frame: None), ClientEvents(events, lambda frame: None)
    gone.close()
    await gone.register(EventKind.LIFECYCLE)
    await gone.register_old(EventKind.LIFECYCLE)
    assert events.wishes == 0
    await here.register(EventKind.LIFECYCLE)
    await here.register_old(EventKind.LIFECYCLE)
    assert events.wishes == 2
    here.close()
    assert events.wishes == 0
    await events.close()
    await service.close()


async def test_registrations_have_a_limit(tmp_path: Path) -> None:
    service = await open_local(tmp_path)
    events = Events(service)
    client = ClientEvents(events, lambda frame: None)
    for _ in range(WISHES_MAX):
        await client.register(EventKind.LIFECYCLE)
    with pytest.raises(InternalRefused, match="too many event callbacks"):
        await client.register(EventKind.LIFECYCLE)
    with pytest.raises(InternalRefused, match="too many event callbacks"):
        await client.register(None)
    assert client.deregister(0)
    await client.register(EventKind.LIFECYCLE)
    client.close()
    assert events.wishes == 0
    await events.close()
    await service.close()


def test_virsh_event(served: Served) -> None:
    served.ok("uri")  # skips where there is no virsh
    served.define("v")
    with (
        subprocess.Popen(
            ["virsh", "-c", served.uri, "event", "--event", "lifecycle", "--timeout", "20"],
            stdout=subprocess.PIPE,
            text=True,
        ) as waiting,
        Raw(served.socket) as client,
    ):
        # virsh does not say when it listens: do something until it has heard it.
        client.open()
        vm = client.call("domain_lookup_by_name", "v")
        xml = client.call("domain_get_xml_desc", vm, 2)
        while waiting.poll() is None:
            assert client.call("domain_define_xml", xml).name == "v"
        assert waiting.stdout is not None
        said = waiting.stdout.read()
    assert "event 'lifecycle' for domain 'v': Defined Updated\n" in said
    assert "events received: 1" in said
    served.ok("undefine", "v")


def test_autodestroy(served: Served) -> None:
    served.define("auto")
    with Listener(served.socket) as listener:
        listener.listen()
        with Raw(served.socket) as client:
            dom = client.open().call("domain_lookup_by_name", "auto")
            assert client.call("domain_create_with_flags", dom, 3).id != -1  # PAUSED, AUTODESTROY
            listener.until(Life.STARTED)
        assert _lives(listener.until(Life.STOPPED))[-1] == (Life.STOPPED, 1)  # destroyed
    served.ok("undefine", "auto")
