"""Decide whether a domain of a real libvirt can be taken over with its whole tree, and whose its files are.

What `plan.libvirt_tree` has understood of the documents stands beside what the files say. Whatever is wrong
is collected, so that a refusal names every reason.

Ownership follows `plan.images`. Of the images that a snapshot froze, the lowest of each chain is the user's
ORIGIN; every image that libvirt put above one (named by a snapshot or the definition, and standing on frozen
content) is an OVERLAY, deleted when nothing needs it any more. What is below an origin, what no document
names, and what another domain uses is nobody's here: never merged, never deleted.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from virtsnap.model.domain import DomainRecord
from virtsnap.model.facts import ImageFacts, ImageRole
from virtsnap.model.frozen import dataclass
from virtsnap.model.libvirt import Evidence, FoundFile, LibvirtReport
from virtsnap.model.snapshot import Location, Snapshot
from virtsnap.model.steps import StoreWrite
from virtsnap.plan.images import disks_of, frozen_images
from virtsnap.plan.libvirt_tree import (
    Takeover,
    chain_below,
    disks_in,
    found_snapshots,
    overlays_of,
    stale_chains,
    wanted,
)
from virtsnap.plan.nvram import nvram_paths

SAVE_SLACK_SECONDS = 5.0
"""QEMU may close its images a moment after libvirt has closed the managed save."""


@dataclass(frozen=True)
class Variables:
    """UEFI variables of a snapshot: libvirt keeps them as an internal snapshot, we as a copy of the file."""

    path: str
    copy: str
    tag: str


@dataclass(frozen=True)
class Admission:
    """What takes the domain over: copies that are made first, then one write."""

    write: StoreWrite
    variables: tuple[Variables, ...]


def judge(found: Takeover, evidence: Evidence, *, leave_save: bool) -> tuple[LibvirtReport, Admission | None]:
    """What was found, and what takes it over; None when there is a reason not to.

    `leave_save`: without the managed save.
    """
    return _Judgement(found, evidence, leave_save).result()


class _Judgement:
    """Documents beside files. Each check adds to `problems` (refuse) or to `notes` (say)."""

    def __init__(self, found: Takeover, evidence: Evidence, leave_save: bool) -> None:
        self.found = found
        self.evidence = evidence
        self.leave_save = leave_save
        self.problems = list(found.problems)
        self.notes = list(found.notes)
        self.wanted = wanted(found)
        self.roles: dict[str, ImageRole] = {}
        self.variables: list[Variables] = []

    def result(self) -> tuple[LibvirtReport, Admission | None]:
        if self.found.config_xml:
            self._look()
        report = LibvirtReport(
            name=self.found.name,
            uuid=self.found.uuid,
            definition="",
            snapshots=found_snapshots(self.found.tree),
            files=tuple(self._files()),
            notes=tuple(self.notes),
            problems=tuple(dict.fromkeys(self.problems)),
        )
        return report, None if report.problems else Admission(self._write(), tuple(self.variables))

    def _look(self) -> None:
        if self.evidence.taken is not None:
            self.problems.append(self.evidence.taken)
        self._paths()
        self._images()
        for snapshot in self.found.tree:
            self._external(snapshot)
            self._internal(snapshot)
            self._memory(snapshot)
            self._variables(snapshot)
        self.roles = self._owners()
        self._definition()
        self._chains()
        self._managed_save()

    # each image by itself
    def _paths(self) -> None:
        formats: dict[str, set[str]] = {}
        for text in self.found.texts:
            for disk in disks_of(text):
                if disk.source is not None and disk.source in self.wanted.images:
                    formats.setdefault(disk.source, set()).add(disk.format)
        for path, names in sorted(formats.items()):
            if len(names) > 1:
                self.problems.append(f"image '{path}' has two formats: {' and '.join(sorted(names))}")
        for path in sorted(self.wanted.images):
            if not path.startswith("/"):
                self.problems.append(f"image '{path}' has no absolute path")
            elif posixpath.normpath(path) != path:
                self.problems.append(
                    f"image '{path}' is named by a roundabout path: {posixpath.normpath(path)}"
                )
        files: dict[str, str] = {}
        for path in sorted(self.evidence.images):
            other = files.setdefault(self.evidence.identity.get(path, path), path)
            if other != path:
                self.problems.append(f"images '{other}' and '{path}' are the same file")

    def _images(self) -> None:
        for path, why in sorted(self.evidence.unreadable.items()):
            if path in self.evidence.absent and path in self.wanted.optional:
                continue
            users = self._users(path)
            self.problems.append(f"image '{path}' ({users}): {why}" if users else f"image '{path}': {why}")
        for path, image in sorted(self.evidence.images.items()):
            if image.backing is not None and image.backing_format is None:
                self.problems.append(
                    f"image '{path}' does not name the format of the image below it, '{image.backing}'"
                )
            if any(below.path == path for below in self._below(path)):
                self.problems.append(f"image '{path}' stands on itself")
        for path in sorted(self.evidence.busy):
            self.problems.append(f"image '{path}' is in use: another process holds QEMU's lock on it")

    def _users(self, path: str) -> str:
        """Who leads to an image, in words."""
        found = [f"disk {d.target}" for d in disks_of(self.found.config_xml) if d.source == path]
        names = [s.name for s in self.found.tree if path in frozen_images(s).values()]
        found += [f"snapshot '{name}'" for name in sorted(names)]
        found += [
            f"below '{above}'"
            for above, image in sorted(self.evidence.images.items())
            if image.backing == path
        ]
        return ", ".join(found)

    def _below(self, path: str) -> list[ImageFacts]:
        return chain_below(path, self.evidence.images)

    def _stands_on(self, path: str, base: str) -> bool:
        return any(image.path == base for image in self._below(path))

    # snapshots
    def _external(self, snapshot: Snapshot) -> None:
        frozen = frozen_images(snapshot, Location.EXTERNAL)
        types = {disk.target: disk.type for disk in disks_in(snapshot)}
        for entry, path in overlays_of(snapshot):
            base = frozen.get(entry.name)
            if base is None:
                self.problems.append(
                    f"snapshot '{snapshot.name}': disk '{entry.name}' has an overlay and no image below it"
                    f" (its storage is of type '{types.get(entry.name, '?')}')"
                )
            elif path in self.evidence.images and not self._stands_on(path, base):
                text = f"overlay '{path}' of snapshot '{snapshot.name}' does not stand on '{base}'"
                if self._needed(path):
                    self.problems.append(f"{text}, the content that the snapshot is of")
                else:
                    self.notes.append(f"{text} and is used by nothing: it is left alone")

    def _needed(self, path: str) -> bool:
        """The definition or a snapshot's content leads to the image."""
        tops = {disk.source for disk in disks_of(self.found.config_xml) if disk.source is not None}
        tops |= {image for s in self.found.tree for image in frozen_images(s).values()}
        return path in tops or any(self._stands_on(top, path) for top in tops)

    def _internal(self, snapshot: Snapshot) -> None:
        name, memories, whole = snapshot.name, 0, True
        for target, path in frozen_images(snapshot, Location.INTERNAL).items():
            image = self.evidence.images.get(path)
            if image is None:
                whole = False
                continue
            tag = image.tag(name)
            if tag is None:
                whole = False
                self.problems.append(f"image '{path}' of disk {target} has no internal snapshot '{name}'")
            else:
                memories += 1 if tag.vm_state_size else 0
        if snapshot.memory is Location.INTERNAL and whole and memories != 1:
            self.problems.append(
                f"snapshot '{name}': {'no image' if not memories else 'more than one image'} holds its memory"
            )

    def _memory(self, snapshot: Snapshot) -> None:
        file = snapshot.memory_file
        if file is None:
            return
        image = self.evidence.memory[file]
        where = f"memory file '{file}' of snapshot '{snapshot.name}'"
        if image.problem is not None:
            self.problems.append(f"{where}: {image.problem}")
        elif image.uuid != self.found.uuid:
            self.problems.append(f"{where} is of the domain with uuid {image.uuid}")

    def _variables(self, snapshot: Snapshot) -> None:
        paths = nvram_paths(snapshot.domain_xml or self.found.config_xml, snapshot.name)
        if not paths or snapshot.full_system:
            return
        path, copy = paths
        if snapshot.name not in self.evidence.nvram_tags.get(path, ()):
            return
        if copy in self.evidence.present:
            self.problems.append(
                f"snapshot '{snapshot.name}': copy of the UEFI variables already exists: {copy}"
            )
        self.variables.append(Variables(path, copy, snapshot.name))

    # the domain
    def _definition(self) -> None:
        current = self.found.tree[self.found.tree.current] if self.found.tree.current else None
        frozen = frozen_images(current, Location.EXTERNAL) if current is not None else {}
        for disk in disks_of(self.found.config_xml):
            path = disk.source
            if path is None or path not in self.evidence.images:
                continue
            for snapshot in self.found.tree:
                # Where libvirt goes back to an internal snapshot below external ones, it does that.
                if path in frozen_images(snapshot, Location.EXTERNAL).values() and not disk.readonly:
                    self.notes.append(
                        f"disk {disk.target} writes into '{path}', which is the content of snapshot "
                        f"'{snapshot.name}': that is ruined, or will be when the domain runs"
                    )
            base = frozen.get(disk.target)
            if current is not None and base is not None and not self._stands_on(path, base):
                self.notes.append(
                    f"disk {disk.target} ('{path}') does not stand on the content of the current snapshot "
                    f"'{current.name}': its image was changed by hand"
                )
        for path in sorted(self.evidence.missing_files):
            self.notes.append(f"file '{path}' of the definition is not there")
        known = set(self.found.tree.snapshots)
        for path, image in sorted(self.evidence.images.items()):
            foreign = sorted({tag.name for tag in image.tags} - known)
            if foreign and path in self.roles:
                self.notes.append(
                    f"image '{path}' has internal snapshots that belong to no snapshot of the domain: "
                    + ", ".join(foreign)
                )
        for path, user in sorted(self.evidence.elsewhere.items()):
            if path in self.evidence.images:
                self.notes.append(f"image '{path}' is used by {user} too: it is never merged into or deleted")

    def _managed_save(self) -> None:
        if self.found.save is None:
            return
        way_out = "--without-managed-save takes the domain over without it"
        if self.leave_save:
            self.notes.append(f"managed save '{self.found.save}' is left behind")
            return
        image = self.evidence.memory[self.found.save]
        if image.problem is not None:
            self.problems.append(f"managed save '{self.found.save}': {image.problem}; {way_out}")
            return
        if image.uuid != self.found.uuid:
            self.problems.append(
                f"managed save '{self.found.save}' is of the domain with uuid {image.uuid}; {way_out}"
            )
        for disk in disks_of(self.found.config_xml):
            changed = self.evidence.changed.get(disk.source or "", 0.0)
            if not disk.readonly and changed > image.changed + SAVE_SLACK_SECONDS:
                self.problems.append(
                    f"image '{disk.source}' was written to after the managed save was made: "
                    f"to resume it would ruin the guest's files; {way_out}"
                )

    def _chains(self) -> None:
        """libvirt believes what is written of a chain, we believe the images."""
        for who, text, said in [
            ("the definition", self.found.config_xml, self.problems),
            *((f"snapshot '{s.name}'", s.domain_xml or "", self.notes) for s in self.found.tree),
        ]:
            for target in stale_chains(text, self.evidence.images):
                said.append(f"{who}: what is written of the images below disk {target} is not what they say")

    # whose files
    def _owners(self) -> dict[str, ImageRole]:
        tree = self.found.tree
        frozen = {path for s in tree for path in frozen_images(s, Location.EXTERNAL).values()}
        tagged = {path for s in tree for path in frozen_images(s, Location.INTERNAL).values()}
        tops = {disk.source for disk in disks_of(self.found.config_xml) if disk.source is not None}
        made = {(path, entry.name, s.name) for s in tree for entry, path in overlays_of(s)}
        overlays = {
            path
            for path, target, name in made
            if self._on_frozen(path, frozen_images(tree[name]).get(target))
        }
        roles: dict[str, ImageRole] = {}
        for path in self.evidence.images:
            if path in self.evidence.elsewhere:
                continue
            above = any(below.path in frozen for below in self._below(path))
            if path in overlays or (above and path in frozen | tagged | tops):
                roles[path] = ImageRole.OVERLAY
            elif path in frozen:
                roles[path] = ImageRole.ORIGIN
        for snapshot in tree:
            if snapshot.memory_file is not None:
                roles[snapshot.memory_file] = ImageRole.MEMORY
        return roles | {kept.copy: ImageRole.NVRAM for kept in self.variables}

    def _on_frozen(self, path: str, base: str | None) -> bool:
        return base is not None and self._stands_on(path, base)

    # results
    def _files(self) -> Iterator[FoundFile]:
        for path, image in sorted(self.evidence.images.items()):
            role = self.roles.get(path)
            yield FoundFile(path, "image", image.format, role.value if role else "base", image.actual_size)
        for path, memory in sorted(self.evidence.memory.items()):
            kind = "managed save" if path == self.found.save else "memory"
            role_word = "copied" if kind == "managed save" else ImageRole.MEMORY.value
            yield FoundFile(path, kind, memory.format, role_word, memory.size)
        for path in self.wanted.nvram:
            kind = "qcow2" if path in self.evidence.nvram_tags else "raw"
            yield FoundFile(path, "UEFI variables", kind, "base", 0)
        for kept in self.variables:
            yield FoundFile(kept.copy, "UEFI variables", "qcow2", ImageRole.NVRAM.value, 0)

    def _write(self) -> StoreWrite:
        found = self.found
        return StoreWrite(
            record=DomainRecord(found.uuid, found.name, found.config_xml, autostart=found.autostart),
            put_snapshots=tuple(found.tree),
            set_current=found.tree.current is not None,
            current=found.tree.current,
            put_images=tuple(sorted(self.roles.items())),
        )
