"""virtsnapd beside a real libvirtd: what a call costs its client.

One plain client asks both daemons the same bytes over their sockets and reads the answers without looking
into them, so that what is measured is the daemon. Each figure is the median of many rounds.
"""

from __future__ import annotations

import itertools
import select
import statistics
import time
import uuid as uuids
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import guest, sides
from lab.demo import DemoError
from lab.sides import Side
from tests.server.raw import Raw
from virtsnap.formats.snapshot_xml import parse_snapshot
from virtsnap.store.database import open_store
from virtsnap.wire.frames import Frame, Kind, Status
from virtsnap.wire.procedures import REMOTE
from virtsnap.wire.values import ErrorInfo, WireDomain

_URI = "qemu:///session"
_CLIENTS = 20
_CALLS = 1000
_REDEFINE = 1
_SNAPSHOTS_METADATA = 2
_SECONDS = 120
"""The longest wait for an answer."""
_STATUS = slice(24, 28)
_OK = bytes(4)


class Client(Raw):
    """An open connection that can also ask without looking at the answer."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.socket.settimeout(_SECONDS)
        self.open(name=_URI)

    def ask(self, request: bytes) -> None:
        """Send the bytes of a call and read its answer. Raises DemoError when it is an error."""
        self.socket.sendall(request)
        self.skip()

    def skip(self) -> None:
        """Read one answer."""
        data = self.socket.recv(65536)
        while len(data) < 4 or len(data) < (length := int.from_bytes(data[:4], "big")):
            more = self.socket.recv(max(65536, length - len(data) if len(data) >= 4 else 0))
            if not more:
                raise DemoError("the daemon has hung up")
            data += more
        if data[_STATUS] != _OK:
            raise DemoError(f"the daemon refuses a call: {data[28:]!r}")

    def get(self, name: str, *arguments: object) -> object:
        """What is answered. Raises DemoError for an error."""
        answer = self.call(name, *arguments)
        if isinstance(answer, ErrorInfo):
            raise DemoError(f"{name}: {answer.message}")
        return answer

    def define(self, xml: str) -> WireDomain:
        """Define a domain."""
        domain = self.get("domain_define_xml_flags", xml, 0)
        assert isinstance(domain, WireDomain)
        return domain


def request(name: str, *arguments: object) -> bytes:
    """The bytes of a call."""
    procedure = REMOTE[name]
    payload = procedure.pack_arguments(*arguments)
    return Frame(REMOTE.number, 1, procedure.number, Kind.CALL, 1, Status.OK, payload).pack()


def median(rounds: int, once: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Seconds that it takes; the first time does not count, nor does what is done before each time."""
    found = []
    for _ in range(rounds + 1):
        before()
        begin = time.perf_counter()
        once()
        found.append(time.perf_counter() - begin)
    return statistics.median(found[1:])


def by_domains(
    side: Side, folder: Path, image: guest.GuestImage, count: int, rounds: int
) -> dict[str, str | float | None]:
    """So many domains that are defined and shut off."""
    rest = _resident(side)
    with Client(side.socket) as client, _defined(client, folder, count) as domains:
        figures: dict[str, str | float | None] = {"connect, list": _listing(side, rounds)}
        listing = request("connect_list_all_domains", 1, 0)
        figures["list, after a change"] = median(
            rounds, lambda: client.ask(listing), _change(client, domains[-1])
        )
        figures |= _calls(side, client, domains[0], rounds)
        figures["memory, at rest"] = f"{rest / 2**20:.1f} MiB"
        figures["memory, afterwards"] = f"{_resident(side) / 2**20:.1f} MiB"
    return figures


def by_running(
    side: Side, folder: Path, image: guest.GuestImage, count: int, rounds: int
) -> dict[str, str | float | None]:
    """So many domains that run (their firmware, waiting)."""
    with Client(side.socket) as client, _defined(client, folder, count) as domains:
        side.own(folder)
        try:
            for domain in domains:
                client.get("domain_create", domain)
            figures: dict[str, str | float | None] = {"connect, list": _listing(side, rounds)}
            figures |= _calls(side, client, domains[0], rounds)
        finally:
            for domain in domains:
                client.call("domain_destroy", domain)
    return figures


def by_listed(
    side: Side, folder: Path, image: guest.GuestImage, count: int, rounds: int
) -> dict[str, str | float | None]:
    """A domain with so many snapshots, each on the one before."""
    with Client(side.socket) as client, _defined(client, folder, 1) as domains:
        _snapshots(side, client, domains[0], count)
        listing = request("domain_list_all_snapshots", domains[0], 1, 0)
        names = request("domain_snapshot_list_names", domains[0], count, 0)
        figures: dict[str, str | float | None] = {
            "snapshot-list": median(rounds, lambda: client.ask(listing)),
            "snapshot-list --name": median(rounds, lambda: client.ask(names)),
            "snapshot-list, after a change": median(
                rounds, lambda: client.ask(listing), _change(client, domains[0])
            ),
            "snapshot-list, after a snapshot": median(
                rounds, lambda: client.ask(listing), _snapshot(client, domains[0])
            ),
        }
        client.get("domain_undefine_flags", domains.pop(), _SNAPSHOTS_METADATA)
        return figures


