"""A host of values: image files as dictionaries of clusters, QEMUs, a store. What steps do, without a world.

Stricter than the real one: whatever would be refused by a lock of QEMU's, read a missing file or cut a chain
raises Broken. A running guest counts: at every tick it writes the next number to its memory and to every
disk it may write to, so that a memory image and disks of different instants are told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model import steps as s
from virtsnap.model.domain import DomainRecord, DomainState, Instance
from virtsnap.model.facts import DomainFacts, FileFacts, ImageFacts, ImageRole, InternalSnapshot, MemoryWay
from virtsnap.model.snapshot import Snapshot, SnapshotTree
from virtsnap.plan.images import definition_images, frozen_images

Content = dict[int, str]
UUID = "8d8d9b3e-6f2c-4a3f-9d55-0a9d5e0a7c11"


class Broken(AssertionError):
    """A step that the world would not bear."""


def require(condition: bool, what: str) -> None:
    if not condition:
        raise Broken(what)


@dataclass
class Tag:
    """An internal snapshot: the image's own clusters of then, on whatever is below now."""

    clusters: Content
    memory: int | None = None


@dataclass
class Image:
    clusters: Content
    backing: str | None = None
    format: str = "qcow2"
    size: int = 1 << 30
    tags: dict[str, Tag] = field(default_factory=dict)


@dataclass
class Memory:
    """A memory image, and what the disks held at its instant."""

    value: int
    disks: dict[str, Content] = field(default_factory=dict)
    sealed: bool = False
    complete: bool = True


@dataclass
class Guest:
    """One QEMU. `truth` is what the guest believes its disks to hold."""

    id: int
    tops: dict[str, str]
    writable: frozenset[str]
    truth: dict[str, Content]
    running: bool = False
    waits: bool = False
    memory: int = 0
    attached: set[str] = field(default_factory=set)


def copies(contents: Mapping[str, Content]) -> dict[str, Content]:
    return {target: dict(content) for target, content in contents.items()}


def _never(point: str) -> None:
    """Nothing falls here."""


def _unnoted(settled: bool) -> None:
    """Nothing is written down."""


