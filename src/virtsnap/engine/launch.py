"""From a definition to a QEMU that waits, paused, with its monitor answering; and its end.

Every instance has a run folder of its own, `ROOT/run/ID`: sockets, event log, and `instance.json`, which
names the process. The folder is made before the process and removed after it, and the process carries the
folder's path in its command line; so whatever a crash leaves can be found by either.
A start that fails leaves no process, no socket and no folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from virtsnap.engine import swtpm
from virtsnap.engine.telling import tell_control_error
from virtsnap.engine.world import (
    World,
    events_path,
    instance_path,
    monitor_path,
    query_path,
    read_instance,
)
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.aliases import with_aliases
from virtsnap.machine.board_args import boot_memory_kib
from virtsnap.machine.command_line import Launch, Layer, command_line
from virtsnap.model.domain import Instance
from virtsnap.model.errors import ErrorCode, Failed
from virtsnap.model.facts import MappedMemory
from virtsnap.model.frozen import dataclass
from virtsnap.qemu import capabilities, first_pages, images, mapped, process
from virtsnap.qemu.monitor import Monitor
from virtsnap.store.files import write_atomic

_HELLO = b'{"execute":"qmp_capabilities"}\n'
_GRACE_SECONDS = 10.0
"""How long QEMU may take to flush its disks after SIGTERM before it is killed."""


async def start(
    world: World,
    *,
    id: int,
    run_dir: str,
    domain_xml: str,
    incoming: bool,
    memory: MappedMemory | None = None,
    own_tpm: bool = False,
) -> Instance:
    """Start QEMU for the definition, and its TPM if it has one. `own_tpm`: see `swtpm.start`.

    Raises Refused for what cannot be, Failed when QEMU says no.
    """
    # The user's own file is mapped as a copy, which has its own place in the host's cache.
    image = None if memory is None or memory.shared else memory
    if image is not None:
        first_pages.ask(image)
    definition = DomainDefinition.parse(domain_xml)
    chains = await _chains(definition)
    caps = await capabilities.probe(definition.emulator, cache=world.root / "cache")
    _make_variable_store(definition)
    _make_folder(run_dir)
    sockets: list[socket.socket] = []
    pages: list[int] = []
    try:
        if memory is not None and memory.shared:
            pages.append(_own_copy(memory.path))
            memory = replace(memory, path=f"/proc/self/fd/{pages[0]}")
        sockets = [process.listen(monitor_path(run_dir)), process.listen(query_path(run_dir))]
        _make_event_log(run_dir, caps)
        control = None
        if definition.tpm is not None:
            control = await swtpm.start(
                str(world.root),
                definition,
                definition.tpm,
                run_dir=run_dir,
                log_path=_log_path(world, f"{definition.uuid}-swtpm"),
                own=own_tpm,
            )
            sockets.append(control)
        line = command_line(
            definition,
            Launch(
                monitor_fd=sockets[0].fileno(),
                query_fd=sockets[1].fileno(),
                tpm_fd=None if control is None else control.fileno(),
                events_path=events_path(run_dir),
                hello_path=os.path.join(run_dir, "hello"),
                run_dir=run_dir,
                chains=chains,
                incoming=incoming,
                memory=memory,
                qemu_version=caps.version,
                now=int(time.time()),
                timezone_offset=time.localtime().tm_gmtoff,
            ),
        )
        log_path = _log_path(world, f"{definition.uuid}")
        spawned = process.spawn(
            line.argv,
            pass_fds=[*(s.fileno() for s in sockets), *pages],
            log_path=log_path,
            cwd=run_dir,
            env={**os.environ, **line.env},
        )
        instance = Instance(id, spawned.pid, spawned.start_ticks, spawned.boot_id, run_dir)
        _note(instance, image, {}, {}, None)
        for sock in sockets:
            sock.close()
        try:
            monitor = await process.await_monitor(
                instance, monitor_path(run_dir), log_path, log_start=spawned.log_start
            )
        except process.NeverMet:
            tell_control_error(world)
            raise
        world.adopt(run_dir, monitor)
        for command, arguments in line.commands:
            await monitor.execute_raw(command, dict(arguments))
        layers = {target: _Chain(line.node_indexes.get(target, 1), chain) for target, chain in chains.items()}
        devices, vnc = await _character_devices(monitor), await _vnc(monitor, definition)
        _note(instance, image, devices, layers, vnc)
    except BaseException:
        for sock in sockets:
            sock.close()
        await end(world, run_dir)
        raise
    finally:
        for descriptor in pages:
            os.close(descriptor)
    return instance


async def end(world: World, run_dir: str) -> None:
    """End the QEMU of a run folder, letting it flush its disks, then its TPM, and remove the folder."""
    ending = _processes(run_dir)
    for instance in ending:
        # A paused QEMU handles SIGTERM as well: it is the process that ends, not the guest.
        process.kill(instance, signal.SIGTERM)
    # Meanwhile, rather than before: a QEMU takes milliseconds to end, and so does this import.
    await world.drop_monitor(run_dir)
    import shutil

    for instance in ending:
        if not await process.wait_gone(instance, _GRACE_SECONDS):
            process.kill(instance, signal.SIGKILL)
            if not await process.wait_gone(instance, _GRACE_SECONDS):
                raise Failed(
                    f"Failed to terminate process {instance.pid} with SIGKILL: Device or resource busy",
                    code=ErrorCode.SYSTEM_ERROR,
                )
    swtpm.end(run_dir)
    shutil.rmtree(run_dir, ignore_errors=True)


def started(run_dir: str, domain_xml: str) -> tuple[Instance, str]:
    """The instance of a run folder, and the definition as it lives: id, terminals, sockets, memory as it is.

    Raises Failed when nothing was started there.
    """
    instance = read_instance(run_dir)
    if instance is None:
        raise Failed("the process that was started is gone", code=ErrorCode.INTERNAL_ERROR)
    with open(instance_path(run_dir), encoding="utf-8") as file:
        noted: dict[str, Any] = json.load(file)
    definition = with_aliases(DomainDefinition.parse(domain_xml)).with_id(instance.id)
    said, memory = definition.memory_kib, boot_memory_kib(definition)
    if memory != said:
        current = definition.current_memory_kib
        definition = definition.with_memory(memory, memory if current == said else current)
    for target, (first_index, layers) in noted["chains"].items():
        definition = definition.with_backing_chain(target, [Layer(*layer) for layer in layers], first_index)
    if vnc := noted.get("vnc"):  # a release before did not note it
        definition = definition.with_vnc(vnc[1], vnc[0])
    return instance, definition.with_console_paths(noted["character_devices"]).to_xml()


def _own_copy(path: str) -> int:
    try:
        return mapped.own_copy(path)
    except OSError as error:
        raise Failed(f"Failed to copy '{path}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR) from error


def _make_folder(run_dir: str) -> None:
    try:
        os.makedirs(os.path.dirname(run_dir), mode=0o700, exist_ok=True)
        os.mkdir(run_dir, mode=0o700)
    except OSError as error:
        raise Failed(
            f"cannot create directory '{run_dir}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR
        ) from error


def _make_variable_store(definition: DomainDefinition) -> None:
    """The UEFI variables of a domain that has not run before begin as its firmware's template."""
    path, template = definition.nvram_path, definition.nvram_template
    if path is None or template is None or os.path.exists(path):
        return
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_atomic(Path(path), Path(template).read_bytes())
    except OSError as error:
        raise Failed(
            f"Failed to create file '{path}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR
        ) from error


