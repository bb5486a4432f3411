"""The disks of a running QEMU: which image stands on which, new layers on top, and layers merged away.

Every layer is two nodes, named as libvirt names them: `libvirt-N-storage` for the file or block device and
`libvirt-N-format` for its content. What QEMU has is always asked anew (`query-blockstats` for the graph,
`query-named-block-nodes` for the files), never remembered, since a plan may be finished by another process
than the one that began it. For the same reason a block job keeps its result until somebody dismisses it, and
a job that is found under the name given is taken over instead of started again.

What is not here: the nodes that QEMU is started with (`machine`), images at rest (`qemu.images`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any

from virtsnap.model.errors import ErrorCode, Failed
from virtsnap.model.frozen import dataclass
from virtsnap.qemu.monitor import Listener, Monitor, MonitorLost, QmpCommandFailed

ProgressCallback = Callable[[int, int], None]
"""(done, total) in bytes."""

_PROGRESS_SECONDS = 0.2
_ENDINGS = ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED")
_GONE: dict[str, Any] = {"type": "", "status": "null", "current-progress": 0, "total-progress": 0}
_NODE = re.compile(r"libvirt-(\d+)-(?:format|storage)")
_DEVICE = re.compile(r"/machine/(?:peripheral|peripheral-anon)/([^/]+)")


@dataclass(frozen=True)
class NodeInfo:
    """One layer of a disk."""

    node_name: str
    """The format node."""
    path: str
    """The file or block device as QEMU opened it."""
    format: str
    """QEMU's driver: 'qcow2', 'raw'..."""
    storage_node: str = ""


@dataclass(frozen=True)
class OverlayOptions:
    """How QEMU shall treat a new layer: the disk's `<driver>` in QEMU's words. None: QEMU's default."""

    cache_direct: bool | None = None
    cache_no_flush: bool | None = None
    discard: str | None = None
    detect_zeroes: str | None = None
    aio: str | None = None


async def top_nodes(monitor: Monitor, aliases: Mapping[str, str] | None = None) -> dict[str, NodeInfo]:
    """The layer that each disk device writes to, by the device's alias (QEMU's id). No entry: an empty drive.

    With `aliases` (disk target to alias, as the live XML has them) by target instead.
    """
    graph = await _Graph.ask(monitor)
    tops = {alias: next(graph.chain(stats)) for alias, stats in graph.devices.items() if "node-name" in stats}
    if aliases is None:
        return tops
    return {target: tops[alias] for target, alias in aliases.items() if alias in tops}


async def query_chain(monitor: Monitor, device_or_node: str) -> tuple[NodeInfo, ...]:
    """The layers from a device's top, or from a node that is part of a disk, down to the last one.

    Raises Failed when there is no such device or node, or the drive is empty.
    """
    graph = await _Graph.ask(monitor)
    stats = graph.devices.get(device_or_node) or graph.find(device_or_node)
    if stats is None or "node-name" not in stats:
        raise Failed(f"no block device or node '{device_or_node}' in QEMU", code=ErrorCode.INTERNAL_ERROR)
    return tuple(graph.chain(stats))


async def next_node_number(monitor: Monitor) -> int:
    """The first N beyond every node libvirt-N-* that exists."""
    return number_after(await _node_names(monitor))


def number_after(names: Iterable[str]) -> int:
    """The first N beyond every libvirt-N-* among `names`."""
    return 1 + max((int(found[1]) for name in names if (found := _NODE.fullmatch(name))), default=0)


async def add_overlay(
    monitor: Monitor,
    *,
    path: str,
    format: str,
    node_format: str,
    node_storage: str,
    type: str,
    options: OverlayOptions | None = None,
    backing: str | None = None,
) -> None:
    """Open an image that is to become a layer, on node `backing` or nothing yet. `type`: 'file' or 'block'.

    When it fails, neither node is there. Raises Failed with QEMU's cause.
    """
    options = options or OverlayOptions()
    cache = {"direct": options.cache_direct, "no-flush": options.cache_no_flush}
    common: dict[str, Any] = (
        {"cache": {name: bool(value) for name, value in cache.items()}}
        if any(value is not None for value in cache.values())
        else {}
    )
    storage = {
        "driver": "host_device" if type == "block" else "file",
        "filename": path,
        "node-name": node_storage,
        "auto-read-only": True,
        "discard": "unmap",
        **({} if options.aio is None else {"aio": options.aio}),
        **common,
    }
    content = {
        "driver": format,
        "node-name": node_format,
        "file": node_storage,
        "read-only": False,
        **({} if options.discard is None else {"discard": options.discard}),
        **({} if options.detect_zeroes is None else {"detect-zeroes": options.detect_zeroes}),
        **common,
        # What the header names is already open as the disk's present top.
        **({} if format == "raw" else {"backing": backing}),
    }
    await monitor.execute_raw("blockdev-add", storage)
    try:
        await monitor.execute_raw("blockdev-add", content)
    except BaseException:
        with contextlib.suppress(MonitorLost, QmpCommandFailed):
            await monitor.execute("blockdev-del", node_name=node_storage)
        raise


