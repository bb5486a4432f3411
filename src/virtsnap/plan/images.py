"""The image files of a domain as a graph, and what may happen to those that nothing names any more.

An image is *named* by a domain's definition, or by a snapshot whose frozen content it holds. Images
stand on each other by their backing files. When a name goes away (a snapshot is deleted, a branch is
abandoned), an image that belongs to the domain's snapshots and is not named falls under one rule:

- nothing stands on it: its file is deleted, if it is an overlay;
- exactly one image stands on it: the two are merged, in the direction that copies less, if there is room;
- several stand on it: it stays as their common base, at no cost, until one of them goes.

An image with internal snapshots keeps what it stands on: their content reaches down to it. One with internal
snapshots that no snapshot of the tree knows is left alone altogether.

So deleting any snapshot of any tree is possible, and after the last one is gone every chain is back to
the one image it began with. An ORIGIN (the user's own file) is never deleted: merges go down into it.
Images that are not ours, such as a template below the origin, are never touched.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from virtsnap.formats import xml_text
from virtsnap.formats.domain_xml import DomainDisk, read_disk
from virtsnap.formats.kept import Kept, digest
from virtsnap.model.errors import SystemRefused
from virtsnap.model.facts import DomainFacts, ImageFacts, ImageRole
from virtsnap.model.snapshot import Location, Snapshot
from virtsnap.model.steps import CreateOverlay, MergeImages, RelinkBacking

SPARE = 16 << 20
"""Bytes that a merge must leave free: metadata of the image, and the store's own writes."""

_KEPT = (Location.EXTERNAL, Location.INTERNAL, Location.MANUAL)


_DISKS: Kept[bytes, tuple[DomainDisk, ...]] = Kept(1200)


def disks_of(domain_xml: str) -> tuple[DomainDisk, ...]:
    """The disks of a definition that was read before, such as a snapshot's.

    Every decision asks this of every snapshot of the tree, several times.
    """
    return _DISKS.get(digest(domain_xml), lambda: _read_disks(domain_xml))


def _read_disks(domain_xml: str) -> tuple[DomainDisk, ...]:
    root = xml_text.parse(domain_xml, "domain")
    return tuple(read_disk(element) for element in root.iterfind("devices/disk"))


def frozen_images(snapshot: Snapshot, *kept: Location) -> dict[str, str]:
    """By disk target, the image that holds the snapshot's content of that disk.

    `kept`: only of disks with these locations; all kinds if not given.
    """
    if snapshot.domain_xml is None:
        return {}
    kept = kept or _KEPT
    entries = {disk.name: disk.location for disk in snapshot.disks}
    return {
        disk.target: disk.source
        for disk in disks_of(snapshot.domain_xml)
        if disk.source is not None and entries.get(disk.target) in kept
    }


def frozen_by(snapshots: Iterable[Snapshot]) -> set[str]:
    """Every image that holds the content of one of them."""
    return {path for snapshot in snapshots for path in frozen_images(snapshot).values()}


def definition_images(*xml_texts: str | None) -> dict[str, str]:
    """By image path, the disk target that uses it in any of the definitions."""
    return {
        disk.source: disk.target
        for xml in xml_texts
        if xml is not None
        for disk in disks_of(xml)
        if disk.source is not None
    }


def check_chain(facts: DomainFacts, path: str) -> None:
    """Refuse what would read an image of which a layer is missing or broken. Raises SystemRefused."""
    for image in facts.chain(path):
        if image.missing:
            what = f"storage file '{path}'"
            if image.path != path:
                what = f"backing file '{image.path}' of {what}"
            raise SystemRefused(f"Cannot access {what}: {image.problem or 'No such file or directory'}")


def check_frozen(facts: DomainFacts, path: str) -> None:
    """Refuse a frozen image that was not found, or that `check_chain` refuses. Raises SystemRefused."""
    if path not in facts.images:
        raise SystemRefused(f"Cannot access storage file '{path}': No such file or directory")
    check_chain(facts, path)


