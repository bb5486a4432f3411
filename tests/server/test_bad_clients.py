"""Clients that do it wrong: each meets a clear end or a clear error, and nobody else notices."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import stat
from pathlib import Path

import pytest

from tests.server.conftest import Served
from tests.server.raw import Raw
from virtsnap.wire.frames import FRAME_MAX, Frame, Kind, Status
from virtsnap.wire.keepalive import PING, PONG
from virtsnap.wire.procedures import KEEPALIVE, REMOTE
from virtsnap.wire.values import WireDomain
from virtsnap.wire.xdr import STRING_MAX

pytestmark = pytest.mark.real
NOBODY = WireDomain("nobody", bytes(16), -1)


def _lives(served: Served) -> None:
    with Raw(served.socket) as client:
        assert client.open().call("connect_get_type") == "QEMU"


def _resident(served: Served) -> int:
    pages = Path(f"/proc/{served.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        bytes(4),
        (3).to_bytes(4, "big"),
        (27).to_bytes(4, "big") + bytes(23),
        (FRAME_MAX + 1).to_bytes(4, "big"),
        b"\xff" * 64,
        Frame(REMOTE.number, 1, 66, Kind.REPLY).pack(),
    ],
    ids=["http", "zero", "three", "short", "huge", "ones", "reply"],
)
def test_what_is_no_frame_closes_the_connection(served: Served, noise: bytes) -> None:
    with Raw(served.socket) as client:
        client.socket.sendall(noise)
        assert client.receive() is None
    _lives(served)


def _held(pid: int) -> set[str]:
    """What its descriptors lead to. Those of the clients before may close while we look."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(entry))
    return found


def test_descriptors_that_come_are_passed_over(served: Served, tmp_path: Path) -> None:
    get_type = REMOTE["connect_get_type"].number
    with Raw(served.socket) as client, open(tmp_path / "sent", "w") as file:
        client.open()
        call = Frame(REMOTE.number, 1, get_type, Kind.CALL_WITH_FDS, 99, descriptors=2)
        client.socket.sendall(call.pack())
        for _ in range(call.descriptors):
            socket.send_fds(client.socket, [b"\0"], [file.fileno()])
        answer = client.receive()
        assert answer is not None
        assert (answer.serial, client.value(answer)) == (99, "QEMU")
        assert client.call("connect_get_type") == "QEMU"
        assert file.name not in _held(served.process.pid)


def test_a_stranger_may_not_send_a_large_frame(served: Served) -> None:
    with Raw(served.socket) as client:
        client.socket.sendall((1024 * 1024).to_bytes(4, "big"))
        assert client.receive() is None