async def del_nodes(monitor: Monitor, names: Sequence[str]) -> None:
    """Remove nodes, in this order (a format node before its storage node); those that are gone are skipped.

    Raises Failed when one is still in use.
    """
    existing = await _node_names(monitor)
    for name in names:
        if name in existing:
            await monitor.execute("blockdev-del", node_name=name)


async def switch(monitor: Monitor, pairs: Sequence[tuple[str, str]]) -> None:
    """Put overlays on top of disks, all at one instant or none: pairs of (present top node, overlay node).

    Raises Failed with QEMU's cause; no disk has changed then.
    """
    await monitor.execute(
        "transaction",
        actions=[
            {"type": "blockdev-snapshot", "data": {"node": top, "overlay": overlay}} for top, overlay in pairs
        ],
    )


async def tag(monitor: Monitor, name: str, nodes: Sequence[str]) -> None:
    """Internal snapshots `name` of disks' top nodes, all at one instant or none. Raises Failed."""
    await monitor.execute(
        "transaction",
        actions=[
            {"type": "blockdev-snapshot-internal-sync", "data": {"device": node, "name": name}}
            for node in nodes
        ],
    )


async def commit(
    monitor: Monitor,
    *,
    device_top: str,
    top: str,
    base: str,
    backing_file: str | None,
    active: bool,
    job: str,
    progress: ProgressCallback | None = None,
    settled: Callable[[], None] | None = None,
) -> None:
    """Merge down: the content of `top` and of all between goes into `base` (node names); they leave the disk.

    `device_top` is the disk's top node. `active`: `top` is that node, and the disk writes to `base` from then
    on; otherwise the layer above `top` gets `backing_file` as the name of its backing image in its header.
    The nodes of the layers that are gone are removed, their files are not. Returns when all is done; a
    cancelled call cancels the job, and the layers are as before. A job of that name that is there already is
    taken over, as `adopt` does; one that has failed is started again.

    `settled` is called when an active merge has copied everything and QEMU lets nobody write: from its return
    on the disk writes to `base`, and `top` must never be copied again.

    Raises Failed with QEMU's cause; the disk then works on as before.
    """
    if await _take_over(monitor, job, progress, settled):
        await remove_unused(monitor)
        return
    dropped = await _between(monitor, top, base, with_top=True)
    arguments: dict[str, Any] = {
        "auto-dismiss": False,
        "auto-finalize": not active,
        "device": device_top,
        "top-node": top,
        "base-node": base,
    }
    if not active and backing_file is not None:
        arguments["backing-file"] = backing_file
    await run_job(monitor, job, "block-commit", arguments, progress, settled)
    await del_nodes(monitor, dropped)


async def stream(
    monitor: Monitor,
    *,
    top: str,
    base: str | None,
    backing_file: str | None,
    job: str,
    progress: ProgressCallback | None = None,
) -> None:
    """Merge up: `top` takes in all that is between it and `base` (node names); None: down to the last layer.

    `top` then stands on `base`, under the name `backing_file` in its header, or on nothing. QEMU writes that
    header at once but keeps the tables that say where the merged content is in its cache: they are flushed
    first, or a QEMU that dies would take the content with it. Nodes, jobs and errors as `commit`, but for the
    result, which only the one who watches learns; to others the layers show whether it was done.
    """
    if await _take_over(monitor, job, progress):
        await remove_unused(monitor)
        return
    dropped = await _between(monitor, top, base, with_top=False)
    # Dismissed at once: QEMU (10.0, too) crashes when it is asked for its nodes while a stream is concluded.
    arguments: dict[str, Any] = {"auto-finalize": False, "device": top}
    if base is not None:
        arguments["base-node"] = base
        if backing_file is not None:
            arguments["backing-file"] = backing_file
    await run_job(monitor, job, "block-stream", arguments, progress)
    await del_nodes(monitor, dropped)


async def flush(monitor: Monitor) -> None:
    """Make durable what QEMU keeps in its caches of all images that are open for writing.

    Not while a disk is drained, as by an active commit that waits to be finalized: it would wait for that.
    """
    for node in await monitor.execute("query-named-block-nodes", flat=True):
        if not node["ro"] and node["drv"] not in ("file", "host_device"):  # those below are flushed with it
            name = node["node-name"]
            await monitor.execute("human-monitor-command", command_line=f"qemu-io {name} flush")


