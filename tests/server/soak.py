"""Twenty clients that call whatever comes to mind: `script/soak [MINUTES]`.

Valid calls on a handful of domains and snapshots, shut off ones and one that runs, in any order, also such
that are refused; and five more clients that do it all wrong, see `rude`. The daemon must answer each of the
twenty, and keep neither memory nor descriptors of those who have gone.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests import daemon
from tests.parity.oracle import end_guests
from tests.server.rude import rude
from virtsnap.api.connect import open_service
from virtsnap.model.errors import VirtsnapError
from virtsnap.service.interface import Service

CLIENTS = 20
RUDE = 5
_DEVICES = "<serial type='pty'/><console type='pty'/><video><model type='vga'/></video>"
_SETTLE_SECONDS = 10
WATCH = 2
"""Descriptors by which the daemon hears of events, once somebody has asked for them."""
DOMAINS = 5


def _xml(folder: Path, number: int) -> str:
    image = folder / f"{number}.qcow2"
    if not image.exists():
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
    disk = f"<source file='{image}'/><target dev='vda' bus='virtio'/>"
    return (
        f"<domain type='qemu'><name>d{number}</name><uuid>{_uuid(number)}</uuid>"
        "<memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
        f"<disk type='file'><driver name='qemu' type='qcow2'/>{disk}</disk>{_DEVICES}</devices></domain>"
    )


def _uuid(number: int) -> str:
    return f"11111111-2222-4333-8444-{number:012d}"


async def _one(service: Service, dice: random.Random, folder: Path) -> None:
    number = dice.randrange(DOMAINS)
    uuid, snapshot = _uuid(number), f"s{dice.randrange(4)}"
    match dice.randrange(16):
        case 0:
            await service.list_domains(dice.choice((0, 1, 2, 3, 0x1000)))
        case 1 | 2:
            await service.domain_state(uuid)
        case 3 | 4:
            await service.domain_xml(uuid, dice.choice((0, 1, 2, 8, 1 << 20)))
        case 5 | 6:
            await service.domain_info(uuid)
        case 7:
            await service.lookup_by_name(f"d{dice.randrange(DOMAINS + 2)}")
        case 8 | 9:
            await service.snapshot_tree(uuid)
        case 10:
            await service.snapshot_xml(uuid, snapshot)
        case 11:
            await service.define_xml(_xml(folder, number))
        case 12:
            await service.set_metadata(uuid, 0, str(dice.random()))
        case 13 if number:
            await service.snapshot_create_xml(
                uuid, f"<domainsnapshot><name>{snapshot}</name></domainsnapshot>"
            )
        case 14 if number:
            await service.snapshot_delete(uuid, snapshot)
        case _:
            await service.block_info(uuid, "vda")


async def _client(uri: str, folder: Path, seed: int, until: float) -> tuple[int, int]:
    dice, done, refused = random.Random(seed), 0, 0
    while time.monotonic() < until:
        service = await open_service(uri)
        try:
            for _ in range(dice.randrange(1, 60)):
                try:
                    await _one(service, dice, folder)
                except VirtsnapError:
                    refused += 1
                done += 1
                if time.monotonic() >= until:
                    break
        finally:
            await service.close()
    return done, refused


async def _rude(path: Path, seed: int, until: float) -> int:
    dice, done = random.Random(seed), 0
    while time.monotonic() < until:
        await rude(path, _uuid(0), dice)
        done += 1
    return done


def descriptors(pid: int) -> int:
    """How many are open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


async def _settled(pid: int, service: Service, most: int) -> int:
    """Descriptors, when those who have hung up were seen off."""
    end = time.monotonic() + _SETTLE_SECONDS
    while (found := descriptors(pid)) > most and time.monotonic() < end:
        await service.list_domains()
    return found


@dataclass
class Soaked:
    """What came of it. `sizes`: memory after each part of the time; `kept`: descriptors that stay."""

    calls: int = 0
    refusals: int = 0
    rude: int = 0
    kept: int = 0
    sizes: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        grown = 100 * (self.sizes[-1] / self.sizes[len(self.sizes) // 2] - 1)
        sizes = " ".join(f"{size / 2**20:.1f}" for size in self.sizes)
        return (
            f"{self.calls} calls of {CLIENTS} clients, {self.refusals} of them refused; {self.rude} clients"
            f" hung up in the middle; {self.kept} descriptors more than at first\n"
            f"resident MiB: {sizes}; second half {grown:+.1f} %"
        )


def resident(pid: int) -> int:
    """Bytes of memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def soak(folder: Path, socket: Path, pid: int, seconds: float, parts: int = 10) -> Soaked:
    """See the module's text."""
    uri = f"qemu:///system?socket={socket}"
    service = await open_service(uri)
    for number in range(DOMAINS):
        await service.define_xml(_xml(folder, number))
    await service.create(_uuid(0))
    found, before = Soaked(), descriptors(pid) + WATCH
    for part in range(parts):
        until = time.monotonic() + seconds / parts
        good = asyncio.gather(
            *(_client(uri, folder, part * CLIENTS + number, until) for number in range(CLIENTS))
        )
        bad = asyncio.gather(*(_rude(socket, part * RUDE + number, until) for number in range(RUDE)))
        for done, refused in await good:
            found.calls += done
            found.refusals += refused
        found.rude += sum(await bad)
        found.sizes.append(resident(pid))
    found.kept = await _settled(pid, service, before) - before
    await service.destroy(_uuid(0))
    await service.close()
    return found


def main() -> int:
    seconds = 60 * (float(sys.argv[1]) if len(sys.argv) > 1 else 60)
    with tempfile.TemporaryDirectory(prefix="vs-soak-") as text:
        folder = Path(text)
        process = daemon.start(folder / "root", folder / "sock")
        try:
            found = asyncio.run(soak(folder, folder / "sock", process.pid, seconds))
        finally:
            daemon.stop(process)
            end_guests(folder)
        said = Path(f"{folder}/sock.log").read_text()
    print(f"{seconds:.0f} s: {found}")
    strange = "\n".join(line for line in said.splitlines() if ": client pid" not in line)
    if strange:
        print(strange[-4000:])
    return int("Traceback" in said or found.kept > 0)


if __name__ == "__main__":
    sys.exit(main())