def test_noise_of_all_kinds(served: Served) -> None:
    dice = random.Random(1)
    for _ in range(200):
        with Raw(served.socket) as client:
            if dice.random() < 0.5:
                client.open()
            data = bytearray(Frame(REMOTE.number, 1, dice.choice([1, 14, 23, 60, 273]), Kind.CALL).pack())
            data += dice.randbytes(dice.randrange(60))
            data[:4] = len(data).to_bytes(4, "big")
            for _ in range(dice.randrange(4)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            client.socket.sendall(data[: dice.randrange(1, len(data) + 1)])
    _lives(served)


def test_half_a_frame_and_then_nothing(served: Served) -> None:
    with Raw(served.socket) as client:
        client.socket.sendall(Frame(REMOTE.number, 1, 66, Kind.CALL).pack()[:13])
        _lives(served)
    _lives(served)


def test_a_thousand_connections(served: Served) -> None:
    _lives(served)
    before = _resident(served)
    for _ in range(10):
        clients = [Raw(served.socket) for _ in range(100)]
        for client in clients[::2]:
            client.open()
        for client in clients:
            client.socket.close()
    _lives(served)
    assert _resident(served) - before < 16 * 1024 * 1024
    with Raw(served.socket) as client:
        client.open()
        assert len(os.listdir(f"/proc/{served.process.pid}/fd")) < 60


def test_a_client_that_never_reads(served: Served) -> None:
    """It sends until the daemon has had enough of it: the daemon closes, or reads no more."""
    before = _resident(served)
    with Raw(served.socket) as greedy:
        greedy.open()
        greedy.socket.setblocking(False)
        call = REMOTE["connect_get_hostname"]
        frame = Frame(REMOTE.number, 1, call.number, Kind.CALL).pack()
        sent = 0
        try:
            while sent < 40_000_000:
                sent += greedy.socket.send(frame * 1000)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass
        _lives(served)
        assert sent < 40_000_000
        assert _resident(served) - before < 32 * 1024 * 1024


def test_a_client_that_pings_and_never_reads_is_closed(served: Served) -> None:
    with Raw(served.socket) as greedy:
        greedy.open()
        pings = PING.pack() * 1_000_000
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            greedy.socket.sendall(pings)
    _lives(served)


def test_pings_are_answered_before_anything_else(served: Served) -> None:
    with Raw(served.socket) as client:
        assert client.exchange(PING) == PONG
        assert PONG.program == KEEPALIVE


def test_first_things_first(served: Served) -> None:
    with Raw(served.socket) as client:
        refused = client.call("connect_list_all_domains", 1, 0)
        assert (refused.code, refused.domain, refused.message) == (39, 7, "authentication required")
        assert client.call("auth_list") == [0]
        assert client.call("connect_supports_feature", 10) == 1
        for early in (client.call("connect_supports_feature", 14), client.call("connect_get_type")):
            assert (early.code, early.message) == (1, "internal error: hypervisor connection not open")
        assert client.call("connect_open", "qemu:///system", 0) is None
        again = client.call("connect_open", "qemu:///system", 0)
        assert again.message == "internal error: connection already open"


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("xen:///system", 5, "no connection driver available for xen:///system"),
        ("qemu:///bogus", 1, "internal error: unexpected qemu URI path '/bogus', try qemu:///system"),
        ("qemu://[/system", 5, "no connection driver available for qemu://[/system"),
        ("qemu://host/system", 5, "no connection driver available for qemu://host/system"),
        (None, 1, "internal error: connection not open"),
    ],
)
def test_uris_that_are_not_served(served: Served, name: str, code: int, message: str) -> None:
    with Raw(served.socket) as client:
        client.call("auth_list")
        refused = client.call("connect_open", name, 0)
        assert (refused.code, refused.message) == (code, message)


def test_the_uri_is_the_one_that_was_opened(served: Served) -> None:
    for name in ("qemu:///system", "qemu:///session", "qemu:///system?foo=bar"):
        with Raw(served.socket) as client:
            assert client.open(name=name).call("connect_get_uri") == name
    with Raw(served.socket) as client:
        assert client.open(name="").call("connect_get_uri").startswith("qemu:///s")


@pytest.mark.parametrize(
    ("frame", "code", "message"),
    [
        (Frame(REMOTE.number, 1, 9999, Kind.CALL), 39, "unknown procedure: 9999"),
        (Frame(REMOTE.number, 1, -1, Kind.CALL), 39, "unknown procedure: -1"),
        (Frame(REMOTE.number, 1, 318, Kind.CALL), 39, "unknown procedure: 318"),
        (Frame(REMOTE.number, 2, 3, Kind.CALL), 39, "Cannot find program 536903814 version 2"),
        (Frame(0x12345678, 1, 1, Kind.CALL), 39, "Cannot find program 305419896 version 1"),
        (Frame(REMOTE.number, 1, 3, Kind.CALL, status=Status.ERROR), 39, "Unexpected message status 1"),
        (Frame(REMOTE.number, 1, 23, Kind.CALL), 39, "Unable to decode message payload"),
        (
            Frame(REMOTE.number, 1, 23, Kind.CALL, payload=b"\0\x40\0\1" + bytes(8)),
            39,
            "Unable to decode message payload",
        ),
        (
            Frame(REMOTE.number, 1, 23, Kind.CALL, payload=b"\0\0\0\1x\1\1\1"),
            42,
            "Domain not found: no domain with matching name 'x'",
        ),
        (
            Frame(REMOTE.number, 1, 289, Kind.CALL, payload=bytes(8)),
            3,
            "this function is not supported by the connection driver: virNodeGetMemoryParameters",
        ),
    ],
    ids=lambda value: None,
)
def test_calls_that_cannot_be_answered(served: Served, frame: Frame, code: int, message: str) -> None:
    with Raw(served.socket) as client:
        answer = client.open().exchange(frame)
        assert answer is not None
        error = client.value(answer)
        assert (error.code, error.message, error.level) == (code, message, 2)
        assert client.call("connect_get_type") == "QEMU"  # the connection is as good as before