def _make_event_log(run_dir: str, caps: capabilities.Capabilities) -> None:
    """The files of the monitor that only QEMU writes to; see `machine.command_line` for the two kinds."""
    write_atomic(Path(run_dir) / "hello", _HELLO, durable=False)
    if not caps.has_chardev_input_path:
        events = Path(events_path(run_dir))
        write_atomic(events.with_name("events.in"), _HELLO, durable=False)
        write_atomic(events.with_name("events.out"), b"", durable=False)
        events.symlink_to("events.out")


def _log_path(world: World, name: str) -> str:
    folder = world.root / "log"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(folder / f"{name}.log")


@dataclass(frozen=True)
class _Chain:
    """A disk's images as QEMU opened them."""

    first_index: int
    layers: tuple[Layer, ...]


def _note(
    instance: Instance,
    image: MappedMemory | None,
    character_devices: dict[str, str],
    chains: dict[str, _Chain],
    vnc: tuple[str, int] | None,
) -> None:
    noted: dict[str, Any] = {
        "id": instance.id,
        "pid": instance.pid,
        "start_ticks": instance.start_ticks,
        "boot_id": instance.boot_id,
        "mapped": None if image is None else [image.path, image.offset, image.length],
        "character_devices": character_devices,
        "vnc": vnc,
        "chains": {
            target: [chain.first_index, [[x.path, x.format, x.type] for x in chain.layers]]
            for target, chain in chains.items()
        },
    }
    # No longer than the process: a power cut ends both.
    write_atomic(Path(instance_path(instance.run_dir)), json.dumps(noted).encode(), durable=False)


async def _chains(definition: DomainDefinition) -> dict[str, tuple[Layer, ...]]:
    """Every layer of every disk, top first. Raises SystemRefused when one is missing."""
    disks = [disk for disk in definition.disks if disk.source is not None]
    found = await asyncio.gather(*(images.chain(disk.source or "", disk.format) for disk in disks))
    return {
        disk.target: tuple(
            Layer(image.path, image.format, "block" if image.block_device else "file") for image in chain
        )
        for disk, chain in zip(disks, found, strict=True)
    }


async def _vnc(monitor: Monitor, definition: DomainDefinition) -> tuple[str, int] | None:
    """Address and port of the screen, which QEMU may have chosen."""
    if definition.tree().find("devices/graphics[@type='vnc']") is None:
        return None
    found = await monitor.execute("query-vnc")
    if not found["enabled"] or found.get("family") not in ("ipv4", "ipv6"):
        return None
    return found["host"], int(found["service"])


async def _character_devices(monitor: Monitor) -> dict[str, str]:
    """Alias to pseudo-terminal or socket path (QMP query-chardev; our ids are 'char' + alias)."""
    paths: dict[str, str] = {}
    for device in await monitor.execute("query-chardev"):
        label, filename = device["label"], device["filename"]
        for prefix in ("pty:", "unix:", "disconnected:unix:"):
            if not label.startswith("char") or not filename.startswith(prefix):
                continue
            path = filename.removeprefix(prefix).split(",", 1)[0]
            if path:  # older QEMUs do not tell where a socket that connects leads
                paths[label.removeprefix("char")] = path
    return paths


def _processes(run_dir: str) -> list[Instance]:
    """The living processes of a run folder: the noted one, and one that a crash kept from being noted."""
    if not os.path.isdir(run_dir):
        return []  # it is made before the process
    noted = read_instance(run_dir)
    if noted is not None:
        return [noted] if process.alive(noted) else []
    return [
        Instance(-1, one.pid, one.start_ticks, one.boot_id, run_dir)
        for one in process.naming(events_path(run_dir))
    ]
