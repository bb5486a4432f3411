"""The benchmark: what snapshots cost here and with the real libvirt, and how the cost grows.

By the memory of a Linux guest (full system snapshots; reverts until it answers; saving it into a file), by
the number of disks, and by the number of snapshots that the domain has already. Every figure is the median of
several rounds of whole commands, as a user waits for them; libvirt is virsh on a daemon that runs. The guests
are emulated: compare figures with each other, not with other machines. The last tables are the daemons' own:
`lab.daemons`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from lab import daemons, guest, packages, page_cache, sides
from lab.console import ConsoleError
from lab.demo import Cost, Demo, DemoError
from lab.domain import disk_targets
from lab.sides import Side
from tests.parity import oracle
from tests.service.local_domain import processes_naming
from virtsnap.qemu import first_pages

_MAPPED_ROUNDS = 3

Figures = dict[str, str | float | None]
"""Step to seconds, or to a cell's text."""


class Bench(Demo):
    """Rounds of snapshot and revert on one running guest, then all snapshots deleted."""

    def __init__(self, side: Side, folder: Path, image: guest.GuestImage) -> None:
        super().__init__(side.program, folder, image, quiet=True)
        self._side = side

    async def measure(self, memory_mib: int, rounds: int) -> list[Cost]:
        """The costs, a row for each kind of step. Raises `DemoError`, `ConsoleError`.

        Ours maps the memory of a guest that was reverted, which is another case for the next snapshot: it is
        told apart, as the kind `mapped`.
        """
        await self.define(memory_mib)
        self._side.own(self._folder)
        try:
            await self.virtsnap("start", self.name)
            async with self.talk() as (inside, _):
                await inside.check(f"mem fill {memory_mib // 4}", timeout=300)
            async with self.talk() as (inside, pulse):
                for number in range(rounds):
                    await inside.check(f"mem put {number}")
                    await inside.check(f"disk put vda {number}")
                    await self.snapshot(f"s{number}", pulse)
            for _ in range(rounds):
                # libvirt calls the new layer by the second, and gives up when there is one of that name.
                await asyncio.sleep(1 - time.time() % 1)
                await self.revert(f"s{rounds - 1}", str(rounds - 1))
            for number in range(rounds, rounds + min(rounds, _MAPPED_ROUNDS)):
                async with self.talk() as (inside, pulse):
                    await inside.check(f"mem put {number}")
                    await inside.check(f"disk put vda {number}")
                    await self.snapshot(f"s{number}", pulse, kind="mapped")
                if self._side.name != "virtsnap":
                    break
                await self.revert(f"s{number}", str(number))
            for last in reversed(range(number + 1)):
                await self.delete(f"s{last}")
        finally:
            await self.clean()
        return self.summary()

    async def saves(self, memory_mib: int, rounds: int) -> list[Cost]:
        """The costs of saving the guest into a file and restoring it. Raises `DemoError`, `ConsoleError`."""
        await self.define(memory_mib)
        self._side.own(self._folder)
        image = self._folder / "saved"
        try:
            await self.virtsnap("start", self.name)
            async with self.talk() as (inside, _):
                await inside.check(f"mem fill {memory_mib * 2 // 5}", timeout=600)
                await inside.check("mem put kept")
            for number in range(rounds):
                self.costs.append(Cost(f"save {number}", self._side.run("save", self.name, str(image))))
                size = image.stat().st_blocks * 512
                self.costs.append(Cost(f"restore {number}", self._side.run("restore", str(image)), size=size))
                await self._remembers()
            for number in range(rounds):
                self.costs.append(Cost(f"managedsave {number}", self._side.run("managedsave", self.name)))
                begin = time.monotonic()
                await self.virtsnap("start", self.name)
                await self._remembers()
                self.costs.append(Cost(f"start {number}", time.monotonic() - begin))
        finally:
            await self.clean()
        return self.summary()

    async def _remembers(self) -> None:
        async with self.talk() as (inside, _):
            if await inside.check("mem get") != "kept":
                raise DemoError("the guest has forgotten what was in its memory")

    async def answers(self, memory_mib: int, rounds: int) -> list[Cost]:
        """The costs of reverts of a guest that is off, until it runs and until it answers.

        With its memory image in the host's cache, not there, and not there with a record of what the guest
        touched first (ours alone). Raises `DemoError`, `ConsoleError`, `packages.LabError`.
        """
        await self.define(memory_mib)
        self._side.own(self._folder)
        image = str(self._folder / "base.mem")
        try:
            await self.virtsnap("start", self.name)
            async with self.talk() as (inside, pulse):
                await inside.check(f"mem fill {memory_mib * 36 // 100}", timeout=600)
                await self.snapshot("base", pulse)
            ways = ["warm", "cold"]
            if self._side.name != "libvirt":
                await self._answered("first")
                ways.append("recorded")
            await self.virtsnap("destroy", self.name)  # which takes the record
            record = os.getxattr(image, first_pages.ATTRIBUTE) if "recorded" in ways else None
            for _ in range(rounds):
                for way in ways:
                    if record is not None:
                        os.setxattr(image, first_pages.ATTRIBUTE, record if way == "recorded" else b"")
                    if way == "warm":
                        page_cache.fetch(image)
                    else:
                        page_cache.drop(image)
                    await self._answered(way)
                    await self.virtsnap("destroy", self.name)
        finally:
            await self.clean()
        return self.summary()

    async def _answered(self, way: str) -> None:
        # libvirt calls the new layer by the second, and gives up when there is one of that name.
        await asyncio.sleep(1 - time.time() % 1)
        begin = time.monotonic()
        await self.virtsnap("snapshot-revert", self.name, "base")
        self.costs.append(Cost(f"{way}-running", time.monotonic() - begin))
        async with self.talk():
            self.costs.append(Cost(f"{way}-answer", time.monotonic() - begin))

    async def pauses(self, memory_mib: int, fill: int, rewritten: int, rounds: tuple[int, int]) -> list[Cost]:
        """The costs of snapshots of one running guest, as many without and with `--live` as `rounds` says.

        `fill` MiB of its memory are full, `rewritten` MiB are written over as fast as it can. Nothing is
        reverted, so its memory is its own. Raises `DemoError`, `ConsoleError`.
        """
        await self.define(memory_mib)
        self._side.own(self._folder)
        try:
            await self.virtsnap("start", self.name)
            async with self.talk() as (inside, pulse):
                await inside.check(f"mem fill {fill}", timeout=600)
                if rewritten:
                    await inside.check(f"rewrite start {rewritten}", timeout=600)
                for kind, live in (("paused", False), ("live", True)):
                    for number in range(rounds[live]):
                        await self.snapshot(f"{kind}{number}", pulse, kind=kind, live=live)
                        # Nobody goes back to it, and ten of them fill a disk.
                        (self._folder / f"{kind}{number}.mem").unlink()
        finally:
            await self.clean()
        return self.summary()

    async def clones(self, memory_mib: int, count: int) -> list[Cost]:
        """The costs of clones of one running guest, one after the other, and what they take of the host.

        Ours alone: libvirt has nothing of the kind. Raises `DemoError`, `ConsoleError`.
        """
        await self.define(memory_mib)
        try:
            await self.virtsnap("start", self.name)
            async with self.talk() as (inside, pulse):
                await inside.check(f"mem fill {memory_mib * 2 // 5}", timeout=600)
                await self.snapshot("base", pulse)
            # The clones have sockets of their own.
            words = ["clone", self.name, "base", "clone", "--count", str(count), "--start"]
            self.costs.append(Cost("clone", self._side.run(*words) / count))
            shares = [_share(pid) for pid in processes_naming("guest=clone-")]
            self.costs += [Cost(f"memory {share}", 0.0, size=share) for share in shares]
            for number in range(1, count + 1):
                self.costs.append(Cost(f"discard {number}", self._side.run("discard", f"clone-{number}")))
        finally:
            await self.clean()
        return self.summary()

    def summary(self) -> list[Cost]:
        """Medians by kind of step."""
        kinds: dict[str, list[Cost]] = {}
        for cost in self.costs:
            kinds.setdefault(cost.step.split()[0], []).append(cost)
        return [
            Cost(
                kind,
                statistics.median(cost.seconds for cost in costs),
                _median([cost.pause for cost in costs]),
                None if costs[0].size is None else int(_median([cost.size for cost in costs]) or 0),
            )
            for kind, costs in kinds.items()
        ]


