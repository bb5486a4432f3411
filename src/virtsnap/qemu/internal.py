"""Internal snapshots: kept inside qcow2 images, of disks alone or with the memory.

In a running QEMU they are jobs (QAPI snapshot-save, -load, -delete; QEMU 6.0), at rest qemu-img's. Going
back to one, QEMU looks for a number before it looks for a name; so at rest the name is turned into its number
first. A job cannot be told a number, which is why plans refuse the few names that would be mistaken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from virtsnap.model.errors import Failed
from virtsnap.qemu import images
from virtsnap.qemu.blocks import ProgressCallback, query_chain, run_job
from virtsnap.qemu.migration import plain_settings
from virtsnap.qemu.monitor import Monitor


async def save(
    monitor: Monitor,
    *,
    job: str,
    name: str,
    memory_node: str,
    nodes: Sequence[str],
    progress: ProgressCallback | None = None,
) -> None:
    """Memory into `memory_node`, and a snapshot `name` into all of `nodes`; the guest stands still meanwhile.

    QEMU lets a guest that ran go on by itself. Raises Failed with QEMU's cause.
    """
    await plain_settings(monitor)
    arguments = {"tag": name, "vmstate": memory_node, "devices": list(nodes)}
    await run_job(monitor, job, "snapshot-save", arguments, progress)


async def load(
    monitor: Monitor,
    *,
    job: str,
    name: str,
    memory_node: str,
    nodes: Sequence[str],
    progress: ProgressCallback | None = None,
) -> None:
    """Bring memory and disks back into a QEMU that stands still and stays so. Raises Failed."""
    arguments = {"tag": name, "vmstate": memory_node, "devices": list(nodes)}
    await run_job(monitor, job, "snapshot-load", arguments, progress)


async def delete_live(monitor: Monitor, *, job: str, name: str, node: str, writable: bool) -> None:
    """Delete the snapshot from an image that QEMU has open, as a disk's top or below one.

    Raises Failed with QEMU's cause; an image that was opened read-only is so again.
    """
    if writable:
        await run_job(monitor, job, "snapshot-delete", {"tag": name, "devices": [node]}, None)
        return
    chain = await query_chain(monitor, node)
    options: dict[str, Any] = {
        "driver": chain[0].format,
        "node-name": node,
        "file": chain[0].storage_node,
        "backing": chain[1].node_name if len(chain) > 1 else None,
    }
    await monitor.execute("blockdev-reopen", options=[{**options, "read-only": False}])
    try:
        await run_job(monitor, job, "snapshot-delete", {"tag": name, "devices": [node]}, None)
    finally:
        await monitor.execute("blockdev-reopen", options=[{**options, "read-only": True}])


async def create(path: str, name: str) -> None:
    """A snapshot of a qcow2 image that is not open. Raises Failed with qemu-img's words."""
    await _qemu_img(path, "-c", name)


async def apply(path: str, name: str) -> None:
    """The image goes back to its snapshot. Raises Failed when it has none of that name."""
    number = await find(path, name)
    if number is None:
        raise Failed(f"image '{path}' does not have internal snapshot '{name}'")
    await _qemu_img(path, "-a", number)


async def delete(path: str, name: str) -> None:
    """All snapshots of that name go; quiet when there is none. Raises Failed with qemu-img's words."""
    while await find(path, name) is not None:
        # Unlike -a this looks for names only.
        await _qemu_img(path, "-d", name)


async def _qemu_img(path: str, option: str, argument: str) -> None:
    # Not -f: qemu-img before 9.1 knows it for other commands only.
    options = f"driver=qcow2,file.filename={path.replace(',', ',,')}"
    await images.run("qemu-img", "snapshot", "-q", option, argument, "--image-opts", options)


async def find(path: str, name: str) -> str | None:
    """The number of the snapshot of exactly this name, in an image that may be open; None: there is none."""
    info = await images.info(path, format="qcow2")
    return next((found.id for found in info.snapshots if found.name == name), None)
