"""Calls that are answered on the spot: however their bytes come, and whatever happened just before."""

from __future__ import annotations

import os
import signal

import pytest

from tests.server.conftest import Served
from tests.server.raw import Raw
from virtsnap.qemu import process
from virtsnap.service.local import open_local
from virtsnap.wire.frames import Frame, Kind, Status
from virtsnap.wire.keepalive import PING, PONG
from virtsnap.wire.procedures import REMOTE
from virtsnap.wire.values import ErrorInfo, WireDomain

pytestmark = pytest.mark.real


def call(serial: int, name: str, *arguments: object) -> bytes:
    procedure = REMOTE[name]
    payload = procedure.pack_arguments(*arguments)
    return Frame(REMOTE.number, 1, procedure.number, Kind.CALL, serial, Status.OK, payload).pack()


def test_in_pieces_and_in_lumps(served: Served) -> None:
    served.define("pieces")
    with Raw(served.socket).open() as raw:
        domain = raw.call("domain_lookup_by_name", "pieces")
        state, listing = call(1, "domain_get_state", domain, 0), call(2, "connect_list_all_domains", 1, 0)
        for cut in (1, 4, 27, len(state) - 1):
            raw.socket.sendall(state[:cut])
            raw.socket.sendall(state[cut:])
            answer = raw.receive()
            assert answer is not None
            assert raw.value(answer) == (5, 0)
        raw.socket.sendall(state + listing + PING.pack() + state + listing[:30])
        raw.socket.sendall(listing[30:])
        found = [raw.receive() for _ in range(5)]
        assert PONG in found
        answers = [one for one in found if one is not None and one != PONG]
        assert sorted(one.serial for one in answers) == [1, 1, 2, 2]
        for one in answers:
            assert raw.value(one) == ((5, 0) if one.serial == 1 else ([domain], 1))


def test_errors_are_those_of_the_usual_way(served: Served) -> None:
    served.define("errors")
    with Raw(served.socket).open(flags=1) as raw:
        domain = raw.call("domain_lookup_by_name", "errors")
        unknown = WireDomain("nobody", bytes(16), -1)
        for name, arguments, message in (
            ("domain_get_state", (unknown, 0), "no domain with matching uuid"),
            ("domain_get_state", (domain, 8), "unsupported flags (0x8) in function qemuDomainGetState"),
            ("domain_get_xml_desc", (domain, 1), "virDomainGetXMLDesc with secure flag"),
            ("domain_lookup_by_name", ("nobody",), "no domain with matching name 'nobody'"),
        ):
            error = raw.call(name, *arguments)
            assert isinstance(error, ErrorInfo)
            assert message in str(error.message)
        broken = call(9, "domain_get_state", domain, 0)[:-8]
        raw.socket.sendall(len(broken).to_bytes(4, "big") + broken[4:])
        answer = raw.receive()
        assert answer is not None
        assert answer.status is Status.ERROR


async def test_what_another_process_does(served: Served) -> None:
    served.define("other")
    here = await open_local(served.folder / "root")
    with Raw(served.socket).open() as raw:
        domain = raw.call("domain_lookup_by_name", "other")
        uuid = domain.uuid_text

        def state() -> tuple[int, int]:
            seen = [raw.call("domain_get_state", domain, 0) for _ in range(3)]
            assert seen == [seen[0]] * 3
            active = raw.call("connect_list_all_domains", 1, 1)
            assert (uuid in [one.uuid_text for one in active[0]]) == (seen[0][0] != 5)
            found: tuple[int, int] = seen[0]
            return found

        assert state() == (5, 0)
        await here.create(uuid)
        assert state() == (1, 1)
        assert raw.call("domain_get_info", domain)[0] == 1
        assert "<domain type='qemu' id='" in raw.call("domain_get_xml_desc", domain, 0)
        await here.suspend(uuid)
        assert state() == (3, 1)
        record = here.store.domain(uuid)
        assert record is not None
        assert record.instance is not None
        os.kill(record.instance.pid, signal.SIGKILL)
        assert await process.wait_gone(record.instance, 30)
        assert state() == (5, 3)
        assert "id='" not in raw.call("domain_get_xml_desc", domain, 0).split(">")[0]
        await here.set_metadata(uuid, 0, "from another process")
        assert "from another process" in raw.call("domain_get_xml_desc", domain, 0)
        await here.undefine(uuid)
        error = raw.call("domain_get_state", domain, 0)
        assert isinstance(error, ErrorInfo)
        assert error.code == 42
    await here.close()