@dataclass
class Host:
    """Files and QEMUs. `at` is called in the middle of effects: a crash may fall there."""

    images: dict[str, Image] = field(default_factory=dict)
    memories: dict[str, Memory] = field(default_factory=dict)
    guests: dict[str, Guest] = field(default_factory=dict)
    ended: dict[str, Guest] = field(default_factory=dict)
    """Those that were killed, as they were."""
    at: Callable[[str], None] = _never
    settled: bool = False
    settle: Callable[[bool], None] = _unnoted
    """As `engine.world.World` has them."""
    memory_way: MemoryWay = MemoryWay.STREAM
    switched: dict[str, Content] = field(default_factory=dict)
    """Contents of the disks at the last step that froze them in a running guest."""
    instants: list[dict[str, Content]] = field(default_factory=list)
    """The same of every such step."""
    opened: dict[str, dict[str, Content]] = field(default_factory=dict)
    """Contents of the disks that each QEMU found when it started, by run folder."""

    # --- reading -----------------------------------------------------------------------------------
    def chain(self, path: str) -> list[str]:
        found: list[str] = []
        at: str | None = path
        while at is not None:
            require(at in self.images, f"{at} is missing below {path}")
            require(at not in found, f"{path} stands on itself")
            found.append(at)
            at = self.images[at].backing
        return found

    def content(self, path: str) -> Content:
        merged: Content = {}
        for layer in reversed(self.chain(path)):
            merged |= self.images[layer].clusters
        return merged

    def tag_content(self, path: str, name: str) -> Content:
        require(name in self.images[path].tags, f"{path} has no {name}")
        below = self.images[path].backing
        return {**(self.content(below) if below else {}), **self.images[path].tags[name].clusters}

    def children(self, path: str) -> list[str]:
        return [p for p, image in self.images.items() if image.backing == path]

    def open_in(self, path: str) -> list[Guest]:
        return [g for g in self.guests.values() if any(path in self.chain(t) for t in g.tops.values())]

    def kill(self, run_dir: str) -> None:
        if run_dir in self.guests:
            self.ended[run_dir] = self.guests.pop(run_dir)

    def lose_power(self) -> None:
        for run_dir in list(self.guests):
            self.kill(run_dir)

    # --- the guests --------------------------------------------------------------------------------
    def tick(self) -> None:
        for guest in self.guests.values():
            if guest.running:
                guest.memory += 1
                for target in guest.writable:
                    self.write(guest, target, 0, str(guest.memory))

    def write(self, guest: Guest, target: str, cluster: int, value: str) -> None:
        self.images[guest.tops[target]].clusters[cluster] = value
        guest.truth[target][cluster] = value

    # --- steps -------------------------------------------------------------------------------------
    def do(self, step: s.Step, run_dir: str | None) -> None:
        """`run_dir`: of the domain's QEMU by its record, or None."""
        self.tick()
        guest = self.guests.get(run_dir) if run_dir is not None else None
        match step:
            case s.CreateOverlay():
                self._create(step)
            case s.AttachOverlay():
                require(guest is not None, "no QEMU to attach to")
                require(step.path in self.images, f"{step.path} is missing")
                require(not self.open_in(step.path), f"{step.path} is open already")
                assert guest is not None
                guest.attached.add(step.path)
            case s.PauseGuest():
                assert guest is not None
                guest.running = False
            case s.ResumeGuest() if guest is not None:
                require(not guest.waits, "a QEMU that waits for memory cannot run")
                guest.running = True
            case s.SaveMemory():
                require(step.path not in self.memories, f"{step.path} would be overwritten")
                require(step.path not in self.images, f"{step.path} is an image")
                assert guest is not None
                require(step.live or not guest.running, "memory of a running guest")
                self.memories[step.path] = Memory(-1)
                self.at("half of the memory")
                self.tick()
                guest.running = False
                self.memories[step.path] = Memory(guest.memory, copies(guest.truth))
            case s.PrepareCapture():
                require(step.path not in self.memories, f"{step.path} would be overwritten")
                self.memories[step.path] = Memory(0, complete=False)
            case s.CaptureMemory():
                assert guest is not None
                require(not guest.running, "memory of a running guest")
                self.memories[step.path] = Memory(guest.memory, copies(guest.truth), complete=False)
            case s.CompleteMemory():
                self.at("half of the memory")
                self.tick()
                require(guest is not None, "no QEMU that writes the memory")
                self.memories[step.path].complete = True
            case s.SealMemory():
                require(step.path in self.memories, f"{step.path} is missing")
                require(self.memories[step.path].complete, f"{step.path} is not whole")
                self.memories[step.path].sealed = True
            case s.SwitchLayers():
                assert guest is not None
                self._switch(guest, step)
            case s.StartQemu():
                self._start(step)
            case s.LoadMemory():
                loading = self.guests[step.run_dir]
                if loading.waits:
                    require(step.path in self.memories, f"{step.path} is missing")
                    require(self.memories[step.path].sealed, f"{step.path} is not whole")
                    self.at("half of loading")
                    loading.memory, loading.waits = self.memories[step.path].value, False
            case s.KillQemu():
                self.kill(step.run_dir)
            case s.RemoveFile():
                self._remove(step.path)
            case s.MergeImages():
                self._merge(step)
            case s.RelinkBacking():
                self._relink(step)
            case s.TagDisks():
                assert guest is not None
                self._instant(guest)
                for target in step.targets:
                    self._tag(guest.tops[target], step.name, None)
            case s.SaveInternal():
                assert guest is not None
                self._instant(guest)
                for target in step.targets:
                    memory = guest.memory if target == step.memory_target else None
                    self._tag(guest.tops[target], step.name, memory)
                    self.at("between the images")
            case s.TagImage():
                require(not self.open_in(step.path), f"{step.path} is open in QEMU")
                self._tag(step.path, step.name, None)
            case s.LoadInternal():
                self._load(step)
            case s.ApplyTag():
                require(not self.open_in(step.path), f"{step.path} is open in QEMU")
                require(step.name in self.images[step.path].tags, f"{step.path} has no {step.name}")
                self.images[step.path].clusters = dict(self.images[step.path].tags[step.name].clusters)
            case s.CopyImage():
                self._copy(step)
            case s.DeleteTag():
                if step.path in self.images:
                    self.images[step.path].tags.pop(step.name, None)
            case (
                s.SettleGuest() | s.Declare() | s.ResumeGuest() | s.GuardTag() | s.GuardLayer() | s.Announce()
            ):
                pass
            case _:
                raise Broken(f"no such step: {step}")
        self.tick()

    def undo(self, step: s.Step, run_dir: str | None) -> None:
        guest = self.guests.get(run_dir) if run_dir is not None else None
        match step:
            case s.CreateOverlay() | s.CopyImage():
                require(not self.open_in(step.path), f"{step.path} is in use")
                self.images.pop(step.path, None)
            case s.GuardTag() | s.TagImage():
                self.images[step.path].tags.pop(step.name, None)
            case s.AttachOverlay() if guest is not None:
                guest.attached.discard(step.path)
            case s.PauseGuest() if guest is not None:
                guest.running = True
            case s.PrepareCapture() | s.CaptureMemory():
                self.memories.pop(step.path, None)
            case s.GuardLayer():
                merge = s.MergeImages(
                    *(step.target, step.path, step.format, step.backing, step.backing_format),
                    *(True, None, None, step.job, 0),
                )
                self._merge(merge)
            case s.SaveMemory():
                self.memories.pop(step.path, None)
                if guest is not None and step.live:
                    guest.running = True
            case s.StartQemu():
                self.guests.pop(step.run_dir, None)
            case _:
                pass

    def probe(self, step: s.Step, run_dir: str | None) -> bool | None:
        guest = self.guests.get(run_dir) if run_dir is not None else None
        if guest is None or not isinstance(step, s.SwitchLayers):
            return None
        return all(guest.tops[target] == path for target, path, _ in step.disks)

    def _create(self, step: s.CreateOverlay) -> None:
        require(step.path not in self.images or step.existed, f"{step.path} would be overwritten")
        require(step.path not in self.memories, f"{step.path} is a memory image")
        require(step.backing in self.images, f"{step.backing} is missing")
        below = self.images[step.backing]
        require(below.format == step.backing_format, f"{step.backing} is {below.format}")
        require(below.size == step.size, f"{step.path} has another size than {step.backing}")
        self.at("before the file")
        self.images[step.path] = Image({}, step.backing, step.format, step.size)

    def _instant(self, guest: Guest) -> None:
        self.switched = copies(guest.truth)
        self.instants.append(self.switched)

    def _tag(self, path: str, name: str, memory: int | None) -> None:
        image = self.images[path]
        require(image.format == "qcow2", f"{path} cannot hold an internal snapshot")
        require(name not in image.tags, f"{path} has {name} already")
        image.tags[name] = Tag(dict(image.clusters), memory)

    def _load(self, step: s.LoadInternal) -> None:
        guest = self.guests[step.run_dir]
        require(not guest.running and not guest.waits, "memory is loaded into a guest that stands still")
        for target, path in guest.tops.items():
            if path in step.images:
                tag = self.images[path].tags[step.name]
                self.images[path].clusters = dict(tag.clusters)
                guest.truth[target] = self.content(path)
                if path == step.memory_image:
                    assert tag.memory is not None
                    guest.memory = tag.memory
        require(set(step.images) <= set(guest.tops.values()), "an image is not in this QEMU")
        self.opened[step.run_dir] = copies(guest.truth)

    def _copy(self, step: s.CopyImage) -> None:
        require(step.path not in self.images, f"{step.path} would be overwritten")
        for guest in self.guests.values():
            written = {guest.tops[target] for target in guest.writable}
            require(step.source not in written, f"{step.source} is copied while a guest writes to it")
        source = self.images[step.source]
        self.images[step.path] = replace(
            source,
            clusters=dict(source.clusters),
            tags={name: Tag(dict(tag.clusters), tag.memory) for name, tag in source.tags.items()},
        )

    def _switch(self, guest: Guest, step: s.SwitchLayers) -> None:
        self._instant(guest)
        for target, path, _ in step.disks:
            require(path in guest.attached, f"{path} was not attached")
            require(self.images[path].backing == guest.tops[target], f"{path} stands on something else")
        for target, path, _ in step.disks:
            guest.tops[target] = path
            guest.attached.discard(path)

    def _start(self, step: s.StartQemu) -> None:
        self.guests.pop(step.run_dir, None)
        disks = [d for d in DomainDefinition.parse(step.domain_xml).disks if d.source is not None]
        for disk in disks:
            assert disk.source is not None
            for path in self.chain(disk.source):
                for other in self.guests.values():
                    held = {other.tops[t] for t in other.writable}
                    require(path not in held, f"{path} is written by another QEMU")
            require(self.images[disk.source].format == disk.format, f"{disk.source} is not {disk.format}")
            if not disk.readonly:
                require(not self.open_in(disk.source), f"{disk.source} is open in another QEMU")
        self.at("before the process")
        tops = {disk.target: disk.source for disk in disks if disk.source is not None}
        contents = {target: self.content(path) for target, path in tops.items()}
        self.opened[step.run_dir] = copies(contents)
        self.guests[step.run_dir] = Guest(
            step.id, tops, frozenset(d.target for d in disks if not d.readonly), contents, waits=step.incoming
        )

    def _remove(self, path: str) -> None:
        require(not self.children(path), f"{path} has images on it and is deleted")
        require(not self.open_in(path), f"{path} is open and is deleted")
        self.images.pop(path, None)
        self.memories.pop(path, None)

    def _merge(self, step: s.MergeImages) -> None:
        if step.top not in self.images:
            require(step.down, f"{step.top} is missing")
            return
        chain = self.chain(step.top)
        if step.base not in chain:
            return  # merged up before
        run = chain[: chain.index(step.base) + 1]
        written = step.base if step.down else step.top
        users = self.open_in(written)
        for guest in users:
            if not any(step.top in self.chain(top) for top in guest.tops.values()):
                # QEMU has been through with it before a crash; nobody else may write to it.
                merged = step.down and (self.settled or self.content(step.top) == self.content(step.base))
                require(merged, f"{written} is open in QEMU and would be written by qemu-img")
                return
        if self.settled and not users:
            return
        if step.down:
            for number, cluster in enumerate(sorted(self._above(run))):
                self.images[step.base].clusters[cluster] = self._above(run)[cluster]
                if number == 0:
                    self.at("half of a merge")
                    self.tick()
            self.images[step.base].size = self.images[step.top].size
            self.images[step.base].clusters |= self._above(run)
            if any(step.top in guest.tops.values() for guest in users):
                self.at("before it is settled")
                self.settle(True)
                self.at("after it is settled")
            for guest in users:
                self._shorten(guest, step)
        else:
            below: Content = {}
            for path in reversed(run[1:]):
                below |= self.images[path].clusters
            for number, cluster in enumerate(sorted(below)):
                self.images[step.top].clusters.setdefault(cluster, below[cluster])
                if number == 0:
                    self.at("half of a merge")
            require(step.below == self.images[step.base].backing, f"{step.base} stands on something else")
            self.images[step.top].backing = step.below

    def _above(self, run: list[str]) -> Content:
        """What the layers above the last one hold."""
        return {k: v for path in reversed(run[:-1]) for k, v in self.images[path].clusters.items()}

    def _shorten(self, guest: Guest, step: s.MergeImages) -> None:
        """What QEMU does at the end of a commit: the layer above, or the disk, goes to the base."""
        for target, top in guest.tops.items():
            chain = self.chain(top)
            if top == step.top:
                guest.tops[target] = step.base
            elif step.top in chain:
                self.images[chain[chain.index(step.top) - 1]].backing = step.base

    def _relink(self, step: s.RelinkBacking) -> None:
        image = self.images.get(step.path)
        if image is None or image.backing == step.backing:
            return
        require(not self.open_in(step.path), f"{step.path} is open in QEMU and would be relinked")
        before = self.content(step.path)
        image.backing = step.backing
        require(self.content(step.path) == before, f"{step.path} changed its content")


