"""A plan in words, for --dry-run: what it makes, removes and merges, and every step."""

from __future__ import annotations

from virtsnap.model import steps as s
from virtsnap.model.frozen import dataclass


def mib(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / (1 << 20):.0f} MiB" if size >= 10 << 20 else f"{size / (1 << 20):.1f} MiB"


@dataclass(frozen=True)
class Description:
    """The four lists that a reader of a dry run looks for."""

    makes: tuple[str, ...]
    removes: tuple[str, ...]
    merges: tuple[str, ...]
    steps: tuple[str, ...]


def describe(plan: s.Plan) -> Description:
    """Everything the plan would do."""
    makes = [
        x.path
        for x in plan.steps
        if isinstance(x, s.CreateOverlay | s.SaveMemory | s.PrepareCapture | s.CopyImage | s.LinkFile)
    ]
    removes = [x.path for x in plan.steps if isinstance(x, s.RemoveFile)]
    merges = [sentence(x) for x in plan.steps if isinstance(x, s.MergeImages)]
    lines: list[str] = []
    for step in plan.prepare:
        lines.append(f"prepare: {sentence(step)}")
        if isinstance(step, s.Together):
            lines += [f"prepare: {row.subject}: {sentence(x)}" for row in step.rows for x in row.steps]
    lines.append(f"commit: {sentence(plan.commit)}")
    # That it is told changes nothing of the domain: no line of its own.
    lines += [f"finish: {sentence(x)}" for x in plan.finish if not isinstance(x, s.Announce)]
    return Description(
        tuple(makes),
        tuple(removes),
        tuple(merges),
        tuple(lines),
    )


def sentence(step: s.Step) -> str:
    """One step as one line."""
    match step:
        case s.CreateOverlay(path=path, backing=backing):
            return f"make overlay {path} on {backing}"
        case s.AttachOverlay(target=target, path=path):
            return f"open {path} for disk {target}"
        case s.OpenMedium(target=target, path=path):
            return f"open {path} for drive {target}"
        case s.ChangeMedium(target=target, node=node):
            return f"take the medium out of drive {target}" + ("" if node is None else ", and put it in")
        case s.PauseGuest():
            return "pause the guest"
        case s.FreezeGuest():
            return "freeze the guest's file systems"
        case s.ThawGuest():
            return "thaw the guest's file systems"
        case s.SaveMemory(path=path, way=way, live=live):
            return f"write memory to {path} ({way.value}{', live' if live else ''})"
        case s.PrepareCapture(path=path, way=way):
            return f"be ready to write memory to {path} ({way.value})"
        case s.CaptureMemory(path=path):
            return f"begin to write memory to {path}"
        case s.CompleteMemory(path=path):
            return f"wait until all memory is in {path}"
        case s.GuardLayer(target=target, path=path, backing=backing):
            return f"be ready to take {path} of disk {target} back into {backing}"
        case s.SwitchLayers(disks=disks):
            return "switch to the overlays of " + ", ".join(target for target, _, _ in disks)
        case s.ResumeGuest():
            return "resume the guest"
        case s.SettleGuest():
            return "reopen the disks of the paused guest"
        case s.SealMemory(path=path):
            return f"make {path} durable and mark it whole"
        case s.StartQemu(incoming=incoming):
            return "start a new QEMU" + (" that waits for memory" if incoming else "")
        case s.LoadMemory(path=path, mapped=True):
            return f"map memory from {path} and load the devices' state"
        case s.LoadMemory(path=path):
            return f"load memory from {path}"
        case s.MakeTpm(state=folder):
            return f"make {folder} for the TPM's state"
        case s.KeepTpm(path=path):
            return f"let the TPM go on in {path}"
        case s.RemoveTpm(folder=folder):
            return f"delete the TPM's state in {folder}"
        case s.KillQemu():
            return "end the old QEMU"
        case s.RemoveFile(path=path):
            return f"delete {path}"
        case s.MoveFile(source=source, path=path):
            return f"rename {source} to {path}"
        case s.NoteDisks():
            return "note what the disks look like"
        case s.MergeImages():
            source, into = (step.top, step.base) if step.down else (step.base, step.top)
            return f"{step.target}: merge {source} into {into} (up to {mib(step.bytes)})"
        case s.RelinkBacking(path=path, backing=backing):
            return f"point {path} at {backing}"
        case s.TagDisks(name=name, targets=targets):
            return f"make internal snapshot '{name}' of " + ", ".join(targets)
        case s.SaveInternal(name=name):
            return f"pause the guest and save memory and disks into internal snapshot '{name}'"
        case s.LoadInternal(name=name):
            return f"load memory and disks from internal snapshot '{name}'"
        case s.TagImage(path=path, name=name):
            return f"make internal snapshot '{name}' in {path}"
        case s.ApplyTag(path=path, name=name):
            return f"bring {path} back to its internal snapshot '{name}'"
        case s.CopyImage(path=path, source=source):
            return f"copy {source} to {path}"
        case s.LinkFile(path=path, source=source):
            return f"give {source} a second name, {path}"
        case s.RestoreFile(path=path, source=source):
            return f"bring {path} back from {source}"
        case s.GuardTag(path=path, name=name):
            return f"be ready to delete internal snapshot '{name}' from {path} again"
        case s.DeleteTag(path=path, name=name):
            return f"delete internal snapshot '{name}' from {path}"
        case s.CreateImage(path=path):
            return f"make image {path}"
        case s.StartCommit(target=target, top=top, base=base):
            return f"{target}: begin to commit {top} into {base}"
        case s.StartPull(target=target):
            return f"{target}: begin to pull in what it stands on"
        case s.StartCopy(target=target):
            return f"{target}: begin to copy it"
        case s.DropUnusedNodes():
            return "close images that no disk uses"
        case s.StoreWrite():
            return "write it down: " + (", ".join(_written(step)) or "the domain's definition")
        case s.Announce(details=details):
            return "tell whoever watches: " + (", ".join(x.name.lower() for x in details) or "agent awaited")
        case s.AddDomains(domains=domains):
            return "write it down: domain " + ", ".join(x.record.name for x in domains)
        case s.ForgetDomain():
            return "forget the domain"
        case s.Declare():
            return "declare the operation decided"
        case s.Together(rows=rows):
            return "side by side, for " + ", ".join(row.subject for row in rows)


def _written(step: s.StoreWrite) -> list[str]:
    parts = [f"snapshot {x.name}" for x in step.put_snapshots]
    parts += [f"no snapshot {name}" for name in step.delete_snapshots]
    if step.set_current:
        parts.append(f"current {step.current or 'none'}")
    return parts