def test_more_than_the_arguments_is_fine(served: Served) -> None:
    with Raw(served.socket) as client:
        answer = client.open().exchange(Frame(REMOTE.number, 1, 3, Kind.CALL, 2**32 - 1, payload=b"more"))
        assert answer is not None
        assert (answer.serial, client.value(answer)) == (2**32 - 1, "QEMU")


def test_frames_of_a_stream_that_is_not_there_are_ignored(served: Served) -> None:
    with Raw(served.socket) as client:
        client.open()
        client.socket.sendall(Frame(REMOTE.number, 1, 201, Kind.STREAM, 3, Status.OK).pack())
        assert client.call("connect_get_type") == "QEMU"


@pytest.mark.parametrize("way", ["socket", "flag"])
def test_read_only_is_read_only(served: Served, way: str) -> None:
    path = Path(f"{served.socket}-ro") if way == "socket" else served.socket
    with Raw(path) as client:
        client.open(flags=int(way == "flag"))
        for procedure in REMOTE:
            if not procedure.writes:
                continue
            # Nothing that writes is even looked at, let alone carried out.
            answer = client.exchange(
                Frame(REMOTE.number, 1, procedure.number, Kind.CALL, payload=bytes(4096))
            )
            assert answer is not None
            error = client.value(answer)
            assert error.code == 29, procedure.name
            assert error.message == f"operation forbidden: read only access prevents {procedure.api}"
        assert client.call("connect_list_all_domains", 1, 3) == ([], 0)


def test_only_this_user_finds_the_door(served: Served) -> None:
    for path in (served.socket, Path(f"{served.socket}-ro")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_domain_that_is_not_there(served: Served) -> None:
    with Raw(served.socket) as client:
        error = client.open().call("domain_get_state", NOBODY, 0)
        assert error.code == 42


def test_nothing_is_called_nothing(served: Served) -> None:
    with Raw(served.socket) as client:
        client.open()
        for name, code in (
            ("domain_lookup_by_name", 42),
            ("storage_pool_lookup_by_name", 49),
            ("storage_pool_lookup_by_target_path", 49),
            ("storage_vol_lookup_by_path", 50),
            ("network_lookup_by_name", 43),
            ("node_device_lookup_by_name", 53),
        ):
            for text in ("", "/", ".", "..", "../x", "a/../b", "%n%s", "'", "\n"):
                assert client.call(name, text).code == code, (name, text)
            assert client.call(name, "\udcff").code in (8, code)  # bytes that are no text


def test_an_error_that_repeats_too_much_is_cut(served: Served) -> None:
    with Raw(served.socket) as client:
        error = client.open().call("domain_lookup_by_name", "x" * STRING_MAX)
        assert (error.code, len(error.message)) == (42, 1023)
        assert client.call("connect_get_type") == "QEMU"


def test_who_says_good_bye_and_talks_on_is_not_heard(served: Served) -> None:
    for _ in range(20):
        with Raw(served.socket) as client:
            client.open().send("connect_close")
            try:
                for _ in range(200):
                    client.send("connect_get_type")
            except (BrokenPipeError, ConnectionResetError):
                pass
            while client.receive() is not None:
                pass
    _lives(served)


def test_read_only_sees_no_secrets(served: Served) -> None:
    served.define("secret", "<graphics type='vnc' passwd='hush'/>")
    try:
        with Raw(Path(f"{served.socket}-ro")) as client:
            dom = client.open().call("domain_lookup_by_name", "secret")
            for flags in range(16):
                answer = client.call("domain_get_xml_desc", dom, flags)
                if flags & 9:  # SECURE, and MIGRATABLE, which is meant for another host
                    assert (answer.code, answer.message) == (
                        29,
                        "operation forbidden: virDomainGetXMLDesc with secure flag",
                    )
                else:
                    assert "<graphics type='vnc'" in answer
                    assert "hush" not in answer
        assert "hush" in served.ok("dumpxml", "secret", "--security-info")
        assert "hush" in served.ok("dumpxml", "secret", "--migratable", "--security-info")
    finally:
        served.ok("undefine", "secret")
