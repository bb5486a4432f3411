"""Steps on image files and on the layers of a running QEMU's disks."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from virtsnap.engine.steps.base import Irreversible, Undoable
from virtsnap.engine.world import World
from virtsnap.formats.domain_xml import DomainDefinition, DomainDisk
from virtsnap.model import steps as s
from virtsnap.model.errors import ErrorCode, Failed
from virtsnap.qemu import blocks, images
from virtsnap.qemu.monitor import Monitor
from virtsnap.store.files import fsync_path, write_atomic


class CreateOverlay(Undoable):
    """An empty image on top of another."""

    async def do(self, world: World, step: s.CreateOverlay, /) -> None:
        """Make the file; one that exists already is only taken over when the plan knew of it."""
        await images.create_overlay(
            step.path,
            format=step.format,
            backing_path=step.backing,
            backing_format=step.backing_format,
            size=step.size,
            cluster_size=step.cluster_size,
            extended_l2=step.extended_l2 or None,
            existing=step.existed,
        )

    async def undo(self, world: World, step: s.CreateOverlay, /) -> None:
        """Delete the file, or empty again the one that was there before."""
        if step.existed:
            if stat.S_ISREG(os.stat(step.path).st_mode):
                os.truncate(step.path, 0)
            return
        remove(step.path)


class CreateImage(Undoable):
    """An empty image that stands on nothing."""

    async def do(self, world: World, step: s.CreateImage, /) -> None:
        """Make the file; one that exists already is only formatted when the plan knew of it."""
        await images.create(step.path, format=step.format, size=step.size, existing=step.existed)

    async def undo(self, world: World, step: s.CreateImage, /) -> None:
        """Delete the file, unless it was there before."""
        if not step.existed:
            remove(step.path)


class CopyImage(Undoable):
    """A file like another one."""

    async def do(self, world: World, step: s.CopyImage, /) -> None:
        """Copy it, sharing blocks where the file system can."""
        await images.copy(step.source, step.path)

    async def undo(self, world: World, step: s.CopyImage, /) -> None:
        """Delete the copy."""
        remove(step.path)


class LinkFile(Undoable):
    """A second name of a file."""

    async def do(self, world: World, step: s.LinkFile, /) -> None:
        """Make it; never in the place of another file. Raises Failed."""
        try:
            os.link(step.source, step.path)
        except OSError as error:
            raise Failed(
                f"cannot link '{step.path}' to '{step.source}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR
            ) from error
        fsync_path(os.path.dirname(step.path))

    async def undo(self, world: World, step: s.LinkFile, /) -> None:
        """Delete that name, if it is one of the same file."""
        if os.path.exists(step.path) and os.path.samefile(step.path, step.source):
            remove(step.path)


class RestoreFile(Irreversible):
    """A file gets the bytes of another one."""

    async def do(self, world: World, step: s.RestoreFile, /) -> None:
        """Replace it by a copy; at any moment it is the old or the new one."""
        try:
            os.makedirs(os.path.dirname(step.path), mode=0o700, exist_ok=True)
            write_atomic(Path(step.path), Path(step.source).read_bytes())
        except OSError as error:
            raise Failed(
                f"cannot restore '{step.path}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR
            ) from error


class AttachOverlay(Undoable):
    """An overlay opened in QEMU, beside the disks."""

    async def do(self, world: World, step: s.AttachOverlay, /) -> None:
        """Add its two nodes."""
        monitor = await world.monitor()
        if monitor is None:
            raise Failed("domain is not running", code=ErrorCode.OPERATION_INVALID)
        if not world.tops:
            world.tops = await tops_by_target(world, monitor)
        await blocks.add_overlay(
            monitor,
            path=step.path,
            format=step.format,
            node_format=format_node(step.node),
            node_storage=storage_node(step.node),
            type=step.type,
            options=_options(world, step.target),
            backing=None
            if step.backing is None
            else await _open_layer(world, monitor, step.target, step.backing),
        )

    async def undo(self, world: World, step: s.AttachOverlay, /) -> None:
        """Remove the nodes that are there."""
        world.tops = {}
        monitor = await world.monitor()
        if monitor is not None:
            await blocks.del_nodes(monitor, [format_node(step.node), storage_node(step.node)])


class SwitchLayers:
    """All disks onto their overlays at once: as a rule the commit of a snapshot of a running domain."""

    async def do(self, world: World, step: s.SwitchLayers, /) -> None:
        """One transaction of QEMU's, and not a word more: a guest may wait for it."""
        monitor = await world.monitor()
        if monitor is None:
            raise Failed("domain is not running", code=ErrorCode.OPERATION_INVALID)
        tops = world.tops or await tops_by_target(world, monitor)
        pairs = []
        for target, path, node in step.disks:
            if target not in tops:
                raise Failed(f"disk '{target}' is not in the running domain", code=ErrorCode.INTERNAL_ERROR)
            if tops[target].path != path:
                pairs.append((tops[target].node_name, format_node(node)))
        if pairs:
            await blocks.switch(monitor, pairs)

    async def undo(self, world: World, step: s.SwitchLayers, /) -> None:
        """Nothing: as the commit it is never undone; before it, the layers are GuardLayer's."""

    async def probe(self, world: World, step: s.SwitchLayers, /) -> bool | None:
        """Whether the disks write to their overlays."""
        monitor = await world.monitor()
        if monitor is None:
            return None
        tops = await tops_by_target(world, monitor)
        return all(target in tops and tops[target].path == path for target, path, _ in step.disks)


