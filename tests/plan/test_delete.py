"""Forgetting snapshots at every place of a tree: images merged, kept, renamed, removed; and refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.plan.scene import Change, Scene, lines, same, sources, write_of
from tests.plan.simulation import Tag, disk_xml, domain_xml
from virtsnap.model.errors import NoSnapshot, OperationUnsupported, SystemRefused
from virtsnap.model.facts import DomainFacts, ImageRole
from virtsnap.model.flags import SnapshotCreate
from virtsnap.model.flags import SnapshotDelete as Flag
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk
from virtsnap.model.steps import Declare, MergeImages, Plan, RemoveFile, StoreWrite
from virtsnap.plan.images import SPARE

CHILDREN, ONLY, METADATA = Flag.CHILDREN, Flag.CHILDREN_ONLY, Flag.METADATA_ONLY
MIB = 1 << 20


def chain(*sizes: int, memory: bool = False, disks: tuple[str, ...] = ("vda",)) -> Scene:
    """s1 - s2 - s3, current; the layers from the origin up have these sizes."""
    s = Scene(disks, running=memory)
    for name in ("s1", "s2", "s3"):
        s.create(name, memory=memory)
    for path, size in zip(("img", "s1", "s2", "s3"), sizes, strict=False):
        s.fill(f"/i/vda.{path}", size)
    return s


def branched() -> Scene:
    """s1 has s2 - s3 on it and, after a revert, the domain itself on /i/vda.104."""
    s = chain(1, 1, 1, 1)
    s.revert("s1")
    return s


def merge(top: str, base: str, mib: str) -> str:
    return f"vda: merge /i/vda.{top} into /i/vda.{base} (up to {mib} MiB)"


DOWN = "commit: declare the operation decided"

PLANS: dict[str, tuple[Scene, str, Flag, list[str]]] = {
    "root: down into the user's image, whatever is smaller": (
        chain(1, 9, 1, 1),
        "s1",
        Flag(0),
        [
            *(DOWN, "finish: " + merge("s1", "img", "0.6"), "finish: point /i/vda.s2 at /i/vda.img"),
            "finish: write it down: snapshot s2, no snapshot s1, current s3",
            "finish: delete /i/vda.s1",
        ],
    ),
    "inner, the lower layer is larger: down": (
        chain(1, 2, 1, 1),
        "s2",
        Flag(0),
        [
            *(DOWN, "finish: " + merge("s2", "s1", "0.1"), "finish: point /i/vda.s3 at /i/vda.s1"),
            "finish: write it down: snapshot s3, no snapshot s2, current s3",
            "finish: delete /i/vda.s2",
        ],
    ),
    "inner, the upper layer is larger: up": (
        chain(1, 1, 2, 1),
        "s2",
        Flag(0),
        [
            "prepare: " + merge("s1", "s2", "0.1"),
            "commit: write it down: snapshot s1, snapshot s3, no snapshot s2, current s3",
            "finish: delete /i/vda.s1",
        ],
    ),
    "current leaf: down": (
        chain(1, 1, 2, 1),
        "s3",
        Flag(0),
        [
            *(DOWN, "finish: " + merge("s3", "s2", "0.1")),
            "finish: write it down: no snapshot s3, current s2",
            "finish: delete /i/vda.s3",
        ],
    ),
    "current leaf: up": (
        chain(1, 1, 1, 2),
        "s3",
        Flag(0),
        [
            "prepare: " + merge("s2", "s3", "0.1"),
            "commit: write it down: snapshot s2, no snapshot s3, current s2",
            "finish: delete /i/vda.s2",
        ],
    ),
    "leaf of another branch: its image goes": (
        branched(),
        "s3",
        Flag(0),
        ["commit: write it down: no snapshot s3, current s1", "finish: delete /i/vda.s2"],
    ),
    "inner of another branch": (
        branched(),
        "s2",
        Flag(0),
        [
            *(DOWN, "finish: " + merge("s2", "s1", "0.1")),
            "finish: write it down: snapshot s3, no snapshot s2, current s1",
            "finish: delete /i/vda.s2",
        ],
    ),
    "a base of two branches stays, at no cost": (
        branched(),
        "s1",
        Flag(0),
        ["commit: write it down: snapshot s2, no snapshot s1, current none"],
    ),
    "with children": (
        chain(1, 1, 1, 1, memory=True),
        "s1",
        CHILDREN,
        [
            *(DOWN, "finish: " + merge("s3", "img", "0.2")),
            "finish: write it down: no snapshot s1, no snapshot s2, no snapshot s3, current none",
            *(f"finish: delete /i/vda.s{n}" for n in (3, 2, 1)),
            *(f"finish: delete /m/s{n}" for n in (1, 2, 3)),
        ],
    ),
    "children only": (
        chain(1, 3, 1, 1, memory=True),
        "s1",
        ONLY,
        [
            *(DOWN, "finish: " + merge("s3", "s1", "0.1")),
            "finish: write it down: no snapshot s2, no snapshot s3, current s1",
            *("finish: delete /i/vda.s3", "finish: delete /i/vda.s2"),
            *("finish: delete /m/s2", "finish: delete /m/s3"),
        ],
    ),
    "children only of a leaf": (chain(), "s3", ONLY, ["commit: write it down: current s3"]),
    "metadata": (
        chain(1, 1, 1, 1, memory=True),
        "s2",
        METADATA,
        ["commit: write it down: snapshot s3, no snapshot s2, current s3"],
    ),
    "metadata with children": (
        chain(1, 1, 1, 1),
        "s2",
        METADATA | CHILDREN,
        ["commit: write it down: no snapshot s2, no snapshot s3, current s1"],
    ),
}


@pytest.mark.parametrize("case", PLANS)
def test_steps(case: str) -> None:
    s, name, flags, expected = PLANS[case]
    assert lines(s.plan_delete(name, flags)) == expected


def removed(plan: Plan) -> set[str]:
    return {step.path for step in plan.steps if isinstance(step, RemoveFile)}


def merges(plan: Plan) -> list[MergeImages]:
    return [step for step in plan.steps if isinstance(step, MergeImages)]


# --- names that move --------------------------------------------------------------------------------------


def test_after_a_merge_down_everybody_calls_the_content_by_its_new_name() -> None:
    plan = chain(1, 2, 1, 1).plan_delete("s2")
    written = write_of(plan)
    (s3,) = written.put_snapshots
    assert (s3.name, s3.parent) == ("s3", "s1")
    assert sources(s3.domain_xml) == {"vda": "/i/vda.s1"}
    assert s3.disks[0].path == "/i/vda.s3"
    assert written.delete_images == ("/i/vda.s2",)


def test_after_a_merge_down_of_the_active_layer_the_domain_writes_to_the_base() -> None:
    plan = chain(1, 1, 2, 1, memory=True).plan_delete("s3")
    record = write_of(plan).record
    assert record is not None
    assert sources(record.config_xml) == {"vda": "/i/vda.s2"}
    assert sources(record.live_xml) == {"vda": "/i/vda.s2"}


def test_after_a_merge_of_several_layers_the_live_chain_is_short() -> None:
    plan = chain(1, 1, 1, 1, memory=True).plan_delete("s1", CHILDREN)
    record = write_of(plan).record
    assert record is not None
    assert record.live_xml is not None
    assert sources(record.live_xml) == {"vda": "/i/vda.img"}
    assert "/i/vda.s" not in record.live_xml


def test_a_definition_for_the_next_start_is_renamed_too() -> None:
    s = Scene(running=True)
    s.create("s1")
    s.create("s2", memory=True)
    s.fill("/i/vda.img", 5)
    (s2,) = write_of(s.plan_delete("s1")).put_snapshots
    assert sources(s2.inactive_domain_xml) == {"vda": "/i/vda.img"}


def test_the_layer_that_took_another_one_in_stands_for_it() -> None:
    (s1, s3) = write_of(chain(1, 1, 2, 1).plan_delete("s2")).put_snapshots
    assert (s1.name, s1.disks[0].path, s1.disks[0].format) == ("s1", "/i/vda.s2", "qcow2")
    assert (s3.name, sources(s3.domain_xml)) == ("s3", {"vda": "/i/vda.s2"})


def test_the_format_moves_with_the_name() -> None:
    s = chain(1, 1, 1, 1)
    xml = domain_xml(disk_xml("vda", "/i/vda.img", "raw"))
    s.host.images["/i/vda.img"].format = "raw"
    s.book.snapshots["s1"] = replace(s.book.snapshots["s1"], domain_xml=xml)
    (s2,) = write_of(s.plan_delete("s1")).put_snapshots
    assert "<driver name='qemu' type='raw'/>" in (s2.domain_xml or "")


def volumes(*paths: str) -> object:
    def change(facts: DomainFacts) -> DomainFacts:
        images = {p: replace(i, block_device=p in paths) for p, i in facts.images.items()}
        return replace(facts, images=images)

    return change


def test_what_is_merged_into_a_volume_is_a_block_disk() -> None:
    s = chain(9, 1, 1, 1)
    plan = s.plan_delete("s1", CHILDREN, change=volumes("/i/vda.img"))  # type: ignore[arg-type]
    record = write_of(plan).record
    assert record is not None
    assert "<disk type='block'" in record.config_xml
    assert "<source dev='/i/vda.img'/>" in record.config_xml


def test_a_volume_is_emptied_and_not_deleted() -> None:
    plan = chain(9, 1, 1, 1).plan_delete("s1", change=volumes("/i/vda.s1"))  # type: ignore[arg-type]
    assert removed(plan) == set()
    assert write_of(plan).delete_images == ("/i/vda.s1",)


# --- the tree ---------------------------------------------------------------------------------------------


def test_children_hang_under_the_next_ancestor_that_is_left() -> None:
    s = branched()
    s.create("s4")
    plan = s.plan_delete("s1")
    assert {x.name: x.parent for x in write_of(plan).put_snapshots} == {"s2": None, "s4": None}
    assert write_of(plan).current == "s4"


def test_current_goes_to_the_nearest_ancestor_that_is_left() -> None:
    assert write_of(chain().plan_delete("s2", CHILDREN)).current == "s1"
    assert write_of(chain().plan_delete("s1", ONLY)).current == "s1"
    assert write_of(chain().plan_delete("s1", CHILDREN)).current is None


def test_the_branch_of_a_current_snapshot_that_goes_is_its_parents() -> None:
    s = branched()
    inherited = SnapshotDisk("vda", Location.EXTERNAL, path="/i/vda.104", format="qcow2")
    s.create("s4")
    old = s.book.snapshots["s1"]
    s.book.snapshots["s1"] = replace(
        old, disks=(*old.disks, SnapshotDisk("vdb", Location.NO)), revert_disks=(inherited,)
    )
    s.fill("/i/vda.104", 9)
    (s1,) = [x for x in write_of(s.plan_delete("s4")).put_snapshots if x.name == "s1"]
    assert s1.disks == (inherited, SnapshotDisk("vdb", Location.NO))
    assert s1.revert_disks == ()


# --- merging ----------------------------------------------------------------------------------------------


def test_two_disks_each_their_own_way() -> None:
    s = chain(1, 1, 2, 1, disks=("vda", "vdb"))
    for path, size in (("s1", 5), ("s2", 1)):
        s.fill(f"/i/vdb.{path}", size)
    plan = s.plan_delete("s2")
    assert plan.commit == Declare()
    assert [(m.target, m.top, m.base, m.down) for m in merges(plan)] == [
        ("vda", "/i/vda.s2", "/i/vda.s1", False),
        ("vdb", "/i/vdb.s2", "/i/vdb.s1", True),
    ]
    assert len({m.job for m in merges(plan)}) == 2
    assert plan.prepare == ()
    s.world.run(plan)
    s.world.check()


def test_what_a_revert_left_unmerged_goes_with_the_next_delete() -> None:
    s = chain(1, 2, 1, 1)
    s.revert("s1")
    s.delete("s2")
    s.host.images["/i/vda.s1"].clusters = {20: "a"}
    s.world.now += 10
    s.revert("s3")  # leaves /i/vda.104 behind; /i/vda.img now has one image on it
    plan = s.plan_delete("s1")
    s.world.run(plan)
    assert set(s.host.images) == {"/i/cd.iso", "/i/vda.img", "/i/vda.115"}


def test_a_layer_without_a_name_is_taken_in_only_when_it_is_decided() -> None:
    """A merge upwards that is given up leaves the layer to the snapshot that names it, if there is one."""
    s = chain(1, 1, 1, 1)
    s.revert("s2")
    s.delete("s2")
    s.revert("s3")
    assert s.host.children("/i/vda.s1") == ["/i/vda.s2"]  # nobody names it
    s.fill("/i/vda.105", 5)
    plan = s.plan_delete("s3")
    assert [(m.top, m.base, m.down) for m in merges(plan)] == [("/i/vda.105", "/i/vda.s1", False)]
    assert (plan.prepare, plan.commit) == ((), Declare())
    s.world.run(plan)
    s.world.check()


def test_merges_go_from_the_bottom_up() -> None:
    """Else a merge repeated after a crash may look for an image that a later one removed."""
    s = Scene()
    for name in ("z", "y", "x", "w", "v"):
        s.create(name)
    for path in ("img", "z", "y", "x", "w", "v"):
        s.fill(f"/i/vda.{path}", 3)
    for name in ("z", "x"):  # two runs that are loose at once, as reverts may leave them
        del s.book.snapshots[name]
    s.book.current = "v"
    plan = s.plan_delete("v")
    bases = [m.base for m in merges(plan)]
    assert bases == ["/i/vda.img", "/i/vda.y", "/i/vda.w"]


def test_an_origin_in_the_middle_is_never_removed() -> None:
    """The user may have given up what is below, and gone on from there."""
    s = chain(1, 1, 1, 1)
    s.book.owned["/i/vda.s1"] = ImageRole.ORIGIN
    s.book.owned["/i/vda.img"] = ImageRole.OVERLAY
    plan = s.plan_delete("s1", CHILDREN)
    assert "/i/vda.s1" not in removed(plan)
    s.world.run(plan)
    assert set(s.host.images) == {"/i/cd.iso", "/i/vda.s1"}


def test_what_another_domain_stands_on_is_not_merged() -> None:
    def linked(facts: DomainFacts) -> DomainFacts:
        return replace(facts, named_elsewhere=frozenset({"/i/vda.img", "/i/vda.s1"}))

    plan = chain(1, 1, 1, 1).plan_delete("s2", change=linked)
    assert lines(plan) == ["commit: write it down: snapshot s3, no snapshot s2, current s3"]


def test_a_domain_without_any_image_left_to_see() -> None:
    """Broken chains do not keep a snapshot from being forgotten."""

    def lost(facts: DomainFacts) -> DomainFacts:
        return replace(facts, images={p: replace(i, missing=True) for p, i in facts.images.items()})

    plan = chain().plan_delete("s2", change=lost)
    assert lines(plan) == ["commit: write it down: snapshot s3, no snapshot s2, current s3"]


def without(path: str) -> Change:
    """A layer is gone, or its storage is not there now."""

    def lost(facts: DomainFacts) -> DomainFacts:
        return replace(facts, images=facts.images | {path: replace(facts.images[path], missing=True)})

    return lost


def test_a_merge_that_a_missing_layer_would_stop_is_not_begun() -> None:
    with pytest.raises(SystemRefused) as caught:
        chain(1, 1, 1, 1).plan_delete("s3", change=without("/i/vda.s1"))
    assert str(caught.value) == (
        "Cannot access backing file '/i/vda.s1' of storage file '/i/vda.s3': No such file or directory"
    )
    assert write_of(chain().plan_delete("s3", METADATA, change=without("/i/vda.s1"))).current == "s2"


# --- memory -----------------------------------------------------------------------------------------------


def test_a_memory_file_that_another_snapshot_names_stays() -> None:
    s = chain(1, 1, 1, 1, memory=True)
    s.book.snapshots["s1"] = replace(s.book.snapshots["s1"], memory_file="/m/s2")
    plan = s.plan_delete("s2")
    assert "/m/s2" not in removed(plan)
    assert "/m/s2" not in write_of(plan).delete_images


def test_a_memory_file_of_another_domain_stays() -> None:
    plan = chain(1, 1, 1, 1, memory=True).plan_delete(
        "s2", change=lambda facts: replace(facts, named_elsewhere=frozenset({"/m/s2"}))
    )
    assert "/m/s2" not in removed(plan)


# --- metadata ---------------------------------------------------------------------------------------------


def test_metadata_gives_up_the_image_with_all_it_stands_on() -> None:
    s = chain(1, 1, 1, 1, memory=True)
    written = write_of(s.plan_delete("s2", METADATA))
    assert written.delete_images == ("/i/vda.img", "/i/vda.s1", "/m/s2")
    assert written.record is None


def test_nothing_is_merged_into_what_a_given_up_file_stands_on() -> None:
    s = branched()
    before = s.host.content("/i/vda.s2")
    s.delete("s3", METADATA)
    s.delete("s2")
    s.delete("s1")
    assert s.host.content("/i/vda.s2") == before


def test_metadata_of_the_last_one_gives_everything_up() -> None:
    s = chain(1, 1, 1, 1, memory=True)
    assert set(write_of(s.plan_delete("s1", METADATA | CHILDREN)).delete_images) == set(s.book.owned)


def test_metadata_keeps_what_another_snapshot_holds() -> None:
    s = chain(1, 1, 1, 1)
    s.book.snapshots["s0"] = replace(s.book.snapshots["s2"], name="s0", parent=None)
    assert write_of(s.plan_delete("s2", METADATA)).delete_images == ()


# --- refusals ---------------------------------------------------------------------------------------------


def test_unknown_snapshot() -> None:
    with pytest.raises(NoSnapshot) as caught:
        Scene().plan_delete("nope")
    assert str(caught.value) == "Domain snapshot not found: no domain snapshot with matching name 'nope'"


def test_a_job_runs() -> None:
    def busy(facts: DomainFacts) -> DomainFacts:
        return replace(facts, jobs=("vdb: backup",))

    s = chain(memory=True)
    with pytest.raises(OperationUnsupported) as caught:
        s.plan_delete("s2", change=busy)
    assert str(caught.value) == (
        "Operation not supported: cannot delete external snapshots when there is another active block job"
    )
    assert s.plan_delete("s2", METADATA, change=busy)


def test_a_job_does_not_keep_a_bare_record() -> None:
    s = chain()
    s.book.snapshots["bare"] = Snapshot("bare", 9)
    plan = s.plan_delete("bare", change=lambda facts: replace(facts, jobs=("vda: backup",)))
    assert write_of(plan).delete_snapshots == ("bare",)


@pytest.mark.parametrize(("missing", "refused"), [(1, True), (0, False)])
@pytest.mark.parametrize(("sizes", "copied"), [((1, 400, 160, 1), 160), ((1, 320, 400, 1), 320)])
def test_space_for_the_merge(sizes: tuple[int, ...], copied: int, missing: int, refused: bool) -> None:
    free = (copied << 16) + SPARE - missing
    s = chain(*sizes)

    def plan() -> Plan:
        return s.plan_delete("s2", change=lambda facts: replace(facts, free={"/i": free}))

    if not refused:
        assert [m.bytes for m in merges(plan())] == [copied << 16]
        return
    with pytest.raises(SystemRefused) as caught:
        plan()
    assert str(caught.value) == (
        f"cannot merge images in '/i': {copied // 16} MiB may be needed and "
        f"{copied // 16 + 16} MiB are free: No space left on device"
    )


def test_the_name_of_a_snapshot_that_is_gone_is_free_though_a_file_has_it() -> None:
    s = chain(1, 3, 1, 1, disks=("vda", "vdb"))
    s.fill("/i/vdb.s1", 1)
    s.fill("/i/vdb.s2", 3)
    s.delete("s2")  # vdb upwards: its file is called s2 and holds what s3 stands for
    s.create("s2")
    assert [disk.path for disk in s.book.snapshots["s2"].disks] == ["/i/vda.s2", "/i/vdb.s2-2"]
    s.create("s4")
    s.delete("s2")
    s.create("s2")
    s.world.check()


@pytest.mark.parametrize(
    ("sizes", "room", "down"),
    [
        ((1, 400, 160, 1), {"/i": 0, "/big": 1 << 40}, False),
        ((1, 160, 400, 1), {"/i": 1 << 40, "/big": 0}, True),
        ((1, 400, 160, 1), {"/i": 1 << 40, "/big": 1 << 40}, True),
    ],
)
def test_a_merge_goes_where_there_is_room(sizes: tuple[int, ...], room: dict[str, int], down: bool) -> None:
    s = Scene()
    s.create("s1")
    s.create("s2", SnapshotDisk("vda", Location.EXTERNAL, path="/big/vda.s2"))
    s.create("s3")
    for path, size in zip(("/i/vda.img", "/i/vda.s1", "/big/vda.s2"), sizes, strict=False):
        s.fill(path, size)
    (merge,) = merges(s.plan_delete("s2", change=lambda facts: replace(facts, free=room)))
    assert merge.down is down


def test_a_merge_goes_around_a_volume_that_is_too_small() -> None:
    def volume(facts: DomainFacts) -> DomainFacts:
        images = dict(facts.images)
        images["/i/vda.s1"] = replace(images["/i/vda.s1"], block_device=True, virtual_size=1 << 20)
        return replace(facts, images=images)

    (merge,) = merges(chain(1, 9, 1, 1).plan_delete("s2", change=volume))
    assert not merge.down


def test_overwriting_and_volumes_need_no_room() -> None:
    full = (1 << 30) >> 16
    s = chain(full, 200, 1, 1)
    assert merges(s.plan_delete("s1", change=lambda facts: replace(facts, free={"/i": SPARE})))

    def volume(facts: DomainFacts) -> DomainFacts:
        images = facts.images | {"/i/vda.img": replace(facts.images["/i/vda.img"], block_device=True)}
        return replace(facts, images=images, free={"/i": 0})

    assert merges(chain(1, 200, 1, 1).plan_delete("s1", change=volume))


def test_a_volume_does_not_grow() -> None:
    def grown(facts: DomainFacts) -> DomainFacts:
        images = dict(facts.images)
        images["/i/vda.img"] = replace(images["/i/vda.img"], block_device=True, virtual_size=1 << 30)
        images["/i/vda.s1"] = replace(images["/i/vda.s1"], virtual_size=2 << 30)
        return replace(facts, images=images)

    with pytest.raises(SystemRefused) as caught:
        chain(1, 1, 1, 1).plan_delete("s1", change=grown)
    assert str(caught.value) == (
        "cannot merge '/i/vda.s1' into block device '/i/vda.img', which is smaller: No space left on device"
    )


# --- all of it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["123", "132", "213", "231", "312", "321"])
@pytest.mark.parametrize("memory", [False, True])
def test_after_the_last_one_only_the_users_image_is_left(order: str, memory: bool) -> None:
    s = chain(1, 2, 1, 3, memory=memory)
    before = s.host.content("/i/vda.s3")
    if memory:
        s.pause()
    for number in order:
        s.delete(f"s{number}")
    assert set(s.host.images) == {"/i/cd.iso", "/i/vda.img"}
    assert {k: v for k, v in s.host.content("/i/vda.img").items() if k} == {
        k: v for k, v in before.items() if k
    }
    assert s.host.memories == {}
    assert (s.book.owned, s.book.snapshots, s.book.current) == ({}, {}, None)


def test_a_plan_writes_once() -> None:
    for scene, name, flags, _ in PLANS.values():
        steps = scene.plan_delete(name, flags, same).steps
        assert len([step for step in steps if isinstance(step, StoreWrite)]) == 1


def test_template_below_the_origin() -> None:
    s = chain(1, 1, 1, 1)
    s.host.images["/t"] = replace(s.host.images["/i/vda.img"], clusters={30: "t"})
    s.host.images["/i/vda.img"].backing = "/t"
    for name in ("s2", "s1", "s3"):
        s.delete(name)
    assert set(s.host.images) == {"/i/cd.iso", "/i/vda.img", "/t"}
    assert s.host.images["/t"].clusters == {30: "t"}


# --- internal snapshots that the user made ----------------------------------------------------------------


def test_the_users_image_takes_merges_whatever_internal_snapshots_it_holds() -> None:
    s = chain(9, 1, 1, 1)
    s.host.images["/i/vda.img"].tags["mine"] = Tag({40: "then"})
    for name in ("s2", "s1", "s3"):
        s.delete(name)
    assert set(s.host.images) == {"/i/cd.iso", "/i/vda.img"}
    assert s.host.tag_content("/i/vda.img", "mine") == {40: "then"}


def test_an_overlay_with_the_users_internal_snapshot_is_kept_and_what_it_stands_on_too() -> None:
    s = branched()
    s.host.images["/i/vda.s2"].tags["mine"] = Tag({40: "then"})
    before = s.host.tag_content("/i/vda.s2", "mine")
    for name in ("s3", "s2", "s1"):
        s.delete(name)
    assert s.host.tag_content("/i/vda.s2", "mine") == before
    assert "/i/vda.s2" not in s.book.owned
    assert "/i/vda.img" not in s.book.owned


@pytest.mark.parametrize("running", [False, True])
def test_what_lies_below_an_internal_snapshot_becomes_one_image(running: bool) -> None:
    s = chain(1, 1, 1, 1)
    s.create("inside", SnapshotDisk("vda", Location.INTERNAL), flags=SnapshotCreate(0))
    held = s.host.tag_content("/i/vda.s3", "inside")
    if running:
        s.start()
    s.delete("s3")
    s.delete("s2")
    assert {"/i/vda.s1", "/i/vda.s3"} == set(s.host.images) - {"/i/cd.iso", "/i/vda.img"}
    assert s.host.tag_content("/i/vda.s3", "inside") == held
    s.world.check()


def test_a_chain_noted_in_part_still_leads_to_the_right_image() -> None:
    s = Scene()
    s.create("s1")
    s.create("s2")
    s.start()
    s.create("s3")
    for name in ("s1", "s2", "s3"):
        s.delete(name)
        s.world.check()
