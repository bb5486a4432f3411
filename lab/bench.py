"""The benchmark: what create, revert and delete cost on the lab guest, in seconds, silence and bytes.

Every row is the median of several rounds. With --libvirt the same is asked of the real libvirt on this
machine (its embedded driver, root only), so that the two can be set side by side. The guests are emulated:
compare rows with each other, not with other machines.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path

from lab import guest, packages
from lab.console import ConsoleError
from lab.demo import Cost, Demo, DemoError

_LIBVIRT_CONFIG = """\
user = "root"
group = "root"
stdio_handler = "file"
security_driver = "none"
namespaces = []
cgroup_controllers = []
"""


class Bench(Demo):
    """Rounds of snapshot and revert on one guest, then all snapshots deleted."""

    async def measure(self, memory_mib: int, fill_mib: int, rounds: int) -> list[Cost]:
        """The costs, a row for each kind of step. Raises `DemoError`, `ConsoleError`."""
        await self.define(memory_mib)
        try:
            await self.virtsnap("start", self.name)
            async with self.talk() as (inside, _):
                await inside.check(f"mem fill {fill_mib}", timeout=300)
            for number in range(rounds):
                async with self.talk() as (inside, pulse):
                    await inside.check(f"mem put {number}")
                    await inside.check(f"disk put vda {number}")
                    await self.snapshot(f"s{number}", pulse)
                await self.revert(f"s{number}", str(number))
            for number in reversed(range(rounds)):
                await self.delete(f"s{number}")
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


def _median(values: list[float | None] | list[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def main() -> int:
    """The program: a table; 1 when a marker was wrong or a step failed."""
    parser = argparse.ArgumentParser(prog="script/bench", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--memory", type=int, nargs="+", default=[256, 1024], metavar="MIB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--libvirt", action="store_true", help="measure the real libvirt as well")
    chosen = parser.parse_args()
    sides = ["virtsnap", "libvirt"] if chosen.libvirt else ["virtsnap"]
    rows = []
    try:
        image = guest.build()
        for memory in chosen.memory:
            for side in sides:
                with tempfile.TemporaryDirectory(prefix="virtsnap-bench-") as text:
                    bench = Bench(_program(side, Path(text)), Path(text), image, quiet=True)
                    fill = memory // 4
                    for cost in asyncio.run(bench.measure(memory, fill, chosen.rounds)):
                        rows.append((side, memory, cost))
                        print(".", end="", file=sys.stderr, flush=True)
    except (DemoError, ConsoleError, packages.LabError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(file=sys.stderr)
    print(f"{'':<10}{'memory':>10}  {'step':<10}{'seconds':>9}{'pause':>10}{'written':>12}")
    for side, memory, cost in rows:
        pause = "" if cost.pause is None else f"{cost.pause * 1000:.0f} ms"
        size = "" if cost.size is None else f"{cost.size / 2**20:.1f} MiB"
        print(f"{side:<10}{memory:>6} MiB  {cost.step:<10}{cost.seconds:>9.2f}{pause:>10}{size:>12}")
    return 0


def _program(side: str, folder: Path) -> list[str]:
    uri = f"qemu:///embed?root={folder}/root"
    if side == "virtsnap":
        return [str(Path(sys.executable).with_name("virtsnap")), "-c", uri]
    config = folder / "root" / "etc"
    config.mkdir(parents=True)
    (config / "qemu.conf").write_text(_LIBVIRT_CONFIG)
    return ["virsh", "-q", "-c", uri]


if __name__ == "__main__":
    sys.exit(main())
