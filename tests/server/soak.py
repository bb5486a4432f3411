"""Twenty clients that call whatever comes to mind: `script/soak [MINUTES]`.

Valid calls on a handful of domains and snapshots, shut off ones, one that runs and one that comes and goes,
in any order, also such that are refused; and five more clients that do it all wrong, see `rude`. The daemon
must answer each of the twenty, and keep neither memory nor descriptors of those who have gone: after a
warm-up, in which its caches fill, every sample of its resident memory is within 5 % of the first ones.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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
_RUDE_THINK = 0.1
"""Else the daemon would do little but see them off."""
FLAT = 0.05
"""How far from the first samples after the warm-up any later one may be."""
_DEVICES = "<serial type='pty'/><console type='pty'/><video><model type='vga'/></video>"
_SETTLE_SECONDS = 10
_BASE = 5
"""So many samples after the warm-up tell what is usual."""
WATCH = 2
"""Descriptors by which the daemon hears of events, once somebody has asked for them."""
DOMAINS = 5
_ALWAYS, _SOMETIMES = 0, DOMAINS - 1
"""The domain that runs, and the one that comes and goes."""


@dataclass(frozen=True)
class Pace:
    """How long, how fast, in seconds. `think`: what a client waits between two calls, on average.

    It is warm after `warmup` and `warm_calls`, and what is found counts for `seconds` from then on.
    """

    seconds: float
    warmup: float
    every: float
    think: float = 0.0
    warm_calls: int = 0


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
    match dice.randrange(24):
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
        case 13 if number != _ALWAYS:
            await service.snapshot_create_xml(
                uuid, f"<domainsnapshot><name>{snapshot}</name></domainsnapshot>"
            )
        case 14 if number != _ALWAYS:
            await service.snapshot_delete(uuid, snapshot)
        case 15 if number != _ALWAYS and dice.random() < 0.2:
            await service.snapshot_revert(uuid, snapshot)
        case 16 if dice.random() < 0.05:
            await service.create(_uuid(_SOMETIMES))
        case 17 if dice.random() < 0.05:
            await service.destroy(_uuid(_SOMETIMES))
        case 18:
            async with service.events() as events:
                await service.set_metadata(uuid, 0, str(dice.random()))
                await anext(events)
        case 19:
            await service.block_stats(_uuid(_ALWAYS), "vda")
        case 20:
            await service.disk_errors(_uuid(_ALWAYS))
        case 21 if dice.random() < 0.1:
            await service.screenshot(_uuid(_ALWAYS))
        case 22:
            await dice.choice((service.node_info, service.capabilities_xml, service.hypervisor_version))()
        case _:
            await service.block_info(uuid, "vda")


@dataclass
class _Done:
    calls: int = 0
    refusals: int = 0
    rude: int = 0
    think: float = 0.0
    over: bool = False


async def _client(uri: str, folder: Path, dice: random.Random, done: _Done) -> None:
    while not done.over:
        service = await open_service(uri)
        try:
            for _ in range(dice.randrange(1, 60)):
                try:
                    await _one(service, dice, folder)
                except VirtsnapError:
                    done.refusals += 1
                done.calls += 1
                if done.think:
                    await asyncio.sleep(2 * done.think * dice.random())
                if done.over:
                    break
        finally:
            await service.close()


async def _rude(path: Path, dice: random.Random, done: _Done) -> None:
    while not done.over:
        await rude(path, _uuid(_ALWAYS), dice)
        done.rude += 1
        await asyncio.sleep(2 * (done.think or _RUDE_THINK) * dice.random())


def descriptors(pid: int) -> int:
    """How many are open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


async def _settled(pid: int, service: Service, most: int) -> int:
    """Descriptors, when those who have hung up were seen off."""
    end = time.monotonic() + _SETTLE_SECONDS
    while (found := descriptors(pid)) > most and time.monotonic() < end:
        await service.list_domains()
    return found


@dataclass(frozen=True)
class Sample:
    """The daemon at one moment, `at` seconds after the beginning, when so many calls were answered."""

    at: float
    calls: int
    resident: int
    descriptors: int

    def __str__(self) -> str:
        return (
            f"{self.at / 60:5.1f} min  {self.resident / 2**20:5.1f} MiB  {self.descriptors:3} descriptors"
            f"  {self.calls:7} calls"
        )


