"""The only reader of the world for plans: takes one frozen picture of a domain and its images.

In parts, all under the domain's lock: `gather` before the request is understood, `with_files` for the paths
that the request turned out to be about, `with_agent` where it needs the guest's help, `with_memory_image`
where one is to be brought back.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.formats.guest_agent import agent_channel
from virtsnap.model.block_job import BlockJob
from virtsnap.model.domain import DomainRecord, DomainState
from virtsnap.model.errors import Failed, VirtsnapError
from virtsnap.model.facts import (
    AgentFacts,
    DomainFacts,
    FileFacts,
    ImageFacts,
    ImageRole,
    MappedMemory,
    MemoryWay,
)
from virtsnap.model.snapshot import Snapshot, SnapshotTree
from virtsnap.plan.images import definition_images, disks_of, frozen_images
from virtsnap.qemu import agent, blocks, capabilities, file_locks, images, mapped, memory, process
from virtsnap.qemu.monitor import Monitor


async def gather(
    *,
    root: str,
    record: DomainRecord,
    tree: SnapshotTree,
    owned: dict[str, str],
    others: Iterable[tuple[DomainRecord, SnapshotTree]],
    monitor: Monitor | None,
    memory_way: MemoryWay,
    qemu_version: tuple[int, ...],
    next_id: int,
    block_jobs: Sequence[BlockJob] = (),
) -> DomainFacts:
    """One picture. `others`: every other domain of the root, whose images must never be touched."""
    named = _named_formats(record, tree)
    found: dict[str, ImageFacts] = {}
    for path, format in sorted(named.items()):
        await _read_chain(path, format, found)
    elsewhere: dict[str, ImageFacts] = {}
    for other, other_tree in others:
        for path, format in sorted(_named_formats(other, other_tree).items()):
            await _read_chain(path, format, elsewhere)
    folders = {os.path.dirname(path) for path in found}
    blockers: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    next_node = 1
    if monitor is not None:
        # Sent in one go: QEMU answers one after the other.
        blockers, jobs, next_node = await asyncio.gather(
            _migration_blockers(monitor), _jobs(monitor, block_jobs), blocks.next_node_number(monitor)
        )
    return DomainFacts(
        record=record,
        tree=tree,
        now=int(time.time()),
        images=found,
        owned={path: ImageRole(role) for path, role in owned.items()},
        named_elsewhere=frozenset(elsewhere),
        held=frozenset(path for path in found if file_locks.held(path)) if not record.active else frozenset(),
        free={folder: free for folder in folders if (free := _free(folder)) is not None},
        memory_way=memory_way,
        qemu_version=qemu_version,
        memory_in_use=_memory_in_use(record),
        migration_blockers=blockers,
        jobs=jobs,
        block_jobs=tuple(block_jobs),
        next_node=next_node,
        next_id=next_id,
        root=root,
    )


async def _migration_blockers(monitor: Monitor) -> tuple[str, ...]:
    answer = await monitor.execute("query-migrate")
    return tuple(answer.get("blocked-reasons", ()))


async def with_files(facts: DomainFacts, paths: Iterable[str]) -> DomainFacts:
    """The picture, with what stat says of these paths and how much room their folders have."""
    paths = list(paths)
    files = {path: file_facts(path) for path in paths}
    folders = {os.path.dirname(path) for path in paths} - set(facts.free)
    free = {folder: size for folder in folders if (size := _free(folder)) is not None}
    return replace(facts, files={**facts.files, **files}, free={**facts.free, **free})


async def with_agent(facts: DomainFacts, monitor: Monitor | None) -> DomainFacts:
    """The picture, with whether the guest agent answers. Asks it nothing unless the guest runs."""
    xml, running = facts.record.live_xml, facts.record.state is DomainState.RUNNING
    channel = agent_channel(xml) if xml is not None and running and monitor is not None else None
    if channel is None or monitor is None:
        return replace(facts, agent=AgentFacts(configured=False))
    try:
        socket = await agent.open_socket(monitor, channel)
        found = AgentFacts(True, socket, frozen=await agent.is_frozen(socket))
    except Failed as error:
        found = AgentFacts(True, problem=error.detail)
    return replace(facts, agent=found)


async def with_memory_image(facts: DomainFacts, snapshot: Snapshot, cache: Path) -> DomainFacts:
    """The picture, with whether the snapshot's memory can be mapped by the QEMU that its definition names."""
    if snapshot.memory_file is None or snapshot.domain_xml is None:
        return facts
    definition = DomainDefinition.parse(snapshot.domain_xml)
    return replace(facts, mappable=await mappable_memory(snapshot.memory_file, definition, cache))


