"""Any history of a domain, played on simulated images: what each snapshot holds never changes.

The laws:
- the content of every snapshot, and of the running or shut off domain, is what the model says;
- the memory and the disks of a full system snapshot are of one instant;
- a file that was given up (--metadata, --no-metadata) keeps its content;
- no file is left that nothing names, but a base that several images share;
- after the last snapshot the user's own images are all there is, with the active content.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.plan.simulation import (
    UUID,
    Book,
    Content,
    Host,
    Image,
    Tag,
    World,
    cdrom_xml,
    copies,
    disk_xml,
    domain_xml,
)
from virtsnap.model.domain import DomainRecord, DomainState, Reason
from virtsnap.model.errors import ConfigUnsupported, Refused
from virtsnap.model.facts import ImageRole, MemoryWay
from virtsnap.model.flags import SnapshotCreate, SnapshotDelete, SnapshotRevert
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk
from virtsnap.model.steps import CopyImage
from virtsnap.plan import create, delete, lifecycle, revert
from virtsnap.plan.images import frozen_images
from virtsnap.plan.requests import CreateRequest, DeleteRequest, RevertRequest

# The suite plays the same histories each time; with VIRTSNAP_EXAMPLES=N it looks for new ones.
SETTINGS = settings(
    max_examples=int(os.environ.get("VIRTSNAP_EXAMPLES", "60")),
    derandomize="VIRTSNAP_EXAMPLES" not in os.environ,
    stateful_step_count=30,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)


@dataclass
class Moment:
    """What the model knows of a snapshot."""

    contents: dict[str, Content]
    memory: int | None


def name_of(path: str) -> str:
    return path.removeprefix("/img/").removesuffix(".img")


KINDS = (Location.EXTERNAL, Location.INTERNAL)


class History(RuleBasedStateMachine):
    @initialize(disks=st.integers(1, 2), template=st.booleans(), raw=st.booleans(), running=st.booleans())
    def begin(self, disks: int, template: bool, raw: bool, running: bool) -> None:
        host = Host()
        self.users: dict[str, Content] = {}
        """Files that are nobody's but the user's, with what must stay in them."""
        if template:
            host.images["/img/template.img"] = Image({9: "t"}, None, "raw")
            self.users["/img/template.img"] = {9: "t"}
        host.images["/img/cd.iso"] = Image({8: "iso"}, None, "raw")
        self.users["/img/cd.iso"] = {8: "iso"}
        xml = ""
        self.origins = [f"/img/{target}.img" for target in ("vda", "vdb")[:disks]]
        for path in self.origins:
            below = "/img/template.img" if template else None
            format = "raw" if raw and not template else "qcow2"
            host.images[path] = Image({1: path}, below, format)
            xml += disk_xml(name_of(path), path, format)
        xml = domain_xml(xml + cdrom_xml("sda", "/img/cd.iso") + cdrom_xml("sdb", None))
        host.memory_way = MemoryWay.BACKGROUND_SPARSE if template else MemoryWay.STREAM
        self.world = World(host, Book(DomainRecord(UUID, "d", xml)))
        self.targets = [name_of(path) for path in self.origins]
        self.tags: dict[tuple[str, str], Content] = {}
        """Internal snapshots that are the user's, likewise."""
        self.foreign = {"/img/template.img", "/img/cd.iso", *self.origins}
        """Files that no snapshot has made: never deleted."""
        self.moments: dict[str, Moment] = {}
        self.offline = {name_of(path): host.content(path) for path in self.origins}
        self.deleted: list[str] = []
        """Names of snapshots that were."""
        self.count = 0
        self.tidy = True
        """The last change was a delete: nothing may be left to merge."""
        self.given_up = False
        self.copied = False
        """An image went back to an internal snapshot as a copy: the user's own is out of use."""
        if running:
            self.start(False)

    # --- the domain ----------------------------------------------------------------------------------
    @rule(disk=st.integers(0, 1), cluster=st.integers(1, 5))
    def write(self, disk: int, cluster: int) -> None:
        """The guest writes; a shut off one was booted for it."""
        self.count += 1
        target = self.targets[disk % len(self.targets)]
        guest = self.world.guest
        if guest is not None:
            self.world.host.write(guest, target, cluster, str(self.count))
        else:
            self.world.host.images[self.world.active()[target]].clusters[cluster] = str(self.count)
            self.offline[target][cluster] = str(self.count)

    @precondition(lambda self: self.world.guest is None)
    @rule(paused=st.booleans())
    def start(self, paused: bool) -> None:
        self.world.run(
            lifecycle.plan_start(self.world.book.record, id=self.world.next_id, root="/root", paused=paused)
        )
        self.world.next_id += 1

    @precondition(lambda self: self.world.guest is not None)
    @rule()
    def stop(self) -> None:
        guest = self.world.guest
        assert guest is not None
        self.world.run(lifecycle.plan_stop(self.world.book.record, Reason.SHUTOFF_DESTROYED))
        self.offline = copies(guest.truth)

    @precondition(lambda self: self.world.guest is not None)
    @rule()
    def suspend_or_resume(self) -> None:
        guest = self.world.guest
        assert guest is not None
        guest.running = not guest.running
        reason = Reason.RUNNING_UNPAUSED if guest.running else Reason.PAUSED_USER
        record = self.world.book.record
        self.world.book.record = DomainRecord(
            record.uuid, record.name, record.config_xml, True, False, reason, record.live_xml, record.instance
        )

    def contents(self) -> dict[str, Content]:
        guest = self.world.guest
        truth = self.offline if guest is None else guest.truth
        return {target: dict(truth[target]) for target in self.targets}

    # --- snapshots -----------------------------------------------------------------------------------
    @rule(
        kind=st.sampled_from(["disks", "memory", "live"]),
        excluded=st.sampled_from([(), (), (), ("vdb",), ("vda",)]),
        halt=st.booleans(),
        metadata=st.sampled_from([True, True, True, True, False]),
        named=st.sampled_from(["", "by the user", "again"]),
        later=st.integers(0, 1),
    )
    def create(
        self, kind: str, excluded: tuple[str, ...], halt: bool, metadata: bool, named: str, later: int
    ) -> None:
        """`named`: overlays by the user, or by us; 'again': like a snapshot that was deleted."""
        world = self.world
        world.now += later
        self.count += 1
        guest = world.guest
        active = guest is not None
        flags = SnapshotCreate(0)
        memory = Location.UNSET
        name = self.deleted.pop() if named == "again" and self.deleted else f"s{self.count}"
        if kind == "disks" or not active:
            flags |= SnapshotCreate.DISK_ONLY
        else:
            memory = Location.EXTERNAL
        if kind == "live" and active:
            flags |= SnapshotCreate.LIVE
        if halt:
            flags |= SnapshotCreate.HALT
        if not metadata:
            flags |= SnapshotCreate.NO_METADATA
        parsed = Snapshot(
            name,
            memory=memory,
            memory_file=f"/mem/{name}" if memory is Location.EXTERNAL else None,
            disks=tuple(
                SnapshotDisk(t, Location.NO)
                if t in excluded
                else SnapshotDisk(
                    t, Location.EXTERNAL, path=f"/img/{name}.{t}" if named == "by the user" else None
                )
                for t in self.targets
            ),
        )
        before, frozen = self.contents(), world.active()
        taken = frozenset(world.book.snapshots)

        def prepare() -> CreateRequest:
            known = world.host.images.__contains__
            return create.prepare_request(
                parsed, flags, world.book.record, world.now, taken, known, world.book.owned
            )

        stems = {path.rpartition(".")[0] for target, path in frozen.items() if target not in excluded}
        if named != "by the user" and len(stems) < len(set(self.targets) - set(excluded)):
            with pytest.raises(ConfigUnsupported, match="cannot generate external snapshot name"):
                prepare()
            return
        request = prepare()
        facts = world.facts(create.paths_of(request))
        if set(self.targets) <= set(excluded) and memory is not Location.EXTERNAL:
            with pytest.raises(ConfigUnsupported, match=r"at least one disk|nothing selected"):
                create.plan_create(facts, request)
            return
        if name != f"s{self.count}" and self.given_up and any(file.exists for file in facts.files.values()):
            with pytest.raises(ConfigUnsupported, match="already exists"):
                create.plan_create(facts, request)  # it is the user's by now
            return
        plan = create.plan_create(facts, request)
        world.host.switched = {}
        world.run(plan)
        kept = [t for t in self.targets if t not in excluded]
        contents = {t: (world.host.switched or before)[t] for t in kept}
        if guest is not None and world.guest is None:
            assert halt
            self.offline = copies(guest.truth)
        value = None
        if memory is Location.EXTERNAL:
            image = world.host.memories[f"/mem/{name}"]
            assert image.sealed
            value = image.value
            if world.host.switched:
                assert {t: image.disks[t] for t in kept} == contents, "memory and disks of two instants"
        self.tidy = False
        if metadata:
            self.moments[name] = Moment(contents, value)
            assert world.book.current == name
        else:
            self.given_up = True
            self.users |= {frozen[t]: contents[t] for t in kept}
            self.foreign |= set(world.active().values())
            if memory is Location.EXTERNAL:
                del world.host.memories[f"/mem/{name}"]  # the user takes it away

    @rule(
        places=st.tuples(*2 * (st.sampled_from([Location.UNSET, *KINDS, *KINDS, Location.NO]),)),
        memory=st.booleans(),
        halt=st.booleans(),
        later=st.integers(0, 1),
    )
    def create_mixed(self, places: tuple[Location, ...], memory: bool, halt: bool, later: int) -> None:
        """Disks inside their images and on overlays, in any mixture; memory wherever it finds a place."""
        world = self.world
        world.now += later
        self.count += 1
        name, guest = f"s{self.count}", world.guest
        flags = SnapshotCreate.HALT if halt else SnapshotCreate(0)
        if guest is not None and not memory:
            flags |= SnapshotCreate.DISK_ONLY
        disks = (SnapshotDisk(*pair) for pair in zip(self.targets, places, strict=False))
        parsed, taken = Snapshot(name, disks=tuple(disks)), frozenset(world.book.snapshots)
        known = world.host.images.__contains__
        try:
            request = create.prepare_request(parsed, flags, world.book.record, world.now, taken, known)
            plan = create.plan_create(world.facts(create.paths_of(request)), request)
        except Refused:
            return
        before = self.contents()
        world.host.instants.clear()
        world.run(plan)
        assert all(instant == world.host.instants[0] for instant in world.host.instants), "two instants"
        if guest is not None:
            before = copies(world.host.instants[0]) if world.host.instants else before
            if world.guest is None:
                assert halt
                self.offline = copies(guest.truth)
        made = world.book.snapshots[name]
        kept = [disk.name for disk in made.disks if disk.location in KINDS]
        value = self.memory_of(made)
        if made.memory_file is not None and world.host.instants:
            image = world.host.memories[made.memory_file]
            assert {t: image.disks[t] for t in kept} == {t: before[t] for t in kept}
        self.moments[name] = Moment({t: before[t] for t in kept if t in before}, value)
        self.tidy = False

    def memory_of(self, snapshot: Snapshot) -> int | None:
        if snapshot.memory_file is not None:
            return self.world.host.memories[snapshot.memory_file].value
        if snapshot.memory is not Location.INTERNAL:
            return None
        images = frozen_images(snapshot, Location.INTERNAL).values()
        found = [self.world.host.images[path].tags[snapshot.name].memory for path in images]
        (value,) = [memory for memory in found if memory is not None]
        return value

    @precondition(lambda self: self.world.guest is None)
    @rule(disk=st.integers(0, 1))
    def users_own_tag(self, disk: int) -> None:
        """qemu-img snapshot -c, behind our back."""
        path = self.world.active()[self.targets[disk % len(self.targets)]]
        if self.world.host.images[path].format != "qcow2":
            return
        self.count += 1
        name = f"user{self.count}"
        image = self.world.host.images[path]
        image.tags[name] = Tag(dict(image.clusters))
        self.tags[path, name] = self.world.host.tag_content(path, name)
        self.given_up = True

    def frozen(self, snapshot: Snapshot) -> dict[str, Content]:
        host = self.world.host
        inside = frozen_images(snapshot, Location.INTERNAL)
        return {
            target: host.tag_content(path, snapshot.name) if target in inside else host.content(path)
            for target, path in frozen_images(snapshot).items()
        }

    def pick(self, index: int) -> str:
        return sorted(self.moments)[index % len(self.moments)]

    @precondition(lambda self: self.moments)
    @rule(
        index=st.integers(0, 30),
        flags=st.sampled_from([0, 0, SnapshotRevert.RUNNING, SnapshotRevert.PAUSED]),
        later=st.integers(0, 1),
    )
    def revert(self, index: int, flags: int, later: int) -> None:
        world = self.world
        world.now += later
        name = self.pick(index)
        moment = self.moments[name]
        old, before = world.guest, self.contents()
        request = RevertRequest(name, SnapshotRevert(flags))
        facts = world.facts(revert.paths_of(world.facts(), request))
        plan = revert.plan_revert(facts, request)
        self.copied |= any(isinstance(step, CopyImage) for step in plan.steps)
        world.next_id += 1
        world.run(plan)
        guest = world.guest
        starts = moment.memory is not None or bool(flags)
        assert (guest is not None) == starts
        if guest is not None:
            assert world.book.record.instance is not None
            found = world.host.opened[world.book.record.instance.run_dir]
            if moment.memory is not None:
                assert guest.memory >= moment.memory
            else:
                assert guest.memory < 50, "a boot begins to count again"
        else:
            found = {t: world.host.content(p) for t, p in world.active().items()}
            self.offline = {t: dict(c) for t, c in found.items()}
        for target in self.targets:
            if target in moment.contents:
                assert found[target] == moment.contents[target]
            else:
                assert found[target] == (before if old is None else old.truth)[target]
        assert world.book.current == name
        self.tidy = False

    @precondition(lambda self: self.moments)
    @rule(
        index=st.integers(0, 30),
        flags=st.sampled_from([0, 0, 0, SnapshotDelete.CHILDREN, SnapshotDelete.CHILDREN_ONLY]),
    )
    def delete(self, index: int, flags: int) -> None:
        world = self.world
        name = self.pick(index)
        world.run(delete.plan_delete(world.facts(), DeleteRequest(name, SnapshotDelete(flags))))
        self.deleted += sorted(set(self.moments) - set(world.book.snapshots))
        self.moments = {n: m for n, m in self.moments.items() if n in world.book.snapshots}
        self.tidy = True

    @precondition(lambda self: self.moments)
    @rule(index=st.integers(0, 30), children=st.booleans())
    def forget(self, index: int, children: bool) -> None:
        """--metadata: the files become the user's."""
        world = self.world
        name = self.pick(index)
        flags = SnapshotDelete.METADATA_ONLY | (SnapshotDelete.CHILDREN if children else 0)
        known = dict(world.book.snapshots)
        world.run(delete.plan_delete(world.facts(), DeleteRequest(name, SnapshotDelete(flags))))
        for gone in set(known) - set(world.book.snapshots):
            inside = frozen_images(known[gone], Location.INTERNAL)
            for target, path in frozen_images(known[gone]).items():
                if target in inside:
                    self.tags[path, gone] = self.moments[gone].contents[target]
                else:
                    self.users[path] = self.moments[gone].contents[target]
            if known[gone].memory_file is not None:
                del world.host.memories[known[gone].memory_file or ""]
            del self.moments[gone]
        self.foreign |= set(world.host.images) - set(world.book.owned)
        self.given_up = True

    @precondition(lambda self: self.moments)
    @rule(index=st.integers(0, 30))
    def delete_all(self, index: int) -> None:
        while self.moments:
            self.delete(index, 0)
            self.laws()

    # --- the laws ------------------------------------------------------------------------------------
    @invariant()
    def laws(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.check()
        assert set(world.book.snapshots) == set(self.moments)
        active = world.active()
        for target, content in self.contents().items():
            assert world.host.content(active[target]) == content, f"the domain's {target} changed"
        for name, moment in self.moments.items():
            assert self.frozen(world.book.snapshots[name]) == moment.contents, f"{name} changed"
            assert self.memory_of(world.book.snapshots[name]) == moment.memory
        for path, content in self.users.items():
            assert world.host.content(path) == content, f"the user's {path} changed"
        for (path, tag), content in self.tags.items():
            assert world.host.tag_content(path, tag) == content, f"the user's {tag} in {path} changed"
        self.nothing_is_left_over()

    def nothing_is_left_over(self) -> None:
        world = self.world
        named = {*world.active().values(), "/img/cd.iso"}
        for snapshot in world.book.snapshots.values():
            named |= set(frozen_images(snapshot).values())
        loose = set(world.host.images) - named - self.foreign
        for path in {*self.users, *(path for path, _ in self.tags)}:
            loose -= set(world.host.chain(path))
        for path in loose:
            above = world.host.children(path)
            assert above, f"nothing names {path}"
            pinned = self.given_up or any(world.host.images[x].tags for x in above)
            assert len(above) >= 2 or not self.tidy or pinned, f"{path} could be merged"
        assert set(world.host.memories) == {
            s.memory_file for s in world.book.snapshots.values() if s.memory_file is not None
        }
        for path, role in world.book.owned.items():
            if role is not ImageRole.MEMORY:
                assert path in world.host.images, f"{path} is owned and gone"
        if not self.moments and self.tidy and not self.given_up and not self.copied:
            assert set(world.active().values()) == set(self.origins)
            assert set(world.host.images) <= {*self.origins, "/img/template.img", "/img/cd.iso"}
            assert not world.book.owned

    @invariant()
    def states(self) -> None:
        if hasattr(self, "world") and self.world.guest is not None:
            assert self.world.book.record.state in (DomainState.RUNNING, DomainState.PAUSED)


TestHistory = History.TestCase
TestHistory.settings = SETTINGS