@dataclass
class Soaked:
    """What came of it. `samples`: after the warm-up; `kept`: descriptors that stay when all have gone."""

    calls: int = 0
    refusals: int = 0
    rude: int = 0
    kept: int = 0
    warmed: list[Sample] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    @property
    def base(self) -> float:
        """Bytes that are usual after the warm-up."""
        return statistics.median(sample.resident for sample in self.samples[:_BASE])

    @property
    def strayed(self) -> float:
        """How far the sample that is farthest from that is away, as a part of it."""
        return max((sample.resident / self.base - 1 for sample in self.samples), key=abs)

    @property
    def flat(self) -> bool:
        """Neither memory nor descriptors grow."""
        return abs(self.strayed) <= FLAT and self.kept <= 0

    def __str__(self) -> str:
        last = statistics.median(sample.resident for sample in self.samples[-_BASE:])
        return (
            f"{self.calls} calls of {CLIENTS} clients, {self.refusals} of them refused; {self.rude} clients"
            f" hung up in the middle; {self.kept} descriptors more than at first\n"
            f"resident after the warm-up {self.base / 2**20:.1f} MiB, at the end {last / 2**20:.1f} MiB"
            f" ({100 * (last / self.base - 1):+.1f} %), farthest from it {100 * self.strayed:+.1f} %:"
            f" {'flat' if self.flat else 'NOT FLAT'}"
        )


def resident(pid: int) -> int:
    """Bytes of memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _silent(sample: Sample) -> None:
    pass


async def soak(
    folder: Path, socket: Path, pid: int, pace: Pace, tell: Callable[[Sample], None] = _silent
) -> Soaked:
    """See the module's text."""
    uri = f"qemu:///system?socket={socket}"
    service = await open_service(uri)
    for number in range(DOMAINS):
        await service.define_xml(_xml(folder, number))
    await service.create(_uuid(_ALWAYS))
    found, done, before = Soaked(), _Done(), descriptors(pid) + WATCH
    begun = time.monotonic()

    async def sample() -> None:
        warm: float | None = None
        while warm is None or time.monotonic() < warm + pace.seconds:
            one = Sample(time.monotonic() - begun, done.calls, resident(pid), descriptors(pid))
            if warm is None and one.at >= pace.warmup and one.calls >= pace.warm_calls:
                warm = time.monotonic()
                done.think = pace.think
            (found.warmed if warm is None else found.samples).append(one)
            tell(one)
            await asyncio.sleep(pace.every)
        done.over = True

    async with asyncio.TaskGroup() as group:
        group.create_task(sample())
        for number in range(CLIENTS):
            group.create_task(_client(uri, folder, random.Random(number), done))
        for number in range(RUDE):
            group.create_task(_rude(socket, random.Random(-1 - number), done))
    found.calls, found.refusals, found.rude = done.calls, done.refusals, done.rude
    await service.list_domains()
    for number in (_ALWAYS, _SOMETIMES):
        with contextlib.suppress(VirtsnapError):
            await service.destroy(_uuid(number))
    found.kept = await _settled(pid, service, before) - before
    await service.close()
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/soak", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("minutes", nargs="?", type=float, default=60, help="with the warm-up (default: 60)")
    parser.add_argument(
        "--warmup", type=float, help="minutes until it counts (default: a quarter, at most 10)"
    )
    parser.add_argument("--every", type=float, help="seconds between samples (default: a sixtieth)")
    parser.add_argument(
        "--think",
        type=float,
        default=0,
        help="seconds that a client waits between calls, once warm (default: 0)",
    )
    return parser.parse_args()


def main() -> int:
    """The program."""
    options = _options()
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it wonders at those who send to a closed socket
    warmup = min(options.minutes / 4, 10) if options.warmup is None else options.warmup
    pace = Pace(60 * (options.minutes - warmup), 60 * warmup, options.every or options.minutes, options.think)
    with tempfile.TemporaryDirectory(prefix="vs-soak-") as text:
        folder = Path(text)
        process = daemon.start(folder / "root", folder / "sock")
        try:
            show = functools.partial(print, flush=True)
            found = asyncio.run(soak(folder, folder / "sock", process.pid, pace, show))
        finally:
            daemon.stop(process)
            end_guests(folder)
        said = Path(f"{folder}/sock.log").read_text()
    print(f"{options.minutes:g} minutes, {warmup:g} of them to warm up: {found}")
    strange = "\n".join(line for line in said.splitlines() if ": client pid" not in line)
    if strange:
        print(strange[-4000:])
    return int("Traceback" in said or not found.flat)


if __name__ == "__main__":
    sys.exit(main())