@dataclass
class Book:
    """The store as values."""

    record: DomainRecord
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    current: str | None = None
    owned: dict[str, ImageRole] = field(default_factory=dict)

    @property
    def tree(self) -> SnapshotTree:
        return SnapshotTree.of(self.snapshots.values(), self.current)

    def apply(self, step: s.StoreWrite) -> None:
        if step.record is not None:
            record = step.record
            if step.started is not None:
                record = replace(
                    record,
                    instance=instance_of(step.started),
                    live_xml=record.live_xml or record.config_xml,
                )
            self.record = record
        for name in step.delete_snapshots:
            self.snapshots.pop(name, None)
            if self.current == name:
                self.current = None
        for snapshot in step.put_snapshots:
            self.snapshots[snapshot.name] = snapshot
        if step.set_current:
            require(step.current is None or step.current in self.snapshots, f"no {step.current}")
            self.current = step.current
        for path in step.delete_images:
            self.owned.pop(path, None)
        for path, role in step.put_images:
            self.owned[path] = role


def instance_of(run_dir: str) -> Instance:
    return Instance(int(run_dir.rpartition("/")[2]), 4711, 1, "boot", run_dir)


def take_facts(
    host: Host,
    record: DomainRecord,
    tree: SnapshotTree,
    owned: Mapping[str, ImageRole],
    *,
    now: int,
    next_id: int = 0,
    paths: tuple[str, ...] = (),
) -> DomainFacts:
    """The picture that `qemu.facts` would take of the simulated host."""
    named = set(definition_images(record.config_xml, record.live_xml))
    for snapshot in tree:
        named |= set(frozen_images(snapshot).values())
    found: dict[str, ImageFacts] = {}
    for path in named:
        at: str | None = path
        while at is not None and at not in found:
            found[at] = _image_facts(host, at)
            at = found[at].backing
    files = {
        path: FileFacts(exists=path in host.images or path in host.memories, regular=True, size=65536)
        for path in paths
    }
    return DomainFacts(
        record,
        tree,
        now,
        found,
        dict(owned),
        files=files,
        next_id=next_id,
        root="/root",
        memory_way=host.memory_way,
        memory_in_use=1 << 20,
    )


