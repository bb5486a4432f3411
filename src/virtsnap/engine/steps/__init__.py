"""For each kind of step: do, undo and probe, side by side.

The contract of every kind:
- `do` may be called again after a crash in the middle of it and then completes what is missing;
- `do` leaves nothing of its own behind when it fails;
- `undo` may be called whether `do` was never reached, half done or done, and twice; a QEMU that is gone has
  nothing to undo;
- `probe` tells from the world alone whether a commit happened: True, False, or None when nothing can tell.

One class per kind, grouped in files by what they touch: image files, a running QEMU, its process, the guest
agent, merges, the store; `together` is made of steps of other kinds. A new kind is a record in `model.steps`,
a class here and a line in the table below.
"""

from __future__ import annotations

from typing import Any, Protocol

from virtsnap.engine.steps import (
    agent,
    block_jobs,
    guest,
    internal,
    layers,
    media,
    merge,
    process,
    saved,
    store_write,
    together,
    tpm,
)
from virtsnap.engine.world import World
from virtsnap.model import steps as s


class Handler(Protocol):
    """Do, undo and probe of one kind of step."""

    async def do(self, world: World, step: Any, /) -> None: ...
    async def undo(self, world: World, step: Any, /) -> None: ...
    async def probe(self, world: World, step: Any, /) -> bool | None: ...


async def do_step(world: World, step: s.Step) -> None:
    """Carry the step out. Raises VirtsnapError, having left nothing of its own."""
    await _HANDLERS[type(step)].do(world, step)


async def undo_step(world: World, step: s.Step) -> None:
    """Take the step back."""
    await _HANDLERS[type(step)].undo(world, step)


_HANDLERS: dict[type[Any], Handler] = {
    s.CreateOverlay: layers.CreateOverlay(),
    s.AttachOverlay: layers.AttachOverlay(),
    s.OpenMedium: media.OpenMedium(),
    s.ChangeMedium: media.ChangeMedium(),
    s.SwitchLayers: layers.SwitchLayers(),
    s.RemoveFile: layers.RemoveFile(),
    s.PauseGuest: guest.PauseGuest(),
    s.FreezeGuest: agent.FreezeGuest(),
    s.ThawGuest: agent.ThawGuest(),
    s.ResumeGuest: guest.ResumeGuest(),
    s.SettleGuest: guest.SettleGuest(),
    s.SaveMemory: guest.SaveMemory(),
    s.PrepareCapture: guest.PrepareCapture(),
    s.CaptureMemory: guest.CaptureMemory(),
    s.CompleteMemory: guest.CompleteMemory(),
    s.SealMemory: guest.SealMemory(),
    s.LoadMemory: guest.LoadMemory(),
    s.StartQemu: process.StartQemu(),
    s.KillQemu: process.KillQemu(),
    s.MakeTpm: tpm.MakeTpm(),
    s.KeepTpm: tpm.KeepTpm(),
    s.RemoveTpm: tpm.RemoveTpm(),
    s.MoveFile: saved.MoveFile(),
    s.NoteDisks: saved.NoteDisks(),
    s.MergeImages: merge.MergeImages(),
    s.GuardLayer: merge.GuardLayer(),
    s.RelinkBacking: merge.RelinkBacking(),
    s.TagDisks: internal.TagDisks(),
    s.SaveInternal: internal.SaveInternal(),
    s.LoadInternal: internal.LoadInternal(),
    s.TagImage: internal.TagImage(),
    s.ApplyTag: internal.ApplyTag(),
    s.CopyImage: layers.CopyImage(),
    s.LinkFile: layers.LinkFile(),
    s.RestoreFile: layers.RestoreFile(),
    s.GuardTag: internal.GuardTag(),
    s.DeleteTag: internal.DeleteTag(),
    s.CreateImage: layers.CreateImage(),
    s.StartCommit: block_jobs.StartCommit(),
    s.StartPull: block_jobs.StartPull(),
    s.StartCopy: block_jobs.StartCopy(),
    s.DropUnusedNodes: block_jobs.DropUnusedNodes(),
    s.StoreWrite: store_write.StoreWrite(),
    s.Announce: store_write.Announce(),
    s.AddDomains: store_write.AddDomains(),
    s.ForgetDomain: store_write.ForgetDomain(),
    s.Declare: store_write.Declare(),
    s.Together: together.Together(do_step, undo_step),
}


async def probe_step(world: World, step: s.Step) -> bool | None:
    """Whether the step happened, by the world alone."""
    return await _HANDLERS[type(step)].probe(world, step)
