"""A domain with real images through the real service, beside a model of what each disk holds.

`History` does one operation at a time in both and knows the laws:

- the disks hold what was written to them, and every snapshot what they held when it was taken, whatever
  happens to the others; going back brings exactly that, for every disk that the snapshot includes;
- what was given up (--metadata, --no-metadata, a disk taken out of the definition) keeps its content;
- nothing is left over: a file that nothing names has several images on it, or internal snapshots in it;
- the tree has no dangling parent, and the store knows no file that is not there;
- images are sound (qemu-img check).
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from lxml import etree

from tests.real.image_reader import Qcow2, chain, read
from tests.real.pen import Pen
from tests.service.local_domain import kill_all, processes_naming
from virtsnap.engine.runner import Runner
from virtsnap.engine.world import query_path
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.errors import ConfigUnsupported, OperationUnsupported, VirtsnapError
from virtsnap.model.flags import DomainStart, DomainXml, SnapshotCreate, SnapshotDelete
from virtsnap.model.snapshot import Location, Snapshot, SnapshotTree
from virtsnap.plan.images import frozen_images
from virtsnap.qemu import images
from virtsnap.qemu.monitor import Monitor
from virtsnap.service.local import open_local

T = TypeVar("T")
State = tuple[str, dict[str, Snapshot], str | None]
BLOCK = 64 << 10
BLOCKS = 6
Content = tuple[int, ...]
"""The byte that each block is filled with."""


class Undone(Exception):
    """The operation died, and the next process took it back."""


@dataclass
class Moment:
    """What the model knows of a snapshot: by target, where and what."""

    contents: dict[str, Content]
    kinds: dict[str, Location]


@dataclass
class GivenUp:
    """A snapshot whose record was taken away and kept by the user."""

    xml: str
    moment: Moment
    files: frozenset[str]
    """What the record names."""


@dataclass(frozen=True)
class Disk:
    """The user's own image."""

    target: str
    format: str = "qcow2"
    template: bool = False
    cluster: str = "64k"


