"""Runs the lab guest under a bare QEMU, without virtsnap or libvirt: to prove the guest itself.

Emulated always (TCG): a /dev/kvm that opens may still hang every guest.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from qemu.qmp import EventListener, QMPClient, QMPError

from lab.console import GuestConsole
from lab.guest import GuestImage


class Machine:
    """A QEMU process with the guest in it, from `async with` to its end; nothing of it is left behind."""

    def __init__(
        self,
        guest: GuestImage,
        disks: Sequence[Path] = (),
        *,
        memory_mib: int = 256,
        machine: str = "q35",
        tick: Path | None = None,
        incoming: Path | None = None,
        options: Sequence[str] = (),
        cmdline: str = "",
    ) -> None:
        """`incoming`: a saved state to start from instead of booting. `options` go to QEMU as they are."""
        self._folder = tempfile.TemporaryDirectory(prefix="virtsnap-lab-")
        self.folder = Path(self._folder.name)
        self._incoming = incoming
        self._process: asyncio.subprocess.Process | None = None
        self.qmp = QMPClient("lab")
        append = f"{guest.cmdline}{' virtsnap.tick=ttyS1' if tick else ''} {cmdline}"
        self._command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"]
        self._command += ["-machine", machine, "-accel", "tcg", "-m", str(memory_mib)]
        self._command += ["-kernel", str(guest.kernel), "-initrd", str(guest.initrd), "-append", append]
        self._command += ["-serial", f"unix:{self.folder}/console,server=on,wait=off"]
        self._command += ["-serial", f"file:{tick}"] if tick else []
        for number, disk in enumerate(disks):
            kind = "raw" if disk.suffix in (".raw", ".img") else "qcow2"
            self._command += ["-drive", f"if=none,id=d{number},format={kind},file={disk}"]
            self._command += ["-device", f"virtio-blk-pci,drive=d{number}"]
        self._command += ["-incoming", "defer"] if incoming else []
        self._command += options

    async def __aenter__(self) -> Machine:
        # QEMU is born holding its end of the QMP line: no socket file to wait for.
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                line = ["-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "chardev=qmp,mode=control"]
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, *line, pass_fds=[theirs.fileno()]
                )
            await self.qmp.connect(ours)
            if self._incoming:
                await self._migration("migrate-incoming", self._incoming)
                await self.execute("cont")
        except BaseException:
            ours.close()
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A QEMU that is killed leaves behind what its images held in memory.
        with contextlib.suppress(QMPError, TimeoutError):
            async with asyncio.timeout(10):
                await self.execute("quit")
                await self.wait_ended()
        await self._end()

    async def wait_ended(self, timeout: float = 30) -> int:
        """Wait until QEMU ends by itself; its exit status."""
        assert self._process
        async with asyncio.timeout(timeout):
            return await self._process.wait()

    async def _end(self) -> None:
        try:
            if self._process:
                if self._process.returncode is None:
                    self._process.kill()
                await self._process.wait()
            with contextlib.suppress(QMPError, EOFError, ConnectionError):
                # The peer is gone; disconnecting only collects the client's own tasks.
                await self.qmp.disconnect()
        finally:
            self._folder.cleanup()

    async def execute(self, command: str, **arguments: Any) -> Any:
        """One QMP command."""
        return await self.qmp.execute(command, arguments or None)

    async def save(self, state: Path) -> None:
        """Stop the guest and write its memory and devices into `state`. It stays stopped."""
        await self.execute("stop")
        await self._migration("migrate", state)

    async def _migration(self, command: str, state: Path) -> None:
        events = EventListener("MIGRATION")
        capability = {"capability": "events", "state": True}
        with self.qmp.listen(events):
            await self.execute("migrate-set-capabilities", capabilities=[capability])
            # QEMU before 8.2 does not take a file by name.
            with state.open("wb" if command == "migrate" else "rb") as file:
                self.qmp.send_fd_scm(file.fileno())
                await self.execute("getfd", fdname="state")
            await self.execute(command, uri="fd:state")
            async for event in events:
                status = cast("dict[str, str]", event["data"])["status"]
                if status == "failed":
                    raise RuntimeError(f"{command} of {state} failed: {await self.execute('query-migrate')}")
                if status == "completed":
                    return

    async def console(self) -> GuestConsole:
        """A new connection to the guest's console."""
        return await GuestConsole.connect(self.folder / "console")