def overlay_on(facts: DomainFacts, base: str, path: str) -> CreateOverlay:
    """The step that makes `path` a qcow2 overlay of the shape of `base`."""
    image = facts.images[base]
    return CreateOverlay(
        path=path,
        format="qcow2",
        size=image.virtual_size,
        backing=base,
        backing_format=image.format,
        cluster_size=image.cluster_size if image.format == "qcow2" else None,
        extended_l2=image.extended_l2 and image.format == "qcow2",
    )


def left_behind(facts: DomainFacts, config_xml: str) -> tuple[str, ...]:
    """Images of ours that a new definition no longer names, and what they stand on: the user's from now on.

    He has taken the disk out with what is on it; nothing will lead to that image, so what is below it stays.
    """
    kept = frozen_by(facts.tree) | set(definition_images(config_xml))
    dropped = set(definition_images(facts.record.config_xml)) - kept
    return tuple(
        sorted(
            {
                image.path
                for path in dropped
                if path in facts.owned
                for image in facts.chain(path)
                if image.path in facts.owned
            }
        )
    )


def growth(written: ImageFacts, virtual_size: int, copied: int) -> int:
    """How many bytes of its folder an image may take more when so many are copied into it, metadata aside.

    What overwrites needs no room, unless an internal snapshot keeps what was there; a volume has its own.
    """
    if written.block_device:
        return 0
    if written.tags:
        return copied
    return min(copied, max(0, virtual_size - written.actual_size))


@dataclass
class Collapse:
    """What `collapse` decided."""

    merges: list[MergeImages] = field(default_factory=list)
    relinks: list[RelinkBacking] = field(default_factory=list)
    removes: list[str] = field(default_factory=list)
    """Files to delete; those that a merge empties are among them."""
    renames: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Old path to (new path, new format): the same content under another name."""
    absorbed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Path of a layer that a merge removed to (path, format) of the image that took it in: another content,
    but the layer that now stands in its place."""
    disowned: list[str] = field(default_factory=list)
    """Paths that are no longer part of the snapshot system."""
    given_up: list[str] = field(default_factory=list)
    """Those of them that are there still, and the user's."""
    block_devices: set[str] = field(default_factory=set)
    """Those of the images that others were merged into."""

    def renamed(self, path: str) -> tuple[str, str] | None:
        """Where the content of `path` is now, if it moved."""
        return self.renames.get(path)

    def type_of(self, path: str) -> str:
        """The disk type of an image that others were merged into."""
        return "block" if path in self.block_devices else "file"

    def layer(self, path: str) -> tuple[str, str] | None:
        """The layer that stands where `path` stood, if that is another one now."""
        at = self.absorbed.get(path)
        moved = self.renames.get(path if at is None else at[0])
        return at if moved is None else moved


