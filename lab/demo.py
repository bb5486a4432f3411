"""The demonstration: a guest goes on, and comes back, memory and disk at one instant.

Everything is done with the `virtsnap` command, as a user would; the guest is asked over its console. Ends
with 0 only when every marker read inside the guest is the right one. Leaves nothing behind.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import guest, packages
from lab.console import ConsoleError, GuestConsole
from lab.domain import domain_xml
from lab.pulse import Pulse

NAME = "demo"


class DemoError(Exception):
    """The demonstration failed; the text says where."""


@dataclass(frozen=True)
class Cost:
    """What a step cost. `pause` in seconds: the longest silence of the guest; bytes are those allocated."""

    step: str
    seconds: float
    pause: float | None = None
    size: int | None = None


class Demo:
    """One run in its own folder."""

    name = NAME

    def __init__(
        self, program: list[str], folder: Path, image: guest.GuestImage, quiet: bool = False
    ) -> None:
        """`program` is the command up to and including its connection. `quiet`: tell no story."""
        self._quiet = quiet
        self._program = program
        self._folder = folder
        self._image = image
        self.costs: list[Cost] = []

    async def run(self) -> None:
        """The whole story. Raises `DemoError`, `ConsoleError`."""
        self.title("A Linux guest boots")
        await self.define()
        try:
            begin = time.monotonic()
            await self.virtsnap("start", NAME)
            async with self.talk() as (inside, pulse):
                self.costs.append(Cost("boot", time.monotonic() - begin))
                self.say(f"guest: Linux {await inside.check('uname -r')} is up")
                await self.mark(inside, "first")
                await self.snapshot("first", pulse)
                self.title("The guest moves on")
                await self.mark(inside, "second")
                await self.snapshot("second", pulse)
            await self.revert("first", "first")
            self.title("Another future: a branch")
            async with self.talk() as (inside, pulse):
                await self.mark(inside, "branch")
                await self.snapshot("branch", pulse)
            await self.revert("second", "second")
            await self.revert("first", "first")
            await self.revert("branch", "branch")
            self.title("The tree")
            self.say(await self.virtsnap("snapshot-list", NAME, "--tree"))
        finally:
            await self.clean()
        self.title("What each step cost")
        self.say(f"{'step':<20}{'seconds':>9}{'pause':>12}{'written':>12}")
        for cost in self.costs:
            pause = "" if cost.pause is None else f"{cost.pause * 1000:.0f} ms"
            size = "" if cost.size is None else f"{cost.size / 2**20:.1f} MiB"
            self.say(f"{cost.step:<20}{cost.seconds:>9.2f}{pause:>12}{size:>12}")
        self.say("(pause: the longest silence of a guest that ticks every 20 ms, emulated without KVM)")

    async def define(self, memory_mib: int = 256) -> None:
        """A domain with one disk, its console and its pulse on sockets in the folder."""
        disk, xml = self._folder / "disk.qcow2", self._folder / "domain.xml"
        await _call(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1G"])
        console, tick = self._folder / "console", self._folder / "tick"
        xml.write_text(
            domain_xml(NAME, self._image, [disk], memory_mib=memory_mib, serial=console, tick_socket=tick)
        )
        await self.virtsnap("define", str(xml))

    async def snapshot(self, name: str, pulse: Pulse, *, kind: str = "snapshot", live: bool = True) -> None:
        """Take a full system snapshot of the running guest, and measure it."""
        memory, overlay = self._folder / f"{name}.mem", self._folder / f"{name}.qcow2"
        await pulse.beats()
        begin = time.monotonic()
        await self.virtsnap(
            "snapshot-create-as", NAME, name, *(["--live"] if live else []),
            "--memspec", str(memory), "--diskspec", f"vda,file={overlay}",
        )  # fmt: skip
        end = time.monotonic()
        await pulse.beats()
        size = sum(path.stat().st_blocks * 512 for path in (memory, overlay))
        self.costs.append(Cost(f"{kind} {name}", end - begin, pulse.longest_gap(begin), size))

    async def revert(self, name: str, expected: str) -> None:
        """Go back to a snapshot and read both markers inside the guest."""
        self.title(f"Back to {name!r}")
        begin = time.monotonic()
        await self.virtsnap("snapshot-revert", NAME, name)
        async with self.talk() as (inside, pulse):
            await pulse.beats(1)
            self.costs.append(Cost(f"revert to {name}", time.monotonic() - begin))
            memory, disk = await inside.check("mem get"), await inside.check("disk get vda")
            self.say(f"guest: in memory {memory!r}, on disk {disk!r}")
            if (memory, disk) != (expected, expected):
                raise DemoError(f"the markers should both be {expected!r}")

    async def delete(self, name: str) -> None:
        """Delete a snapshot; what others need of it is merged."""
        begin = time.monotonic()
        await self.virtsnap("snapshot-delete", NAME, name)
        self.costs.append(Cost(f"delete {name}", time.monotonic() - begin))

    @asynccontextmanager
    async def talk(self) -> AsyncIterator[tuple[GuestConsole, Pulse]]:
        """The guest's console, ready, and its pulse."""
        async with (
            await GuestConsole.connect(self._folder / "console") as inside,
            await Pulse.connect(self._folder / "tick") as pulse,
        ):
            await inside.wait_ready()
            yield inside, pulse

    async def clean(self) -> None:
        """End the guest and forget it."""
        for words in (["destroy", NAME], ["undefine", NAME, "--snapshots-metadata"]):
            await _call([*self._program, *words], must=False)

    async def virtsnap(self, *words: str) -> str:
        """Show a command, run it, return what it printed."""
        shown = [word.replace(f"{self._folder}/", "") for word in words]
        self._tell(f"$ virtsnap {shlex.join(shown)}")
        return await _call([*self._program, *words])

    async def mark(self, inside: GuestConsole, text: str) -> None:
        """Leave the marker in the memory of a process in the guest and on its disk."""
        await inside.check(f"mem put {text}")
        await inside.check(f"disk put vda {text}")
        self.say(f"guest: wrote {text!r} into a process's memory and onto the disk")

    def title(self, text: str) -> None:
        """A heading."""
        self._tell(f"\n-- {text}")

    def say(self, text: str) -> None:
        """Lines below a heading."""
        for line in text.splitlines():
            self._tell(f"   {line}")

    def _tell(self, line: str) -> None:
        if not self._quiet:
            print(line, flush=True)


async def _call(command: list[str], must: bool = True) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode and must:
        raise DemoError(f"{shlex.join(command)} ended with {process.returncode}: {err.decode().strip()}")
    return out.decode().rstrip()


def main() -> int:
    """The program: 0 when the markers were right."""
    parser = argparse.ArgumentParser(
        prog="script/demo", description="Show virtsnap at work on a small guest."
    )
    parser.parse_args()
    program = Path(sys.executable).with_name("virtsnap")
    begin = time.monotonic()
    try:
        image = guest.build()
        # Short: the path of a unix socket has at most 107 bytes.
        with tempfile.TemporaryDirectory(prefix="virtsnap-demo-") as text:
            uri = f"qemu:///embed?root={text}/root"
            print(f"(virtsnap stands for: virtsnap -c {uri})")
            asyncio.run(Demo([str(program), "-c", uri], Path(text), image).run())
    except (DemoError, ConsoleError, packages.LabError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\nEvery marker was right. {time.monotonic() - begin:.0f} s in all.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
