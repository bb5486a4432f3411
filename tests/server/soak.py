"""Twenty clients that call whatever comes to mind: `python -m tests.server.soak [SECONDS]`.

Valid calls on a handful of domains and snapshots, shut off ones and one that runs, in any order, also such
that are refused. The daemon must answer each, and must not grow.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import daemon
from tests.parity.oracle import end_guests
from virtsnap.api.connect import open_service
from virtsnap.model.errors import VirtsnapError
from virtsnap.service.interface import Service

CLIENTS = 20
DOMAINS = 5


def _xml(folder: Path, number: int) -> str:
    image = folder / f"{number}.qcow2"
    if not image.exists():
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
    disk = f"<source file='{image}'/><target dev='vda' bus='virtio'/>"
    return (
        f"<domain type='qemu'><name>d{number}</name><uuid>{_uuid(number)}</uuid>"
        "<memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
        f"<disk type='file'><driver name='qemu' type='qcow2'/>{disk}</disk></devices></domain>"
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


def resident(pid: int) -> int:
    """Bytes of memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def soak(folder: Path, socket: Path, pid: int, seconds: float) -> tuple[int, int, list[int]]:
    """Calls, refusals, and the daemon's memory after each tenth of the time."""
    uri = f"qemu:///system?socket={socket}"
    service = await open_service(uri)
    for number in range(DOMAINS):
        await service.define_xml(_xml(folder, number))
    await service.create(_uuid(0))
    calls = refusals = 0
    sizes = []
    for part in range(10):
        until = time.monotonic() + seconds / 10
        answers = await asyncio.gather(
            *(_client(uri, folder, part * CLIENTS + number, until) for number in range(CLIENTS))
        )
        calls += sum(done for done, _ in answers)
        refusals += sum(refused for _, refused in answers)
        sizes.append(resident(pid))
    await service.destroy(_uuid(0))
    await service.close()
    return calls, refusals, sizes


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3600
    with tempfile.TemporaryDirectory(prefix="vs-soak-") as text:
        folder = Path(text)
        process = daemon.start(folder / "root", folder / "sock")
        try:
            calls, refusals, sizes = asyncio.run(soak(folder, folder / "sock", process.pid, seconds))
        finally:
            daemon.stop(process)
            end_guests(folder)
        said = Path(f"{folder}/sock.log").read_text()
    print(f"{calls} calls of {CLIENTS} clients in {seconds:.0f} s, {refusals} of them refused")
    print("resident MiB:", " ".join(f"{size / 2**20:.1f}" for size in sizes))
    if said:
        print(said[-2000:])
    return int("Traceback" in said)


if __name__ == "__main__":
    sys.exit(main())
