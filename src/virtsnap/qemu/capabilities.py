"""What one QEMU binary can do, asked of itself and remembered until the binary changes.

Asking costs a start of QEMU (about 0.1 s), which a command line cannot afford each time; nor can it afford to
import what only asking needs. What is not here: what is done with the answers (`machine`, `qemu.memory`).
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from virtsnap.model.errors import ConfigUnsupported, Failed, InternalRefused, SystemRefused
from virtsnap.model.frozen import dataclass
from virtsnap.qemu import process
from virtsnap.qemu.monitor import Monitor, MonitorLost

DEFAULT_EMULATOR = "qemu-system-x86_64"
OLDEST = (7, 2, 0)
"""The floor: what works on no older QEMU is not tried there."""

_CACHE_FORMAT = 2
_PROBE_SECONDS = 30.0


@dataclass(frozen=True)
class Capabilities:
    """A binary's answers."""

    emulator: str
    """Absolute path."""
    version: tuple[int, int, int]
    machines: tuple[str, ...] = ()
    """Full names (QMP query-machines)."""
    machine_aliases: Mapping[str, str] = field(default_factory=dict)
    """'pc' -> 'pc-i440fx-10.0', 'q35' -> ..."""
    machine_cpus: Mapping[str, int] = field(default_factory=dict)
    """How many processors a machine takes, by full name."""
    default_machine: str | None = None
    """Full name of the machine that QEMU takes when told none."""
    has_mapped_ram: bool = False
    """Migration capability mapped-ram (QEMU 9.0): memory at fixed places of a file."""
    has_background_snapshot: bool = False
    """Migration capability background-snapshot (QEMU 6.0)."""
    has_blockdev_set_active: bool = False
    """QMP command blockdev-set-active (QEMU 10.0)."""
    has_migration_file: bool = False
    """Migration to `file:` (QEMU 8.2)."""
    has_chardev_input_path: bool = False
    """`-chardev file,input-path=` (QEMU 8.1); without it, a pipe of two plain files does the same."""

    def canonical_machine(self, name: str) -> str:
        """The full name of a machine type or alias. Raises ConfigUnsupported in libvirt's words."""
        full = self.machine_aliases.get(name, name)
        if full not in self.machines:
            raise ConfigUnsupported(f"Emulator '{self.emulator}' does not support machine type '{name}'")
        return full


async def probe(emulator: str | None = None, *, cache: Path | str | None = None) -> Capabilities:
    """Ask a QEMU binary what it can do.

    `emulator`: a path, or a name to look up in PATH; None: the default one. `cache`: folder in which answers
    are kept, made when needed. Raises SystemRefused when the binary cannot be run, ConfigUnsupported when it
    is too old, InternalRefused when it does not answer as QEMU does.
    """
    path = _find(emulator or DEFAULT_EMULATOR)
    status = os.stat(path)
    key = f"{_CACHE_FORMAT} {path} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_size}"
    # The key names the path: two that share a file make each other ask again, no more.
    file = None if cache is None else Path(cache) / f"qemu-{zlib.crc32(os.fsencode(path)):08x}.json"
    found = None if file is None else _remembered(file, key)
    if found is None:
        found = await _ask(path)
        if file is not None:
            _remember(file, key, found)
    if found.version < OLDEST:
        raise ConfigUnsupported(
            f"QEMU {'.'.join(map(str, found.version))} at '{path}' is too old: 7.2 is the oldest that works"
        )
    return found


def kvm_usable() -> bool:
    """Whether a guest can run under KVM here: /dev/kvm opens, and the processor itself has VMX or SVM.

    Both, since a device that opens on a host without either flag lets guests start and hang.
    """
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return cpu_virtualizes(cpuinfo)


def cpu_virtualizes(cpuinfo: str) -> bool:
    """Whether /proc/cpuinfo names Intel's or AMD's virtualization."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return not {"vmx", "svm"}.isdisjoint(value.split())
    return False


def _find(emulator: str) -> str:
    """The absolute path, known to be executable."""
    path: str | None = os.path.abspath(emulator)
    if "/" not in emulator:
        import shutil

        path = shutil.which(emulator)
    if path is None or not os.path.exists(path):
        raise SystemRefused(f"Cannot check QEMU binary {path or emulator}: No such file or directory")
    if not os.path.isfile(path) or not os.access(path, os.X_OK):
        raise SystemRefused(f"QEMU binary {path} is not executable: Permission denied")
    return path


async def _ask(path: str) -> Capabilities:
    try:
        try:
            return await _asked(path)
        except MonitorLost:
            # QEMU 10.0 was seen to crash, once in thousands of times, while it looks through its types.
            return await _asked(path)
    except Failed as error:
        raise InternalRefused(f"Failed to probe QEMU binary with QMP: {error.detail}") from error


async def _asked(path: str) -> Capabilities:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="virtsnap-probe-") as folder:
        log = f"{folder}/log"
        with process.listen(f"{folder}/qmp.sock") as sock:
            try:
                spawned = process.spawn(
                    [
                        *(path, "-S", "-no-user-config", "-nodefaults", "-display", "none"),
                        *("-machine", "none,accel=tcg"),
                        *("-chardev", f"socket,id=probe,fd={sock.fileno()},server=on,wait=off"),
                        *("-mon", "chardev=probe,mode=control"),
                    ],
                    pass_fds=[sock.fileno()],
                    log_path=log,
                    cwd=folder,
                )
            except Failed as error:
                raise SystemRefused(error.detail) from error
        try:
            monitor = await process.await_monitor(spawned, f"{folder}/qmp.sock", log, timeout=_PROBE_SECONDS)
            async with monitor:
                return await _answers(path, monitor)
        finally:
            process.kill(spawned)
            await process.wait_gone(spawned, _PROBE_SECONDS)


async def _answers(path: str, monitor: Monitor) -> Capabilities:
    machines = await monitor.execute("query-machines")
    commands = {entry["name"] for entry in await monitor.execute("query-commands")}
    migration = {entry["capability"] for entry in await monitor.execute("query-migrate-capabilities")}
    return Capabilities(
        emulator=path,
        version=monitor.version,
        machines=tuple(sorted(machine["name"] for machine in machines)),
        machine_aliases={machine["alias"]: machine["name"] for machine in machines if "alias" in machine},
        machine_cpus={machine["name"]: machine["cpu-max"] for machine in machines},
        default_machine=next((m["name"] for m in machines if m.get("is-default")), None),
        has_mapped_ram="mapped-ram" in migration,
        has_background_snapshot="background-snapshot" in migration,
        has_blockdev_set_active="blockdev-set-active" in commands,
        has_migration_file=monitor.version >= (8, 2, 0),
        has_chardev_input_path=monitor.version >= (8, 1, 0),
    )


def _remembered(file: Path, key: str) -> Capabilities | None:
    """The answers kept for that key. A file that cannot be understood is as good as none."""
    try:
        kept: Any = json.loads(file.read_bytes())
        if kept["key"] != key:
            return None
        fields = kept["capabilities"]
        return Capabilities(
            **{**fields, "version": tuple(fields["version"]), "machines": tuple(fields["machines"])}
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(file: Path, key: str, found: Capabilities) -> None:
    """Keep the answers; a cache that cannot be written costs time and nothing else."""
    import tempfile

    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.", delete=False) as new:
            try:
                json.dump({"key": key, "capabilities": asdict(found)}, new)
                new.close()
                os.replace(new.name, file)
            except BaseException:
                os.unlink(new.name)
                raise