def memory_folder() -> str | None:
    """Where files cost least."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass
class History:
    """One domain in a folder of its own, from `begin` to `end`."""

    pen: Pen
    folder: Path = field(
        default_factory=lambda: Path(tempfile.mkdtemp(prefix="virtsnap-", dir=memory_folder()))
    )

    def begin(self, disks: Sequence[Disk], cache: Path) -> None:
        """Make the images and define the domain. `cache`: what is known of QEMU, shared by all."""
        self.loop = asyncio.Runner()
        self.root, self.images = self.folder / "root", self.folder / "images"
        self.root.mkdir()
        self.images.mkdir()
        shutil.copytree(cache, self.root / "cache")
        self.now: dict[str, Content] = {}
        self.moments: dict[str, Moment] = {}
        self.kept: dict[str, GivenUp] = {}
        self.users: dict[str, Content] = {}
        """Frozen content that was given up, by path."""
        self.user_tags: dict[tuple[str, str], Content] = {}
        """Internal snapshots that were given up, by path and name."""
        self.foreign: set[str] = set()
        """Files that no snapshot has made, or that were given up."""
        self.count = 0
        self.given_up = False
        """Whether anything ever was, so that bases may stay unmerged."""
        self.tidy = True
        """The last operation leaves nothing to merge."""
        self.deaths: Deaths | None = None
        self.crashed = False
        self.log: list[str] = []
        if any(disk.template for disk in disks):
            template = self._image("template", Disk("template"))
            self.users[template] = self._ink(template, "qcow2")
        self.service = self.run(open_local(self.root))
        self.uuid = self.run(self.service.define_xml(_DOMAIN)).uuid
        for disk in disks:
            self.add_disk(disk)

    def end(self) -> None:
        """Look at the images a last time and let go of everything."""
        try:
            if self.running:
                self.stop()
            self.run(self.service.close())
            self.check_images()
        finally:
            self.loop.close()
            kill_all(processes_naming(self.folder))
            shutil.rmtree(self.folder)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """To its end."""
        return self.loop.run(work)

    # --- images ------------------------------------------------------------------------------------------

    def _image(self, name: str, disk: Disk) -> str:
        path = str(self.images / f"{name}.img")
        below = ["-b", str(self.images / "template.img"), "-F", "qcow2"] if disk.template else []
        options = ["-o", f"cluster_size={disk.cluster}"] if disk.format == "qcow2" else []
        _qemu_img("create", "-q", "-f", disk.format, *options, *below, path, str(BLOCK * BLOCKS))
        self.foreign.add(path)
        return path

    def _ink(self, path: str, format: str) -> Content:
        """Fill every other block with something of its own."""
        found = list(content(path, format))
        for block in range(self.count % 2, BLOCKS, 2):
            found[block] = self._byte()
            self.pen.fill(path, format, found[block], block * BLOCK, BLOCK)
        return tuple(found)

    def _byte(self) -> int:
        self.count += 1
        return self.count % 255 + 1

    def write(self, target: str, block: int) -> None:
        """The guest writes; as it is shut off, it was booted for it."""
        path, format = self.active()[target]
        byte = self._byte()
        if self.running:
            self.run(self._tell_qemu(f"write -P {byte} {block * BLOCK} {BLOCK}", target))
        else:
            self.pen.fill(path, format, byte, block * BLOCK, BLOCK)
        now = list(self.now[target])
        now[block] = byte
        self.now[target] = tuple(now)

    # --- QEMU --------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether there is a QEMU."""
        record = self.service.store.domain(self.uuid)
        assert record is not None
        return record.active

    def start(self, paused: bool) -> None:
        """Start a QEMU in which nothing boots."""
        self.run(self.service.create(self.uuid, DomainStart.PAUSED if paused else 0))

    def stop(self) -> None:
        """End it."""
        self.run(self.service.destroy(self.uuid))

    async def _tell_qemu(self, command: str, *targets: str) -> None:
        """A command of qemu-io on these disks. Its answer goes nowhere: whoever reads the image sees it."""
        record = self.service.store.domain(self.uuid)
        assert record is not None
        assert record.instance is not None
        assert record.live_xml is not None
        aliases = {disk.target: disk.alias for disk in DomainDefinition.parse(record.live_xml).disks}
        async with await Monitor.connect(query_path(record.instance.run_dir)) as monitor:
            for target in targets:
                line = f'qemu-io -d /machine/peripheral/{aliases[target]}/virtio-backend "{command}"'
                await monitor.execute("human-monitor-command", command_line=line)

    # --- the definition ----------------------------------------------------------------------------------

    def definition(self) -> DomainDefinition:
        """As the service shows it."""
        return DomainDefinition.parse(self.run(self.service.domain_xml(self.uuid, DomainXml.INACTIVE)))

    def active(self) -> dict[str, tuple[str, str]]:
        """By target, the image that is written to, and its format."""
        return {d.target: (d.source, d.format) for d in self.definition().disks if d.source is not None}

    def add_disk(self, disk: Disk) -> None:
        """Define the domain with one more disk, on an image of the user's."""
        self.count += 1
        path = self._image(f"{disk.target}-{self.count}", disk)
        before = self._ink(path, disk.format)
        root = etree.fromstring(self.definition().to_xml())
        devices = root.find("devices")
        assert devices is not None
        devices.append(etree.fromstring(_DISK.format(path=path, format=disk.format, target=disk.target)))
        self.run(self.service.define_xml(etree.tostring(root, encoding="unicode")))
        self.now[disk.target] = before

    def remove_disk(self, target: str) -> None:
        """Define the domain without a disk; its image is the user's, whatever it was."""
        path, _ = self.active()[target]
        root = etree.fromstring(self.definition().to_xml())
        for element in root.iterfind("devices/disk"):
            if element.find("target").get("dev") == target:  # type: ignore[union-attr]
                element.getparent().remove(element)  # type: ignore[union-attr]
        self.run(self.service.define_xml(etree.tostring(root, encoding="unicode")))
        content = self.now.pop(target)
        self.given_up = True
        self.foreign.add(path)
        if path not in self.named():
            self.users[path] = content

    # --- snapshots ---------------------------------------------------------------------------------------

    def tree(self) -> SnapshotTree:
        """All snapshots."""
        return self.run(self.service.snapshot_tree(self.uuid))

    def named(self) -> set[str]:
        """The images that the definition or a snapshot names."""
        named = {path for path, _ in self.active().values()}
        for snapshot in self.tree():
            named |= set(frozen_images(snapshot).values())
        return named

    def create(
        self, places: Sequence[str], flags: SnapshotCreate, own_names: bool = False, memory: str = ""
    ) -> str | None:
        """Take a snapshot; the name, or None when it was refused as it must be.

        `places`: for every disk in order 'external', 'internal', 'no', or '' for the default; of a running
        domain `memory` as well.
        """
        self.count += 1
        name = f"s{self.count}"
        active = self.active()
        wanted = dict(zip(active, places, strict=False))
        disks = []
        for target, place in wanted.items():
            source = ""
            if place == "external" and (own_names or flags & SnapshotCreate.REUSE_EXT):
                path = str(self.images / f"{name}-{target}.own")
                source = f"<source file='{path}'/>"
            attribute = f" snapshot='{place}'" if place else ""
            disks.append(f"<disk name='{target}'{attribute}>{source}</disk>")
        running = self.running
        element = f"<memory snapshot='{memory}'/>" if memory else ""
        if memory == "external":
            element = f"<memory snapshot='external' file='{self.images}/{name}.mem'/>"
        xml = f"<domainsnapshot><name>{name}</name>{element}<disks>{''.join(disks)}</disks></domainsnapshot>"
        if flags & SnapshotCreate.REUSE_EXT:
            for target, place in wanted.items():
                if place != "external":
                    continue
                path, (below, format) = str(self.images / f"{name}-{target}.own"), active[target]
                _qemu_img("create", "-q", "-f", "qcow2", "-b", below, "-F", format, path)
        before = dict(self.now)
        create = self.service.snapshot_create_xml

        def tagged() -> bool:
            paths = [active[target][0] for target, place in wanted.items() if place == "internal"]
            return bool(paths) and all(_format(p) == "qcow2" and name in Qcow2(p).tags for p in paths)

        try:
            refusal = self.call(
                create, self.uuid, xml, int(flags), refusal=ConfigUnsupported, happened=tagged
            )
        except Undone:
            self._drop_made(name)
            raise
        if refusal:
            impossible = any(place == "internal" and active[t][1] == "raw" for t, place in wanted.items())
            if memory != "external":
                impossible |= bool(wanted) and all(wanted.get(t) == "no" for t in active)
                impossible |= not active
            if running and flags & SnapshotCreate.DISK_ONLY:
                impossible |= "internal" in wanted.values()
            assert impossible, refusal
            self._drop_made(name)
            return None
        after = self.active()
        kinds = {}
        for target, (path, format) in active.items():
            place = wanted.get(target, "")
            if not place:
                external = flags & SnapshotCreate.DISK_ONLY or memory == "external" or format == "raw"
                external |= not running and "external" in wanted.values()
                place = "external" if external else "internal"
            assert (after[target][0] != path) == (place == "external"), f"{target} is not {place}"
            if place != "no":
                kinds[target] = Location(place)
        moment = Moment({target: before[target] for target in kinds}, kinds)
        self.tidy = False
        if flags & SnapshotCreate.NO_METADATA:
            self.given_up = True
            self.foreign |= {after[target][0] for target in kinds}
            self.foreign |= {str(path) for path in self.images.glob(f"*{name}.mem")}
            for target, kind in kinds.items():
                path = active[target][0]
                if kind is Location.INTERNAL:
                    self.user_tags[path, name] = before[target]
                else:
                    self.users[path] = before[target]
                    self.foreign.add(path)
        else:
            self.moments[name] = moment
            assert self.tree().current == name
        return name

    def _drop_made(self, name: str) -> None:
        """The overlays that the user made for a snapshot that was not taken."""
        for path in self.images.glob(f"{name}-*.own"):
            path.unlink()

    def revert(self, name: str, flags: int = 0) -> bool:
        """Go back; False when it was refused as it must be."""
        moment, before = self.moments[name], dict(self.now)
        domain_xml = self.tree()[name].domain_xml
        assert domain_xml is not None
        then = {disk.target for disk in DomainDefinition.parse(domain_xml).disks}
        revert = self.service.snapshot_revert

        def changed() -> bool:
            return {t: content(*image) for t, image in self.active().items()} != before

        refusal = self.call(revert, self.uuid, name, flags, refusal=OperationUnsupported, happened=changed)
        if refusal:
            assert re.search("is not part of the snapshot.*base of other snapshots by now", str(refusal))
            assert then - set(moment.contents) - set(before), refusal
            return False
        self.now = {}
        for target, (path, format) in self.active().items():
            if target in moment.contents:
                self.now[target] = moment.contents[target]
            elif target in before:
                self.now[target] = before[target]
            else:
                self.now[target] = content(path, format)
        assert set(self.now) == then
        assert self.tree().current == name
        self.tidy = False
        return True

    def delete(self, name: str, flags: SnapshotDelete) -> None:
        """Forget snapshots, and their content unless METADATA_ONLY."""
        tree = self.tree()
        doomed = {snapshot.name for snapshot in tree.descendants(name)}
        if not flags & (SnapshotDelete.CHILDREN | SnapshotDelete.CHILDREN_ONLY):
            doomed = set()
        if not flags & SnapshotDelete.CHILDREN_ONLY:
            doomed.add(name)
        texts = {one: self.run(self.service.snapshot_xml(self.uuid, one, 1)) for one in doomed}
        self.call(self.service.snapshot_delete, self.uuid, name, int(flags))
        self.forgotten(tree, texts, bool(flags & SnapshotDelete.METADATA_ONLY))

    def forgotten(self, before: SnapshotTree, texts: dict[str, str], metadata_only: bool) -> None:
        """Snapshots are gone; `texts`: their documents as they were."""
        named, active = self.named(), {path for path, _ in self.active().values()}
        if metadata_only and texts:
            self.given_up = True
        for name, text in texts.items():
            moment = self.moments.pop(name)
            if not metadata_only:
                continue
            self.kept[name] = GivenUp(text, moment, record_files(before[name]))
            self.foreign.add(before[name].memory_file or "")
            for target, path in frozen_images(before[name]).items():
                if moment.kinds[target] is Location.INTERNAL:
                    self.user_tags[path, name] = moment.contents[target]
                elif path not in named:
                    self.users[path] = moment.contents[target]
                if path not in named - active:
                    self.foreign.add(path)
        if not metadata_only:
            self.tidy = True

    def redefine(self, name: str, xml: str, current: bool) -> None:
        """Give a record back, or another one of a snapshot that is there."""
        flags = SnapshotCreate.REDEFINE | (SnapshotCreate.CURRENT if current else 0)
        before = self.tree().current
        self.call(self.service.snapshot_create_xml, self.uuid, xml, int(flags))
        assert self.tree().current == (name if current else before)
        self.tidy = False
        self.given_up = True

    def take_back(self, name: str, current: bool) -> bool:
        """Redefine a snapshot whose record was kept; False when other things of the user stand on it."""
        kept = self.kept[name]
        standing = {path for path in self.users if path not in kept.files}
        standing |= {path for path, tag in self.user_tags if path not in kept.files or tag != name}
        for other, one in self.kept.items():
            if other != name and one.files & kept.files:
                return False
        for path in standing:
            if set(chain(path, _format(path))) & kept.files:
                return False
        root = etree.fromstring(kept.xml)
        parent = root.findtext("parent/name")
        if parent is not None and parent not in self.moments:
            root.remove(root.find("parent"))  # type: ignore[arg-type]
        self.redefine(name, etree.tostring(root, encoding="unicode"), current)
        del self.kept[name]
        self.moments[name] = kept.moment
        for path in kept.files:
            self.users.pop(path, None)
            self.user_tags.pop((path, name), None)
        return True

    def edit(self, name: str, parent: str | None, current: bool) -> None:
        """Redefine a snapshot that is there, with another description and parent."""
        root = etree.fromstring(self.run(self.service.snapshot_xml(self.uuid, name, 1)))
        old = root.find("parent")
        if old is not None:
            root.remove(old)
        if parent is not None and parent not in {name, *(s.name for s in self.tree().descendants(name))}:
            etree.SubElement(etree.SubElement(root, "parent"), "name").text = parent
        description = root.find("description")
        if description is None:
            description = etree.SubElement(root, "description")
        description.text = f"text {self.count}"
        self.redefine(name, etree.tostring(root, encoding="unicode"), current)
        assert self.tree()[name].description == description.text

    def clone(self, name: str) -> bool:
        """snapshot-edit --clone; False for internal ones, whose images know only the first name."""
        moment = self.moments[name]
        if Location.INTERNAL in moment.kinds.values():
            return False
        self.count += 1
        root = etree.fromstring(self.run(self.service.snapshot_xml(self.uuid, name, 1)))
        root.find("name").text = f"{name}c{self.count}"  # type: ignore[union-attr]
        self.redefine(f"{name}c{self.count}", etree.tostring(root, encoding="unicode"), False)
        self.moments[f"{name}c{self.count}"] = moment
        return True

    def call(
        self,
        function: Callable[..., Coroutine[Any, Any, Any]],
        *arguments: Any,
        refusal: type[VirtsnapError] | None = None,
        happened: Callable[[], bool] | None = None,
    ) -> VirtsnapError | None:
        """One operation; the refusal, if it is of the kind that may be.

        Raises Undone when it died and was taken back. `happened` tells where the store does not show it.
        """
        self.log.append(f"{function.__name__}{arguments[1:]}")
        before = self.state()
        try:
            if self.deaths is None:
                self.run(function(*arguments))
            else:
                self.deaths.run(lambda: self.run(function(*arguments)))
        except VirtsnapError as error:
            if refusal is None or not isinstance(error, refusal):
                raise
            self.log.append(str(error))
            return error
        except Death as death:
            self.log.append(f"died {death}")
            self.recover()
            if self.state() == before and not (happened is not None and happened()):
                self.log.append("undone")
                raise Undone from death
        return None

    def state(self) -> State:
        """What the store knows; images not owned by anybody are not in it."""
        record, tree = self.service.store.domain(self.uuid), self.service.store.tree(self.uuid)
        assert record is not None
        return record.config_xml, dict(tree.snapshots), tree.current

    def recover(self) -> None:
        """Another process, which may die as well, and another."""
        self.crashed = True
        assert self.deaths is not None
        while True:
            self.run(self.service.close())
            self.service = self.run(open_local(self.root))
            try:
                self.deaths.run(lambda: self.run(self.service.domain_state(self.uuid)))
                return
            except Death as death:
                self.log.append(f"died {death}")

    # --- laws --------------------------------------------------------------------------------------------

    def laws(self) -> None:
        """Everything is as the model has it."""
        tree, active = self.tree(), self.active()
        if self.running:
            self.run(self._tell_qemu("flush", *active))
        assert self.service.store.journal(self.uuid) is None
        assert set(tree.snapshots) == set(self.moments)
        assert tree.current is None or tree.current in tree
        for snapshot in tree:
            assert snapshot.parent is None or snapshot.parent in tree, f"{snapshot.name} hangs in the air"
        assert {t: content(*image) for t, image in active.items()} == self.now, "the domain's disks changed"
        for name, moment in self.moments.items():
            assert frozen_contents(tree[name], moment.kinds) == moment.contents, f"{name} changed"
        for path, expected in self.users.items():
            assert content(path, _format(path)) == expected, f"the user's {path} changed"
        for (path, tag), expected in self.user_tags.items():
            assert content(path, "qcow2", tag) == expected, f"the user's internal snapshot {tag} changed"
        self.nothing_is_left_over(tree, active)

    def nothing_is_left_over(self, tree: SnapshotTree, active: dict[str, tuple[str, str]]) -> None:
        """Files, and internal snapshots in them, have somebody who names them."""
        named = {path for path, _ in active.values()} | {snapshot.memory_file for snapshot in tree}
        tags: dict[str, set[str]] = {}
        for path, name in self.user_tags:
            tags.setdefault(path, set()).add(name)
        for snapshot in tree:
            named |= set(frozen_images(snapshot).values())
            for path in frozen_images(snapshot, Location.INTERNAL).values():
                tags.setdefault(path, set()).add(snapshot.name)
        files = {str(path) for path in self.images.iterdir()}
        above: dict[str, set[str]] = {path: set() for path in files}
        tagged: dict[str, set[str]] = {path: set() for path in files}
        for path in files:
            if _format(path) == "qcow2":
                image = Qcow2(path)
                tagged[path] = set(image.tags)
                if image.backing is not None:
                    above[image.backing].add(path)
        loose = files - named - self.foreign
        for path in self.users:
            loose -= set(chain(path, _format(path)))
        for path, _ in self.user_tags:
            loose -= set(chain(path, "qcow2"))
        for path in sorted(loose):
            assert above[path], f"nothing names {path}"
            merges = len(above[path]) == 1 and not any(tagged[child] for child in above[path])
            assert not merges or not self.tidy or self.given_up, f"{path} could be merged"
        for path in files:
            unknown = tagged[path] - tags.get(path, set())
            assert not unknown, f"nothing names {unknown} in {path}"
        for path in self.service.store.images(self.uuid):
            assert path in files, f"{path} is owned and gone"

    def check_images(self) -> None:
        """qemu-img check. After a crash, clusters may be lost: space, never content."""
        for path in sorted(self.images.iterdir()):
            if _format(str(path)) == "qcow2":
                done = subprocess.run(
                    ["qemu-img", "check", path], capture_output=True, text=True, check=False
                )
                good = (0, 3) if self.crashed else (0,)
                assert done.returncode in good, f"{done.stdout}{done.stderr}"