async def cancel(monitor: Monitor, job: str) -> None:
    """End a job that a process before us left behind; the layers are as before, unless it was done."""
    async with monitor.events("JOB_STATUS_CHANGE", *_ENDINGS) as listener:
        await _cancel_job(monitor, job, listener)


async def adopt(
    monitor: Monitor,
    job: str,
    progress: ProgressCallback | None = None,
    settled: Callable[[], None] | None = None,
) -> bool:
    """Bring a job that a process before us left behind to its end, and remove the nodes that it set free.

    False when there is no job of that name, or it has failed; nodes are removed all the same. Only for a
    moment in which no overlay is attached that is not yet part of a disk: its nodes would go too. Raises as
    `commit` does.
    """
    found = await _take_over(monitor, job, progress, settled)
    await remove_unused(monitor)
    return found


async def remove_unused(monitor: Monitor) -> tuple[str, ...]:
    """Remove every libvirt-N-* node that is no part of a disk; the names of those removed."""
    graph = await _Graph.ask(monitor)
    used = set(graph.used())
    left = [name for name in graph.nodes if _NODE.fullmatch(name) and name not in used]
    removed: list[str] = []
    while left:
        still: list[str] = []
        for name in left:
            try:
                await monitor.execute("blockdev-del", node_name=name)
                removed.append(name)
            except QmpCommandFailed:
                # Something stands on it that goes first.
                still.append(name)
        if len(still) == len(left):
            break
        left = still
    return tuple(removed)


class _Graph:
    """QEMU's block graph as far as disks go, at one moment."""

    def __init__(self, stats: list[dict[str, Any]], nodes: list[dict[str, Any]]) -> None:
        self.nodes = {node["node-name"]: node for node in nodes}
        self.devices: dict[str, dict[str, Any]] = {}
        for entry in stats:
            path = entry.get("qdev") or entry.get("device")
            if path:
                found = _DEVICE.match(path)
                self.devices[found[1] if found else path] = entry

    @classmethod
    async def ask(cls, monitor: Monitor) -> _Graph:
        stats = await monitor.execute("query-blockstats")
        return cls(stats, await monitor.execute("query-named-block-nodes", flat=True))

    def chain(self, stats: dict[str, Any]) -> Iterator[NodeInfo]:
        """The layers from that entry of query-blockstats on."""
        at: dict[str, Any] | None = stats
        while at is not None:
            name = at["node-name"]
            storage = at.get("parent", {}).get("node-name", "")
            node = self.nodes[name]
            file = self.nodes.get(storage, node)["file"]
            yield NodeInfo(name, _plain_path(file), node["drv"], storage)
            at = at.get("backing")

    def find(self, node_name: str) -> dict[str, Any] | None:
        """The entry of a node, wherever in a disk it is."""
        for entry in self.devices.values():
            at: dict[str, Any] | None = entry
            while at is not None:
                if at.get("node-name") == node_name:
                    return at
                at = at.get("backing")
        return None

    def used(self) -> Iterator[str]:
        """Every node that is part of a disk."""
        for entry in self.devices.values():
            if "node-name" in entry:
                for layer in self.chain(entry):
                    yield layer.node_name
                    yield layer.storage_node


def _plain_path(file: str) -> str:
    """The path in a node's `file`, which is a description when a plain name would not say all."""
    if not file.startswith("json:"):
        return file
    node: Any = json.loads(file.removeprefix("json:"))
    while isinstance(node, dict):
        if "filename" in node:
            return str(node["filename"])
        node = node.get("file")
    return file


async def _node_names(monitor: Monitor) -> set[str]:
    return {node["node-name"] for node in await monitor.execute("query-named-block-nodes", flat=True)}


async def _between(monitor: Monitor, top: str, base: str | None, *, with_top: bool) -> list[str]:
    """Nodes from `top`, or from the layer below it, to the last above `base`, in the order they can go."""
    chain = list(await query_chain(monitor, top))
    names = [layer.node_name for layer in chain]
    if base is not None and base not in names[1:]:
        raise Failed(f"node '{base}' is not below node '{top}'", code=ErrorCode.INTERNAL_ERROR)
    layers = chain[0 if with_top else 1 : None if base is None else names.index(base)]
    return [name for layer in layers for name in (layer.node_name, layer.storage_node) if name]


async def run_job(
    monitor: Monitor,
    job: str,
    command: str,
    arguments: dict[str, Any],
    progress: ProgressCallback | None,
    settled: Callable[[], None] | None = None,
) -> None:
    """Start a job and see it to its end."""
    async with _watched(monitor, job) as listener:
        await monitor.execute_raw(command, {"job-id": job, **arguments})
        await _finish_job(monitor, job, listener, progress, settled)