def _change(client: Client, domain: WireDomain) -> Callable[[], None]:
    """Writes something else about the domain each time: what was remembered has to be looked at anew."""
    texts = itertools.count()

    def once() -> None:
        client.get("domain_set_metadata", domain, 0, f"text {next(texts)}", None, None, 2)

    return once


def _snapshot(client: Client, domain: WireDomain) -> Callable[[], None]:
    """Adds another snapshot each time."""
    numbers = itertools.count()
    definition = client.get("domain_get_xml_desc", domain, 0)

    def once() -> None:
        text = _DOCUMENT.format(name=f"new{next(numbers)}", parent="", time=1800000000, definition=definition)
        client.get("domain_snapshot_create_xml", domain, text, _REDEFINE)

    return once


def _snapshots(side: Side, client: Client, domain: WireDomain, count: int) -> None:
    """Have the domain have so many. Only their lists are measured: in our store they are made all at once."""
    definition = client.get("domain_get_xml_desc", domain, 0)
    texts = []
    for number in range(count):
        parent = f"<parent><name>s{number - 1}</name></parent>" if number else ""
        time = 1700000000 + number
        texts.append(_DOCUMENT.format(name=f"s{number}", parent=parent, time=time, definition=definition))
    if side.root is None:
        for text in texts:
            client.get("domain_snapshot_create_xml", domain, text, _REDEFINE)
        return
    store = open_store(side.root)
    with store.transaction() as tx:
        for text in texts:
            tx.put_snapshot(domain.uuid_text, parse_snapshot(text, redefine=True, offline=False, now=0))
    store.close()


def _listing(side: Side, rounds: int) -> float:
    listing = request("connect_list_all_domains", 1, 0)

    def once() -> None:
        with Client(side.socket) as fresh:
            fresh.ask(listing)

    return median(rounds, once)


def _calls(side: Side, client: Client, domain: WireDomain, rounds: int) -> dict[str, str | float | None]:
    """What a monitoring program asks of one domain, and of all."""
    few = _CALLS // 10
    return {
        f"domstate, {_CALLS} times": median(rounds, _repeat(client, _CALLS, "domain_get_state", domain, 0)),
        f"dominfo, {few} times": median(rounds, _repeat(client, few, "domain_get_info", domain)),
        f"dumpxml, {few} times": median(rounds, _repeat(client, few, "domain_get_xml_desc", domain, 0)),
        "domstats of all": median(rounds, _repeat(client, 1, "connect_get_all_domain_stats", [], 0, 0)),
        f"{_CLIENTS} clients, {few} calls each": median(rounds, lambda: _crowd(side, few, domain)),
    }


def _repeat(client: Client, times: int, name: str, *arguments: object) -> Callable[[], None]:
    asked = request(name, *arguments)

    def once() -> None:
        for _ in range(times):
            client.ask(asked)

    return once


def _crowd(side: Side, calls: int, domain: WireDomain) -> None:
    """Many clients at once, each of whom asks again as soon as it is answered."""
    asked = [request("domain_get_state", domain, 0), request("domain_get_info", domain)]
    clients = {client.socket.fileno(): client for client in (Client(side.socket) for _ in range(_CLIENTS))}
    left = dict.fromkeys(clients, calls)
    poll = select.poll()
    try:
        for number, client in clients.items():
            poll.register(number, select.POLLIN)
            client.socket.sendall(asked[0])
        while left:
            for number, _ in poll.poll(30_000):
                client = clients[number]
                client.skip()
                left[number] -= 1
                if left[number]:
                    client.socket.sendall(asked[left[number] % 2])
                else:
                    poll.unregister(number)
                    del left[number]
    finally:
        for client in clients.values():
            client.socket.close()


@contextmanager
def _defined(client: Client, folder: Path, count: int) -> Iterator[list[WireDomain]]:
    """So many machines in which nothing boots, each with a disk; they are gone afterwards."""
    disk = folder / "vda.qcow2"
    domains = []
    for number in range(count):
        # Only what runs needs an image of its own.
        path = disk if not number else disk.with_name(f"{number}.qcow2") if count < 100 else disk
        if not path.exists():
            sides.create_disk(path)
        domains.append(client.define(_MACHINE.format(number=number, uuid=uuids.uuid4(), disk=path)))
    yield domains
    for domain in domains:
        client.get("domain_undefine_flags", domain, 0)


def _resident(side: Side) -> int:
    """Bytes of the daemon's memory."""
    for line in Path(f"/proc/{side.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise DemoError("the daemon has gone")


_DOCUMENT = (
    "<domainsnapshot><name>{name}</name><state>shutoff</state>{parent}"
    "<creationTime>{time}</creationTime><memory snapshot='no'/>"
    "<disks><disk name='vda' snapshot='internal'/></disks>{definition}</domainsnapshot>"
)
_MACHINE = """<domain type='qemu'>
  <name>machine-{number}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>
    <controller type='usb' model='none'/>
    <serial type='pty'/>
    <video><model type='vga'/></video>
  </devices>
</domain>
"""