async def mappable_memory(
    path: str, definition: DomainDefinition, cache: Path, *, shared: bool = False
) -> MappedMemory | None:
    """The guest's pages in a memory image, if the QEMU that the definition names can map them.

    `shared`: others may write over the file, so that it takes a file system that copies without copying.
    Quiet about what is wrong with the image or the emulator: whoever needs them will say it.
    """
    if definition.element.find("memoryBacking") is not None:
        return None  # locked, or of a special kind: that is what it is to be
    try:
        version = (await capabilities.probe(definition.emulator, cache=cache)).version
        found = mapped.mappable(path, memory.read_header(path), version)
        if found is not None and shared:
            os.close(mapped.own_copy(path))
            return replace(found, shared=True)
        return found
    except (VirtsnapError, OSError):
        return None


def file_facts(path: str) -> FileFacts:
    """stat of one path."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            return FileFacts(exists=False, error="No such file or directory")
        return FileFacts(exists=False)
    except OSError as error:
        return FileFacts(exists=False, error=error.strerror)
    return FileFacts(
        exists=True,
        regular=stat.S_ISREG(status.st_mode),
        block_device=stat.S_ISBLK(status.st_mode),
        size=status.st_size,
    )


def is_regular(path: str) -> bool:
    """Whether the path is a regular file now."""
    return os.path.isfile(path)


def _named_formats(record: DomainRecord, tree: SnapshotTree) -> dict[str, str]:
    """Every image that the domain or one of its snapshots names, with the format it is said to have."""
    texts = [record.config_xml, record.live_xml, *(snapshot.domain_xml for snapshot in tree)]
    wanted = set(definition_images(record.config_xml, record.live_xml))
    for snapshot in tree:
        wanted |= set(frozen_images(snapshot).values())
    return {
        disk.source: disk.format
        for xml in texts
        if xml is not None
        for disk in disks_of(xml)
        if disk.source in wanted and disk.source is not None and disk.type in ("file", "block")
    }


async def chain(path: str, format: str) -> tuple[ImageFacts, ...]:
    """An image and all that it stands on, from the top; a missing one comes last."""
    found: dict[str, ImageFacts] = {}
    await _read_chain(path, format, found)
    return tuple(found.values())


async def _read_chain(path: str, format: str, found: dict[str, ImageFacts]) -> None:
    """The image and what it stands on, as far as it can be read; a missing one is noted as missing."""
    at: str | None = path
    while at is not None and at not in found:
        try:
            found[at] = await images.read(at, format)
        except (VirtsnapError, OSError) as error:
            # The plan decides what a missing or broken image means for the request.
            problem = (error.strerror if isinstance(error, OSError) else None) or str(error)
            found[at] = ImageFacts(path=at, format=format, missing=True, problem=problem.rpartition(": ")[2])
            return
        image = found[at]
        at, format = image.backing, image.backing_format or "raw"


def _free(folder: str) -> int | None:
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def _memory_in_use(record: DomainRecord) -> int:
    if record.instance is None:
        return 0
    return (process.rss_kib(record.instance) or 0) * 1024


async def _jobs(monitor: Monitor, known: Sequence[BlockJob]) -> tuple[str, ...]:
    """Block jobs that run, as 'target: type'; those that are not ours by their name."""
    ours = {job.name: job for job in known}
    found = []
    for job in await monitor.execute("query-block-jobs"):
        name, kind = job["device"], job["type"]
        if name in ours:
            kind = "mirror" if ours[name].type.mirrors else kind
            name = ours[name].target
        found.append(f"{name}: {kind}")
    return tuple(found)