def _share(pid: int) -> int:
    """Bytes of memory that a process takes, its part of what is shared included (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    raise DemoError("the kernel does not tell how memory is shared")


def _median(values: list[float | None] | list[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def by_memory(side: Side, folder: Path, image: guest.GuestImage, mib: int, rounds: int) -> Figures:
    """Full system snapshots of a running Linux guest, a quarter of whose memory is full."""
    figures: Figures = {}
    for cost in asyncio.run(Bench(side, folder, image).measure(mib, rounds)):
        figures[cost.step] = cost.seconds
        if cost.pause is not None:
            figures[f"{cost.step}: the guest's pause"] = cost.pause
        if cost.size is not None:
            figures[f"{cost.step}: written"] = f"{cost.size / 2**20:.0f} MiB"
    return figures


def by_saves(side: Side, folder: Path, image: guest.GuestImage, mib: int, rounds: int) -> Figures:
    """A running Linux guest saved into a file and restored, two fifths of its memory full."""
    figures: Figures = {}
    for cost in asyncio.run(Bench(side, folder, image).saves(mib, rounds)):
        figures[cost.step] = cost.seconds
        if cost.size is not None:
            figures["the file"] = f"{cost.size / 2**20:.0f} MiB"
    return figures


def by_answer(side: Side, folder: Path, image: guest.GuestImage, mib: int, rounds: int) -> Figures:
    """Reverts of a Linux guest that is off, 36 % of its memory full, until it runs and until it answers."""
    names = {"warm": "in the cache", "cold": "cold", "recorded": "cold, recorded"}
    ends = {"running": "running", "answer": "first answer"}
    costs = {cost.step: cost.seconds for cost in asyncio.run(Bench(side, folder, image).answers(mib, rounds))}
    return {f"{names[way]}: {ends[end]}": costs.get(f"{way}-{end}") for way in names for end in ends}


def by_pause(side: Side, folder: Path, image: guest.GuestImage, mib: int, rounds: int) -> Figures:
    """Full system snapshots, without and with `--live`, of a guest with two fifths of its memory full."""
    return _pauses(asyncio.run(Bench(side, folder, image).pauses(mib, mib * 2 // 5, 0, (rounds, rounds))))


def by_busy(
    side: Side, folder: Path, image: guest.GuestImage, mib: int, rounds: int, slow: int = 1
) -> Figures:
    """The same of a guest that rewrites 22 % of its memory all the time (900 MiB of 4 GiB), a quarter of it
    being full besides. `slow`: rounds of libvirt's `--live`, each of which takes more than a minute."""
    live = min(rounds, slow) if side.name == "libvirt" else rounds
    bench = Bench(side, folder, image)
    return _pauses(asyncio.run(bench.pauses(mib, mib // 4, mib * 22 // 100, (rounds, live))))


def _pauses(costs: list[Cost]) -> Figures:
    figures: Figures = {}
    for cost in costs:
        kind = "with --live" if cost.step == "live" else "without"
        figures[f"the guest's pause, {kind}"] = cost.pause
        figures[f"until done, {kind}"] = cost.seconds
        figures[f"written, {kind}"] = f"{(cost.size or 0) / 2**20:.0f} MiB"
    return figures


def by_clones(side: Side, folder: Path, image: guest.GuestImage, count: int, rounds: int) -> Figures:
    """So many clones at once of a guest of 1 GiB; nothing for libvirt, which has none."""
    if side.name != "virtsnap":
        return {}
    figures: Figures = {}
    for cost in asyncio.run(Bench(side, folder, image).clones(1024, count)):
        if cost.step == "memory":
            figures["memory of each (PSS)"] = f"{(cost.size or 0) / 2**20:.0f} MiB"
        elif cost.step != "snapshot":
            figures[f"{cost.step}, each"] = cost.seconds
    return figures


def by_disks(side: Side, folder: Path, image: guest.GuestImage, disks: int, rounds: int) -> Figures:
    """Snapshots of the disks alone, of a machine that runs (its firmware, waiting)."""
    with _bare(side, folder, disks):
        side.run("start", "bare")
        return {
            "snapshot": _times(
                side, rounds, lambda n: side.run("snapshot-create-as", "bare", f"s{n}", "--disk-only")
            ),
            "delete": _times(
                side, rounds, lambda n: side.run("snapshot-delete", "bare", f"s{rounds - 1 - n}")
            ),
        }


def by_snapshots(side: Side, folder: Path, image: guest.GuestImage, count: int, rounds: int) -> Figures:
    """A shut off domain with one disk that has `count` snapshots already, one on the other."""
    with _bare(side, folder, 1):
        for begin in range(0, count, 25):
            names = range(begin, min(begin + 25, count))
            side.run("; ".join(f"snapshot-create-as bare s{n} --disk-only" for n in names))
        return {
            "list": _times(side, rounds, lambda n: _on_bare(side, "snapshot-list")),
            "snapshot": _times(side, rounds, lambda n: _snapshot(side, f"x{n}")),
            "delete the last": _times(
                side, rounds, lambda n: _on_bare(side, "snapshot-delete", f"x{rounds - 1 - n}")
            ),
            "revert to the last": _times(side, rounds, lambda n: _revert(side, f"s{count - 1}")),
        }


def _on_bare(side: Side, command: str, *words: str) -> float:
    return side.run(command, "bare", *words)


def _snapshot(side: Side, name: str) -> float:
    return _on_bare(side, "snapshot-create-as", name, "--disk-only")


def _revert(side: Side, name: str) -> float:
    # libvirt calls the new layer by the second, and gives up when there is one of that name.
    time.sleep(1 - time.time() % 1)
    return _on_bare(side, "snapshot-revert", name)


def _times(side: Side, rounds: int, once: Callable[[int], float]) -> float | str:
    """The median; 'fails' where libvirt cannot do it, as on a deep chain."""
    try:
        return statistics.median([once(number) for number in range(rounds)])
    except DemoError:
        if side.name != "libvirt":
            raise
        return "fails"


@contextlib.contextmanager
def _bare(side: Side, folder: Path, disks: int) -> Iterator[None]:
    """A machine of 64 MiB in which nothing boots; it is gone afterwards."""
    xml = ""
    for target in disk_targets(disks):
        path = folder / f"{target}.qcow2"
        sides.create_disk(path)
        xml += f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/>"
        xml += f"<target dev='{target}' bus='virtio'/></disk>"
    (folder / "bare.xml").write_text(_BARE.format(disks=xml))
    side.own(folder)
    side.run("define", str(folder / "bare.xml"))
    try:
        yield
    finally:
        with contextlib.suppress(DemoError):
            side.run("destroy", "bare")
        side.run("undefine", "bare", "--snapshots-metadata")


_BARE = """<domain type='qemu'>
  <name>bare</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>{disks}<controller type='usb' model='none'/><memballoon model='none'/></devices>
</domain>
"""

Measure = Callable[[Side, Path, guest.GuestImage, int, int], Figures]

_TABLES: dict[str, tuple[str, Measure]] = {
    "pause": ("MiB of memory", by_pause),
    "memory": ("MiB of memory", by_memory),
    "answer": ("MiB of memory", by_answer),
    "saves": ("MiB of memory", by_saves),
    "busy": ("MiB of memory", by_busy),
    "clones": ("clones", by_clones),
    "disks": ("disks", by_disks),
    "snapshots": ("snapshots before", by_snapshots),
    "daemon": ("domains, shut off", daemons.by_domains),
    "running": ("domains, running", daemons.by_running),
    "listed": ("snapshots", daemons.by_listed),
}
_SERVED = frozenset({"daemon", "running", "listed"})
"""Of virtsnapd, not of the program."""
_BESIDE = frozenset({"memory", "answer", "saves"})
"""Of both: the program, which has to start each time, and virsh on a daemon that runs, as libvirt's is."""


def table(
    unit: str, sizes: Sequence[int], found: dict[int, dict[str, Figures]], names: list[str]
) -> list[str]:
    """Lines: a row for each step and size, a column for each side, and the ratio."""
    head = [f"{unit:>18}", f"{'step':<30}", *(f"{name:>12}" for name in names)]
    compared = len(names) > 1 and names[-1] == "libvirt"
    lines = ["  ".join([*head, f"{'ratio':>8}"] if compared else head)]
    for step in found[sizes[0]][names[0]]:
        for size in sizes:
            values = [found[size][name].get(step) for name in names]
            cells = [f"{size:>18}", f"{step:<30}", *(_cell(value) for value in values)]
            if compared:
                cells.append(_ratio(values))
            lines.append("  ".join(cells))
    return lines


def _cell(value: str | float | None) -> str:
    if value is None:
        return f"{'':>12}"
    if isinstance(value, str):
        return f"{value:>12}"
    return f"{value:>10.3f} s" if value >= 0.1 else f"{value * 1000:>9.2f} ms"


def _ratio(values: list[str | float | None]) -> str:
    """Ours, through virsh too where that was measured, to libvirt's: below 1 is quicker."""
    first, second = values[-2:]
    known = isinstance(first, float) and isinstance(second, float) and second > 0
    return f"{first / second:>8.2f}" if known else f"{'':>8}"  # type: ignore[operator]


def main() -> int:
    """The program: the tables; 1 when a marker was wrong or a step failed."""
    parser = argparse.ArgumentParser(prog="script/bench", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"only these of {', '.join(_TABLES)}")
    parser.add_argument("--pause", type=int, nargs="*", default=[1024], metavar="MIB")
    parser.add_argument("--memory", type=int, nargs="*", default=[1024, 4096, 8192], metavar="MIB")
    parser.add_argument("--answer", type=int, nargs="*", default=[1024], metavar="MIB")
    parser.add_argument("--saves", type=int, nargs="*", default=[1024], metavar="MIB")
    parser.add_argument("--busy", type=int, nargs="*", default=[4096], metavar="MIB")
    parser.add_argument("--clones", type=int, nargs="*", default=[20], metavar="N")
    parser.add_argument("--disks", type=int, nargs="*", default=[1, 4, 8], metavar="N")
    parser.add_argument("--snapshots", type=int, nargs="*", default=[1, 25, 150], metavar="N")
    parser.add_argument("--daemon", type=int, nargs="*", default=[1, 100, 1000], metavar="N")
    parser.add_argument("--running", type=int, nargs="*", default=[1, 5], metavar="N")
    parser.add_argument("--listed", type=int, nargs="*", default=[1000], metavar="N")
    parser.add_argument("--rounds", type=int, default=5, help="of which the medians are (%(default)s)")
    parser.add_argument(
        "--slow-rounds", type=int, default=1, help="of libvirt's --live in the table busy (%(default)s)"
    )
    parser.add_argument("--alone", action="store_true", help="do not measure the real libvirt")
    chosen = parser.parse_args()
    if unknown := set(chosen.tables) - set(_TABLES):
        parser.error(f"no such table: {', '.join(sorted(unknown))}")
    why = "as asked for" if chosen.alone else oracle.missing()
    if why is not None:
        print(f"(without libvirt: {why})")
    try:
        image = guest.build()
        for key, (unit, measure) in _TABLES.items():
            sizes: list[int] = getattr(chosen, key)
            if not sizes or (chosen.tables and key not in chosen.tables):
                continue
            if key == "busy":
                measure = partial(by_busy, slow=chosen.slow_rounds)
            found: dict[int, dict[str, Figures]] = {size: {} for size in sizes}
            for size in sizes:
                with _sides(with_libvirt=why is None, table=key) as places:
                    for side, folder in places:
                        found[size][side.name] = measure(side, folder, image, size, chosen.rounds)
                        print(".", end="", file=sys.stderr, flush=True)
            print(file=sys.stderr)
            print("\n".join(["", *table(unit, sizes, found, list(found[sizes[0]]))]), flush=True)
    except (DemoError, ConsoleError, packages.LabError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def _sides(with_libvirt: bool, table: str) -> Iterator[list[tuple[Side, Path]]]:
    """The sides, each with a folder for its guest's files: new ones, so that nothing is left from before."""
    # Short: the path of a unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="virtsnap-bench-") as text, contextlib.ExitStack() as stack:
        base = Path(text)
        base.chmod(0o755)
        folders = [base / name for name in ("ours", "theirs", "daemon", "served")]
        for folder in folders:
            folder.mkdir()
        places = [] if table in _SERVED else [(sides.ours(base), folders[0])]
        if table in _SERVED | _BESIDE:
            places.append((stack.enter_context(sides.virtsnapd(folders[3])), folders[3]))
        if with_libvirt:
            places.append((stack.enter_context(sides.libvirt(folders[2])), folders[1]))
        yield places


if __name__ == "__main__":
    sys.exit(main())