async def _take_over(
    monitor: Monitor,
    job: str,
    progress: ProgressCallback | None,
    settled: Callable[[], None] | None = None,
) -> bool:
    """See a job that is there already to its end. False when there is none, or it had failed by itself."""
    async with _watched(monitor, job) as listener:
        found = await _find_job(monitor, job)
        if found is None:
            return False
        if found["status"] == "concluded" and "error" in found:
            await monitor.execute("job-dismiss", id=job)
            return False
        await _finish_job(monitor, job, listener, progress, settled)
        return True


@contextlib.asynccontextmanager
async def _watched(monitor: Monitor, job: str) -> AsyncIterator[Listener]:
    """The events of jobs; when the caller is cancelled or refused meanwhile, the job is brought to an end."""
    async with monitor.events("JOB_STATUS_CHANGE", *_ENDINGS) as listener:
        try:
            yield listener
        except (Exception, asyncio.CancelledError):
            with contextlib.suppress(MonitorLost):
                await _cancel_job(monitor, job, listener)
            raise


async def _find_job(monitor: Monitor, job: str) -> dict[str, Any] | None:
    jobs: list[dict[str, Any]] = await monitor.execute("query-jobs")
    return next((found for found in jobs if found["id"] == job), None)


async def _finish_job(
    monitor: Monitor,
    job: str,
    listener: Listener,
    progress: ProgressCallback | None,
    settled: Callable[[], None] | None,
) -> None:
    """Take a job through its states (QAPI JobStatus) until it is concluded and dismissed.

    Raises Failed when it did not do its work.
    """
    found = await _concluded(monitor, job, listener, progress, settled, complete=True)
    await _dismiss(monitor, found)
    if "error" in found:
        raise Failed(f"block job '{job}' failed: {found['error']}")
    if found["type"] in ("stream", "commit"):
        # The headers name the files that are left. The caller is about to delete the others.
        await flush(monitor)
    if progress is not None and found["total-progress"]:
        progress(found["total-progress"], found["total-progress"])


async def _concluded(
    monitor: Monitor,
    job: str,
    listener: Listener,
    progress: ProgressCallback | None,
    settled: Callable[[], None] | None = None,
    *,
    complete: bool,
) -> dict[str, Any]:
    """What query-jobs says of the job at its end, or would say if it did not dismiss itself.

    `complete`: let it switch over when it is ready.
    """
    told, ending = False, None
    while True:
        found = await _find_job(monitor, job)
        if found is None:
            ending = ending or await _news(job, listener, ended=True)
            if ending is None and complete:
                raise Failed(f"No active block job '{job}'", code=ErrorCode.INTERNAL_ERROR)
            return ending or _GONE
        match found["status"]:
            case "concluded":
                return found
            case "pending" if complete:
                # Everything is copied.
                if found["type"] == "stream":
                    await flush(monitor)
                elif settled is not None:
                    # QEMU keeps the disk drained until the job is finalized.
                    settled()
                await _sent(monitor.execute("job-finalize", id=job))
            case "ready" if complete and not told:
                told = True
                await monitor.execute("job-complete", id=job)
            case _:
                if progress is not None:
                    progress(found["current-progress"], found["total-progress"])
        ending = await _news(job, listener) or ending


async def _news(job: str, listener: Listener, *, ended: bool = False) -> dict[str, Any] | None:
    """Wait a moment for anything to happen to the job; when it has `ended`, for the word that it did.

    Returns the result that comes with that word.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PROGRESS_SECONDS):
            async for event in listener:
                if not ended and event.data.get("id") == job:
                    return None
                if event.name in _ENDINGS and event.data["device"] == job:
                    data = event.data
                    found = {"type": data["type"], "current-progress": data["offset"]}
                    found |= {"total-progress": data["len"], "status": "null"}
                    if event.name == "BLOCK_JOB_CANCELLED":
                        return {**found, "error": "it was cancelled"}
                    return {**found, **{key: data[key] for key in ("error",) if key in data}}
    return None


async def _dismiss(monitor: Monitor, found: dict[str, Any]) -> None:
    """Let go of the result of a job, unless it did so itself."""
    if found["status"] == "concluded":
        await monitor.execute("job-dismiss", id=found["id"])


async def _sent(command: Coroutine[Any, Any, Any]) -> None:
    """Await a command's answer even when cancelled meanwhile, and only then be cancelled."""
    task = asyncio.ensure_future(command)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def _cancel_job(monitor: Monitor, job: str, listener: Listener) -> None:
    """Cancel a job, if there is one, and wait for its end. One that has done its work ends as it would."""
    if await _find_job(monitor, job) is None:
        return
    with contextlib.suppress(QmpCommandFailed):
        await monitor.execute("job-cancel", id=job)
    await _dismiss(monitor, await _concluded(monitor, job, listener, None, complete=False))