class Death(BaseException):
    """The process is gone: nothing may catch this."""


class Deaths:
    """Kills at the points asked for: the runner's own (`engine.runner.Trace`), and around each child process.

    `points`: how many points the first process comes by before it dies, then how many the second ...
    """

    def __init__(self, points: Sequence[int]) -> None:
        self._points = list(points)
        self._left: int | None = None
        self._dead = False

    def run(self, work: Callable[[], Any]) -> None:
        """Raises Death."""
        self._left = self._points.pop(0) if self._points else None
        self._dead = False
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Runner.__init__, "__defaults__", (self._point,))
            start = images._start

            async def start_or_die(argv: Sequence[str]) -> asyncio.subprocess.Process:
                self._point(f"before {argv[1]}")
                child = await start(argv)
                try:
                    self._point(f"in {argv[1]}")
                except Death:
                    child.kill()
                    await child.communicate()
                    raise
                return child

            patch.setattr(images, "_start", start_or_die)
            for name in ("unlink", "truncate"):
                patch.setattr(os, name, self._if_alive(getattr(os, name)))
            work()

    def _point(self, name: str) -> None:
        if self._left is None:
            return
        self._left -= 1
        if self._left <= 0:
            self._dead = True
            raise Death(name)

    def _if_alive(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What the dead do not do, even where an `except` would."""

        def call(*arguments: Any, **options: Any) -> Any:
            if self._dead:
                raise Death("in an except block")
            return function(*arguments, **options)

        return call


def content(path: str, format: str, tag: str | None = None) -> Content:
    """What each block is filled with."""
    data = read(path, format, tag)
    assert len(data) == BLOCK * BLOCKS
    found = []
    for at in range(0, len(data), BLOCK):
        block = data[at : at + BLOCK]
        assert block.count(block[:1]) == BLOCK, f"pieces of different content in {path}"
        found.append(block[0])
    return tuple(found)


def frozen_contents(snapshot: Snapshot, kinds: dict[str, Location]) -> dict[str, Content]:
    """What a snapshot's disks hold."""
    assert snapshot.domain_xml is not None
    formats = {disk.target: disk.format for disk in DomainDefinition.parse(snapshot.domain_xml).disks}
    frozen = frozen_images(snapshot)
    assert frozen.keys() == kinds.keys()
    return {
        target: content(path, formats[target], snapshot.name if kinds[target] is Location.INTERNAL else None)
        for target, path in frozen.items()
    }


def record_files(snapshot: Snapshot) -> frozenset[str]:
    """Every image that a record names."""
    own = {disk.path for disk in (*snapshot.disks, *snapshot.revert_disks) if disk.path is not None}
    return frozenset(own | set(frozen_images(snapshot).values()))


def _format(path: str) -> str:
    with open(path, "rb") as file:
        return "qcow2" if file.read(4) == b"QFI\xfb" else "raw"


def _qemu_img(*words: str) -> None:
    subprocess.run(["qemu-img", *words], check=True)


_DOMAIN = """<domain type='qemu'>
  <name>d</name>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""
_DISK = """<disk type='file' device='disk'>
  <driver name='qemu' type='{format}'/>
  <source file='{path}'/>
  <target dev='{target}' bus='virtio'/>
</disk>
"""