class ImageGraph:
    """The images of one domain, who stands on whom, and which names are left."""

    def __init__(self, facts: DomainFacts, named: Mapping[str, str], untagged: Collection[str] = ()) -> None:
        """`named`: path to disk target of every image that a definition or a snapshot names.

        `untagged`: names of internal snapshots that go, and pin nothing any more.
        """
        self.images: dict[str, ImageFacts] = {
            path: replace(image, tags=tuple(tag for tag in image.tags if tag.name not in untagged))
            for path, image in facts.images.items()
            if not image.missing
        }
        disk = (ImageRole.OVERLAY, ImageRole.ORIGIN)
        self.owned = {path: role for path, role in facts.owned.items() if role in disk}
        self.named = dict(named)
        self.elsewhere = facts.named_elsewhere
        self.known = frozenset(facts.images)
        self.targets = dict(named)
        self.free = dict(facts.free)
        """Bytes left in each folder after the merges so far."""
        self._standing: dict[str, list[str]] | None = None
        """Who stands on whom, once asked; every change forgets it."""

    def children(self, path: str) -> list[str]:
        """Images whose backing file is `path`."""
        if self._standing is None:
            self._standing = {}
            for above in sorted(self.images):
                backing = self.images[above].backing
                if backing is not None:
                    self._standing.setdefault(backing, []).append(above)
        return list(self._standing.get(path, ()))

    def _put(self, path: str, image: ImageFacts | None) -> None:
        """Change an image, or take it out."""
        self._standing = None
        if image is None:
            del self.images[path]
        else:
            self.images[path] = image

    def loose(self, path: str) -> bool:
        """Ours, and nothing names it, nor holds it an internal snapshot that we do not know.

        The user's own may hold some: what is merged into it leaves them as they are, and it never goes.
        """
        if path not in self.owned or path in self.named or path in self.elsewhere:
            return False
        return self.owned[path] is ImageRole.ORIGIN or not self.images[path].tags

    def collapse(self, job_prefix: str, targets: Mapping[str, str], *, merge: bool = True) -> Collapse:
        """Apply the rule of the module's text until it no longer applies.

        `targets`: path to disk target, for messages. `merge=False` only deletes what nothing stands on:
        right where speed matters more than tidiness; a later delete merges the rest.
        """
        result = Collapse()
        self._drop_leaves(result)
        self._give_up(result)
        if merge:
            while (run := self._next_run()) is not None:
                self._merge(run, result, job_prefix, targets)
        self._disown(result)
        return result

    def _drop_leaves(self, result: Collapse) -> None:
        while True:
            leaves = [
                path
                for path in self.images
                if self.loose(path) and self.owned[path] is ImageRole.OVERLAY and not self.children(path)
            ]
            if not leaves:
                return
            for path in leaves:
                self._gone([path], result)

    def _give_up(self, result: Collapse) -> None:
        """A leaf with the user's internal snapshots is the user's from now on, with all that it stands on.

        Nothing will lead to it any more, so nothing may be merged into what is below it.
        """
        for path in list(self.images):
            if path in self.named or path in self.elsewhere or self.owned.get(path) is not ImageRole.OVERLAY:
                continue
            if self.images[path].tags and not self.children(path):
                at: str | None = path
                while at is not None and at in self.images:
                    if self.owned.pop(at, None) is not None:
                        result.given_up.append(at)
                    at = self.images[at].backing
        result.disowned += result.given_up

    def _next_run(self) -> tuple[list[str], str] | None:
        """A maximal run of loose images, bottom first, each with one child; and the image on top of it."""
        # From the bottom: no merge may lean on an image that a later one removes, since all of them are
        # repeated after a crash.
        for path in sorted(self.images, key=lambda path: (self._depth(path), path)):
            if not self._collapsible(path) or self._continues(path):
                continue
            run = [path]
            while self._collapsible(above := self.children(run[-1])[0]) and self._continues(above):
                run.append(above)
            if self.images[above].tags:
                # Each of them stands on what is below as it is. But the rest of the run can be one image.
                above = run.pop()
            if run and (found := self._mergeable(run, above)) is not None:
                return found, above
        return None

    def _depth(self, path: str) -> int:
        """How many images are below."""
        count, below = 0, self.images[path].backing
        while below in self.images and count < len(self.images):
            count, below = count + 1, self.images[below].backing
        return count

    def _continues(self, path: str) -> bool:
        """Belongs to the run of the image below it. An origin always begins one: nobody deletes it."""
        return self.owned[path] is ImageRole.OVERLAY and self._collapsible(self.images[path].backing or "")

    def _collapsible(self, path: str) -> bool:
        return path in self.images and self.loose(path) and len(self.children(path)) == 1

    def _mergeable(self, run: list[str], top: str) -> list[str] | None:
        """The part of the run that can be merged with `top`: all, or what lies above an origin."""
        if self._may_go(top) or all(self.owned[path] is ImageRole.OVERLAY for path in run):
            return run
        above_origin = [path for path in run if self.owned[path] is ImageRole.OVERLAY]
        return above_origin or None

    def _may_go(self, path: str) -> bool:
        """The file may be deleted once its content is elsewhere."""
        return self.owned.get(path) is ImageRole.OVERLAY and path not in self.elsewhere

    def _merge(
        self,
        run_and_top: tuple[list[str], str],
        result: Collapse,
        job_prefix: str,
        targets: Mapping[str, str],
    ) -> None:
        run, top = run_and_top
        base = run[0]
        down_bytes = sum(self.images[path].actual_size for path in [*run[1:], top])
        up_bytes = sum(self.images[path].actual_size for path in run)
        can_up = all(self.owned[path] is ImageRole.OVERLAY for path in run)
        can_down = self._may_go(top)
        down = can_down and (not can_up or down_bytes <= up_bytes)
        if can_up and can_down:
            room_down, room_up = self._fits(base, top, down_bytes), self._fits(top, top, up_bytes)
            if room_down != room_up:
                down = room_down
        self._take_room(base if down else top, top, down_bytes if down else up_bytes)
        below = self.images[base].backing
        if self.images[base if down else top].block_device:
            result.block_devices.add(base if down else top)
        result.merges.append(
            MergeImages(
                target=targets.get(top, ""),
                top=top,
                top_format=self.images[top].format,
                base=base,
                base_format=self.images[base].format,
                down=down,
                below=below,
                below_format=self.images[base].backing_format if below is not None else None,
                # The disk is told with the job's events.
                job=f"{job_prefix}-{targets.get(top) or 'image'}-{len(result.merges)}",
                bytes=down_bytes if down else up_bytes,
            )
        )
        if down:
            self._merged_down(run, top, result)
        else:
            self._merged_up(run, top, result)

    def _fits(self, written: str, top: str, copied: int) -> bool:
        """Whether there is room for it. A volume of a fixed size does not grow."""
        image, size = self.images[written], self.images[top].virtual_size
        if image.block_device:
            return image.virtual_size >= size
        free = self.free.get(posixpath.dirname(written))
        return free is None or free >= growth(image, size, copied) + SPARE

    def _take_room(self, written: str, top: str, copied: int) -> None:
        folder = posixpath.dirname(written)
        if folder in self.free:
            self.free[folder] -= growth(self.images[written], self.images[top].virtual_size, copied)

    def _merged_down(self, run: list[str], top: str, result: Collapse) -> None:
        """`top`'s content is now called `base`; whatever stood on `top` stands on `base`."""
        base = run[0]
        base_image = self.images[base]
        for child in self.children(top):
            image = self.images[child]
            result.relinks.append(RelinkBacking(child, image.format, base, base_image.format))
            self._put(child, _on(image, base, base_image.format))
        for old, (path, _) in list(result.renames.items()):
            if path == top:
                result.renames[old] = (base, base_image.format)
        result.renames[top] = (base, base_image.format)
        result.absorbed |= dict.fromkeys(run[1:], (base, base_image.format))
        if top in self.named:
            self.named[base] = self.named.pop(top)
        size = max(base_image.actual_size, self.images[top].actual_size)
        grown = replace(base_image, virtual_size=self.images[top].virtual_size, actual_size=size)
        self._put(base, grown)
        self._gone([*run[1:], top], result)

    def _merged_up(self, run: list[str], top: str, result: Collapse) -> None:
        below = self.images[run[0]]
        self._put(top, _on(self.images[top], below.backing, below.backing_format))
        for old, (path, _) in list(result.absorbed.items()):
            if path in run:
                result.absorbed[old] = (top, self.images[top].format)
        result.absorbed |= dict.fromkeys(run, (top, self.images[top].format))
        self._gone(run, result)

    def _gone(self, paths: list[str], result: Collapse) -> None:
        for path in reversed(paths):  # from the top: no file loses its base before it goes
            if not self.images[path].block_device:
                # The file of a block device is its name: the volume would stay, unreachable.
                result.removes.append(path)
            self._put(path, None)
            self.owned.pop(path, None)
            result.disowned.append(path)

    def _disown(self, result: Collapse) -> None:
        """An origin that no overlay stands on is just the user's image again.

        So is an overlay that nothing leads to: a redefined snapshot may name one that is long gone.
        """
        for path, role in self.owned.items():
            if path not in self.known and path not in self.named:
                result.disowned.append(path)
                continue
            standing = any(child in self.owned for child in self.children(path))
            if role is ImageRole.ORIGIN and not standing:
                result.disowned.append(path)


def _on(image: ImageFacts, backing: str | None, backing_format: str | None) -> ImageFacts:
    return replace(image, backing=backing, backing_format=backing_format)