def _image_facts(host: Host, path: str) -> ImageFacts:
    image = host.images.get(path)
    if image is None:
        return ImageFacts(path, "qcow2", missing=True)
    below = image.backing
    return ImageFacts(
        path,
        image.format,
        image.size,
        len(image.clusters) << 16,
        below,
        host.images[below].format if below is not None and below in host.images else None,
        cluster_size=65536 if image.format == "qcow2" else None,
        tags=tuple(
            InternalSnapshot(str(number), name, 0 if tag.memory is None else 1 << 20)
            for number, (name, tag) in enumerate(image.tags.items(), start=1)
        ),
    )


@dataclass
class World:
    """Host and store together, and a runner without a journal: what every plan must do when nothing fails."""

    host: Host
    book: Book
    now: int = 1_700_000_000
    next_id: int = 1

    def facts(self, paths: tuple[str, ...] = ()) -> DomainFacts:
        return take_facts(
            self.host,
            self.book.record,
            self.book.tree,
            self.book.owned,
            now=self.now,
            next_id=self.next_id,
            paths=paths,
        )

    def run(self, plan: s.Plan) -> None:
        for step in plan.steps:
            if isinstance(step, s.StoreWrite):
                self.book.apply(step)
            else:
                instance = self.book.record.instance
                self.host.do(step, None if instance is None else instance.run_dir)

    @property
    def guest(self) -> Guest | None:
        instance = self.book.record.instance
        return None if instance is None else self.host.guests[instance.run_dir]

    def active(self) -> dict[str, str]:
        """By target, the image that the domain writes to, as the store says."""
        record = self.book.record
        definition = DomainDefinition.parse(record.live_xml or record.config_xml)
        return {
            disk.target: disk.source
            for disk in definition.disks
            if disk.source is not None and not disk.readonly
        }

    def check(self) -> None:
        """Store and world agree."""
        guest = self.guest
        require(len(self.host.guests) == (guest is not None), "a QEMU that nobody knows, or none")
        if guest is None:
            return
        require(
            {t: guest.tops[t] for t in guest.writable} == self.active(), "the definition names other images"
        )
        require(not guest.attached, "layers were left attached")
        require(guest.running == (self.book.record.state is DomainState.RUNNING), "the state is another")
        for target, path in guest.tops.items():
            require(self.host.content(path) == guest.truth[target], f"{target} lost something")


def domain_xml(disks: str, *, name: str = "d", more: str = "") -> str:
    """A definition with these `<disk>` elements."""
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>{UUID}</uuid><memory>262144</memory>"
        f"<os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type></os>"
        f"<devices>{disks}{more}</devices></domain>"
    )


def disk_xml(
    target: str, path: str | None, format: str = "qcow2", more: str = "", attributes: str = ""
) -> str:
    """One `<disk>` of type file."""
    source = f"<source file='{path}'/>" if path is not None else ""
    return (
        f"<disk type='file' device='disk'{attributes}><driver name='qemu' type='{format}'/>{source}"
        f"<target dev='{target}' bus='virtio'/>{more}</disk>"
    )


def cdrom_xml(target: str, path: str | None) -> str:
    """A read-only drive."""
    source = f"<source file='{path}'/>" if path is not None else ""
    return (
        f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>{source}"
        f"<target dev='{target}' bus='sata'/><readonly/></disk>"
    )