class RemoveFile(Irreversible):
    """A file that nothing names."""

    async def do(self, world: World, step: s.RemoveFile, /) -> None:
        """Delete it; quiet when it is gone."""
        remove(step.path)


async def tops_by_target(world: World, monitor: Monitor) -> dict[str, blocks.NodeInfo]:
    """The layer that each disk writes to now, by target."""
    aliases = {disk.target: disk.alias for disk in _live_disks(world) if disk.alias is not None}
    return await blocks.top_nodes(monitor, aliases)


async def _open_layer(world: World, monitor: Monitor, target: str, path: str) -> str:
    """The node of a layer of a disk. Raises Failed."""
    top = (await tops_by_target(world, monitor)).get(target)
    for layer in await blocks.query_chain(monitor, top.node_name) if top is not None else ():
        if layer.path == path:
            return layer.node_name
    raise Failed(f"'{path}' is no layer of disk '{target}'", code=ErrorCode.INTERNAL_ERROR)


def _live_disks(world: World) -> tuple[DomainDisk, ...]:
    live_xml = world.record().live_xml
    return () if live_xml is None else DomainDefinition.parse(live_xml).disks


def live_disk(world: World, target: str) -> DomainDisk:
    """A disk of the running domain. Raises Failed."""
    for disk in _live_disks(world):
        if disk.target == target:
            return disk
    raise Failed(f"disk '{target}' is not in the running domain", code=ErrorCode.INTERNAL_ERROR)


def _options(world: World, target: str) -> blocks.OverlayOptions:
    """The disk's `<driver>` attributes hold for every layer that it writes to."""
    disk = next((disk for disk in _live_disks(world) if disk.target == target), None)
    if disk is None:
        return blocks.OverlayOptions()
    direct, no_flush = _CACHE.get(disk.cache or "", (None, None))
    return blocks.OverlayOptions(
        cache_direct=direct,
        cache_no_flush=no_flush,
        discard=disk.discard,
        detect_zeroes=disk.detect_zeroes,
        aio=disk.io,
    )


_CACHE: dict[str, tuple[bool | None, bool | None]] = {
    "none": (True, False),
    "directsync": (True, False),
    "writeback": (False, False),
    "writethrough": (False, False),
    "unsafe": (False, True),
}
"""`cache=` to QEMU's (direct, no-flush)."""


def format_node(number: int) -> str:
    """libvirt's name of the node that reads an image's format."""
    return f"libvirt-{number}-format"


def storage_node(number: int) -> str:
    """libvirt's name of the node that reads an image's file."""
    return f"libvirt-{number}-storage"


def remove(path: str) -> None:
    """Delete a file and make that durable; quiet when it is gone. Raises Failed."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Failed(f"cannot remove '{path}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR) from error
    fsync_path(os.path.dirname(path))
