"""Going back: the steps for every kind of snapshot and state, what of the present goes when, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.plan.scene import Scene, lines, same, sources, write_of
from tests.plan.simulation import cdrom_xml, disk_xml, domain_xml
from virtsnap.model.domain import Reason
from virtsnap.model.errors import (
    ConfigUnsupported,
    Damaged,
    InternalRefused,
    NoSnapshot,
    OperationInvalid,
    OperationUnsupported,
    RevertRisky,
    SystemRefused,
    VirtsnapError,
)
from virtsnap.model.facts import DomainFacts, FileFacts, ImageFacts, ImageRole
from virtsnap.model.flags import SnapshotRevert as Flag
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk, SnapshotState, SnapshotTree
from virtsnap.model.steps import Announce, CreateOverlay, KillQemu, RemoveFile, StartQemu
from virtsnap.plan.describe import sentence
from virtsnap.plan.requests import RevertRequest
from virtsnap.plan.revert import paths_of

RUNNING, PAUSED = Flag.RUNNING, Flag.PAUSED


def scene(kind: str, before: str, **more: object) -> Scene:
    """Snapshot s1 of that kind with a child s2, the domain in that state, on s2's overlay."""
    result = Scene(running=kind != "shutoff", **more)  # type: ignore[arg-type]
    if kind == "paused":
        result.pause()
    result.create("s1", memory=kind in ("running", "paused"))
    result.create("s2")
    if kind == "shutoff":
        result.start()
    if before == "off":
        result.stop()
    elif before == "paused":
        result.pause()
    result.world.now = 200
    return result


MAKE = "prepare: make overlay /i/vda.200 on /i/vda.img"
START, AWAIT = "prepare: start a new QEMU", "prepare: start a new QEMU that waits for memory"
LOAD = "prepare: load memory from /m/s1"
WRITE = "commit: write it down: snapshot s1, current s1"
END, RESUME = "finish: end the old QEMU", "finish: resume the guest"
SETTLE = "finish: reopen the disks of the paused guest"
GONE = "finish: delete /i/vda.s2"


@pytest.mark.parametrize("before", ["off", "running", "paused"])
@pytest.mark.parametrize(
    ("kind", "flags", "steps", "reason"),
    [
        ("shutoff", 0, [MAKE, WRITE], Reason.SHUTOFF_FROM_SNAPSHOT),
        ("shutoff", RUNNING, [MAKE, START, WRITE, RESUME], Reason.RUNNING_BOOTED),
        ("shutoff", PAUSED, [MAKE, START, WRITE], Reason.PAUSED_USER),
        ("disks", 0, [MAKE, WRITE], Reason.SHUTOFF_FROM_SNAPSHOT),
        ("disks", RUNNING, [MAKE, START, WRITE, RESUME], Reason.RUNNING_BOOTED),
        ("disks", PAUSED, [MAKE, START, WRITE], Reason.PAUSED_USER),
        ("running", 0, [MAKE, AWAIT, LOAD, WRITE, RESUME], Reason.RUNNING_FROM_SNAPSHOT),
        ("running", RUNNING, [MAKE, AWAIT, LOAD, WRITE, RESUME], Reason.RUNNING_FROM_SNAPSHOT),
        ("running", PAUSED, [MAKE, AWAIT, LOAD, WRITE], Reason.PAUSED_FROM_SNAPSHOT),
        ("paused", 0, [MAKE, AWAIT, LOAD, WRITE], Reason.PAUSED_FROM_SNAPSHOT),
        ("paused", RUNNING, [MAKE, AWAIT, LOAD, WRITE, RESUME], Reason.RUNNING_FROM_SNAPSHOT),
        ("paused", PAUSED, [MAKE, AWAIT, LOAD, WRITE], Reason.PAUSED_FROM_SNAPSHOT),
    ],
)
def test_kinds_states_and_flags(kind: str, flags: int, before: str, steps: list[str], reason: Reason) -> None:
    s = scene(kind, before)
    plan = s.plan_revert("s1", flags)
    at = steps.index(WRITE) + 1
    if LOAD in steps and RESUME not in steps:
        steps = [*steps, SETTLE]
    expected = [*steps[:at], *([END] if before != "off" else []), *steps[at:], GONE]
    assert lines(plan) == expected
    if before == "off" and reason is Reason.SHUTOFF_FROM_SNAPSHOT:
        # Nothing is stopped: what stopped it before stays the reason.
        reason = Reason.SHUTOFF_DESTROYED
    assert plan.result_reason is reason
    written = write_of(plan)
    assert written.record is not None
    assert written.record.reason is reason
    starts = any(isinstance(step, StartQemu) for step in plan.prepare)
    assert written.started == (f"/root/run/{s.world.next_id}" if starts else None)
    assert written.record.instance is None, "the instance comes from the start"
    assert sources(written.record.config_xml) == {"vda": "/i/vda.200"}
    assert (written.record.live_xml is not None) == starts
    assert (written.current, written.set_current) == ("s1", True)
    assert written.put_images == (("/i/vda.200", ImageRole.OVERLAY),)
    assert written.delete_images == ("/i/vda.s2",)
    assert plan.give_up == ()
    s.world.run(plan)
    s.world.check()


def test_force_and_reset_nvram_change_nothing_without_uefi() -> None:
    s = scene("running", "running")
    assert s.plan_revert("s1", Flag.FORCE | Flag.RESET_NVRAM) == s.plan_revert("s1")


# --- the tree and the files -------------------------------------------------------------------------------


def test_an_inner_node_notes_the_new_branch() -> None:
    (put,) = write_of(scene("shutoff", "off").plan_revert("s1")).put_snapshots
    layer = SnapshotDisk("vda", Location.EXTERNAL, path="/i/vda.200", format="qcow2")
    assert put.revert_disks == (layer,)
    assert put.disks[0].path == "/i/vda.s1"


def test_a_leaf_takes_the_new_branch_as_its_own() -> None:
    s = scene("shutoff", "off")
    s.revert("s1")
    s.world.now = 300
    plan = s.plan_revert("s2")
    assert lines(plan) == [
        "prepare: make overlay /i/vda.300 on /i/vda.s1",
        "commit: write it down: snapshot s1, snapshot s2, current s2",
        "finish: delete /i/vda.201",
    ]
    old, put = write_of(plan).put_snapshots
    assert (old.name, old.revert_disks) == ("s1", ())
    layer = SnapshotDisk("vda", Location.EXTERNAL, path="/i/vda.300", format="qcow2")
    assert (put.disks, put.revert_disks) == ((layer,), ())


def test_to_the_current_one_just_gives_up_what_came_after() -> None:
    s = scene("shutoff", "off")
    assert lines(s.plan_revert("s2")) == [
        "prepare: make overlay /i/vda.200 on /i/vda.s1",
        "commit: write it down: snapshot s2, current s2",
        "finish: delete /i/vda.s2",
    ]


def test_what_another_snapshot_holds_stays() -> None:
    s = scene("shutoff", "off")
    s.create("s3")
    assert [x for x in s.plan_revert("s1").finish if isinstance(x, RemoveFile)] == [RemoveFile("/i/vda.s3")]


def test_a_branch_without_a_snapshot_goes_whole() -> None:
    s = scene("shutoff", "off")
    s.revert("s1")
    s.create("s3")
    s.delete("s3", 0)
    s.world.now = 300
    plan = s.plan_revert("s2")
    s.world.run(plan)
    assert set(s.host.images) == {"/i/cd.iso", "/i/vda.img", "/i/vda.s1", "/i/vda.300"}


def test_images_that_are_not_ours_are_left_alone() -> None:
    s = scene("shutoff", "off")
    s.book.owned.pop("/i/vda.s2")
    plan = s.plan_revert("s1")
    assert not [x for x in plan.finish if isinstance(x, RemoveFile)]
    assert write_of(plan).delete_images == ()


def test_images_of_other_domains_are_left_alone() -> None:
    plan = scene("shutoff", "off").plan_revert(
        "s1", change=lambda facts: replace(facts, named_elsewhere=frozenset({"/i/vda.s2"}))
    )
    assert not [x for x in plan.finish if isinstance(x, RemoveFile)]


def test_a_base_that_was_given_up_is_not_taken_back() -> None:
    s = scene("shutoff", "off")
    s.book.owned.pop("/i/vda.img")
    assert write_of(s.plan_revert("s1")).put_images == (("/i/vda.200", ImageRole.OVERLAY),)


def test_overlays_inherit_size_and_shape() -> None:
    def shaped(facts: DomainFacts) -> DomainFacts:
        image = replace(facts.images["/i/vda.img"], cluster_size=4096, extended_l2=True, virtual_size=7 << 20)
        return replace(facts, images={**facts.images, "/i/vda.img": image})

    (create,) = scene("shutoff", "off").plan_revert("s1", change=shaped).prepare
    assert create == CreateOverlay(
        "/i/vda.200", "qcow2", 7 << 20, "/i/vda.img", "qcow2", cluster_size=4096, extended_l2=True
    )


def test_a_name_in_use_gets_a_number() -> None:
    s = scene("shutoff", "off")
    s.host.images["/i/vda.200"] = s.host.images["/i/vda.img"]
    (create,) = s.plan_revert("s1").prepare
    assert isinstance(create, CreateOverlay)
    assert create.path == "/i/vda.200-2"


def test_a_name_that_is_missed_is_not_used_for_something_else() -> None:
    def mislaid(facts: DomainFacts) -> DomainFacts:
        missing = ImageFacts("/i/vda.200", "qcow2", missing=True)
        return replace(facts, images={**facts.images, "/i/vda.200": missing})

    (create,) = scene("shutoff", "off").plan_revert("s1", change=mislaid).prepare
    assert isinstance(create, CreateOverlay)
    assert create.path == "/i/vda.200-2"


def test_two_disks_of_one_stem_get_two_names() -> None:
    s = Scene(("vda", "vdb"))
    entries = [SnapshotDisk(t, Location.EXTERNAL, path=f"/i/one.{t}") for t in ("vda", "vdb")]
    s.create("s1", *entries)
    s.create("s2", *(replace(entry, path=f"/i/two.{entry.name}") for entry in entries))
    s.world.now = 200
    made = [step for step in s.plan_revert("s2").prepare if isinstance(step, CreateOverlay)]
    assert [(step.path, step.backing) for step in made] == [
        ("/i/one.200", "/i/one.vda"),
        ("/i/one.200-2", "/i/one.vdb"),
    ]


def test_the_paths_to_look_at() -> None:
    s = scene("running", "running")
    paths = paths_of(s.world.facts(), RevertRequest("s1", Flag(0)))
    assert paths == (
        *("/i/vda.200", *(f"/i/vda.200-{n}" for n in range(2, 10))),
        "/m/s1",
    )


# --- disks that are no part of it -------------------------------------------------------------------------


def partial(running: bool) -> Scene:
    """s1 leaves vdb out."""
    drives = cdrom_xml("sda", "/i/cd.iso") + cdrom_xml("sdb", None)
    s = Scene(("vda", "vdb"), running=running, more_disks=drives)
    s.create("s1", SnapshotDisk("vdb", Location.NO))
    s.world.now = 200
    return s


def test_excluded_and_read_only_disks_stay_as_they_are() -> None:
    s = partial(False)
    s.create("s2")
    s.world.now = 200
    plan = s.plan_revert("s1")
    assert lines(plan) == [
        "prepare: make overlay /i/vda.200 on /i/vda.img",
        "commit: write it down: snapshot s1, current s1",
        "finish: delete /i/vda.s2",
    ]
    record = write_of(plan).record
    assert record is not None
    assert sources(record.config_xml) == {
        "vda": "/i/vda.200",
        "vdb": "/i/vdb.s2",  # where it is now, not where it was: that is the base of s2
        "sda": "/i/cd.iso",
        "sdb": None,
    }
    (put,) = write_of(plan).put_snapshots
    assert [disk.name for disk in put.revert_disks] == ["vda"]


def test_a_leaf_keeps_its_entries_for_excluded_disks() -> None:
    (put,) = write_of(partial(False).plan_revert("s1")).put_snapshots
    assert [(d.name, d.location.value, d.path) for d in put.disks] == [
        ("vda", "external", "/i/vda.200"),
        ("vdb", "no", None),
        ("sda", "no", None),
        ("sdb", "no", None),
    ]


def test_a_disk_that_both_would_write_to_makes_the_old_one_end_first() -> None:
    s = partial(True)
    plan = s.plan_revert("s1", RUNNING)
    assert lines(plan) == [
        "prepare: make overlay /i/vda.200 on /i/vda.img",
        "commit: write it down: snapshot s1, current s1",
        "finish: end the old QEMU",
        "finish: start a new QEMU",
        "finish: write it down: the domain's definition",
        "finish: resume the guest",
        "finish: delete /i/vda.s1",
    ]
    assert plan.pause == (
        "while the memory is loaded: the old QEMU ends first, since both would need disk vdb"
    )
    s.world.run(plan)
    s.world.check()


def test_a_shut_off_domain_has_nothing_to_end_first() -> None:
    s = partial(False)
    assert [type(step).__name__ for step in s.plan_revert("s1", RUNNING).prepare] == [
        "CreateOverlay",
        "StartQemu",
    ]


def test_writing_to_the_base_of_other_snapshots_is_refused() -> None:
    s = partial(False)
    s.create("s2")
    s.book.record = replace(s.book.record, config_xml=domain_xml(disk_xml("vda", "/i/vda.s2")))
    with pytest.raises(OperationUnsupported) as caught:
        s.plan_revert("s1")
    assert str(caught.value) == (
        "Operation not supported: disk 'vdb' is not part of the snapshot, and its image '/i/vdb.img' "
        "is the base of other snapshots by now"
    )


def test_a_disk_that_only_the_running_domain_had_gets_no_layer_when_nothing_starts() -> None:
    s = Scene(("vda", "vdb"), running=True)
    s.book.record = replace(s.book.record, config_xml=domain_xml(disk_xml("vda", "/i/vda.img")))
    s.create("s1")
    s.stop()
    s.world.now = 200
    made = [step.path for step in s.plan_revert("s1").prepare if isinstance(step, CreateOverlay)]
    assert made == ["/i/vda.200"]


# --- the old one first ------------------------------------------------------------------------------------

TCP = "<serial type='tcp'><source mode='bind' host='127.0.0.1' service='4555'/></serial>"


def test_a_fixed_port_makes_the_old_one_end_first() -> None:
    s = scene("running", "running", devices=TCP)
    plan = s.plan_revert("s1")
    assert lines(plan) == [
        "prepare: make overlay /i/vda.200 on /i/vda.img",
        "commit: write it down: snapshot s1, current s1",
        "finish: end the old QEMU",
        "finish: start a new QEMU that waits for memory",
        "finish: load memory from /m/s1",
        "finish: write it down: the domain's definition",
        "finish: resume the guest",
        "finish: delete /i/vda.s2",
    ]
    assert plan.pause == (
        "while the memory is loaded: the old QEMU ends first, since both would need TCP port 4555"
    )
    first = write_of(plan)
    assert first.record is not None
    assert (first.record.instance, first.record.live_xml, first.started) == (None, None, None)
    assert first.record.reason is Reason.SHUTOFF_FROM_SNAPSHOT
    assert plan.result_reason is Reason.RUNNING_FROM_SNAPSHOT


def test_where_it_rests_when_the_new_one_cannot_start() -> None:
    plan = scene("running", "running", devices=TCP).plan_revert("s1")
    assert [sentence(step) for step in plan.give_up if not isinstance(step, Announce)] == [
        "end the old QEMU",
        "end the old QEMU",
        "delete /i/vda.s2",
    ]
    assert [step.run_dir for step in plan.give_up if isinstance(step, KillQemu)] == [
        "/root/run/1",
        "/root/run/2",
    ]


def test_a_fixed_port_does_not_matter_when_nothing_starts_or_nothing_runs() -> None:
    assert lines(scene("disks", "running", devices=TCP).plan_revert("s1"))[-2:] == [END, GONE]
    assert lines(scene("running", "off", devices=TCP).plan_revert("s1"))[1] == AWAIT


# --- definitions ------------------------------------------------------------------------------------------


def test_the_definition_of_then_under_the_name_of_now() -> None:
    s = scene("shutoff", "off")
    xml = s.book.record.config_xml
    s.book.record = replace(
        s.book.record,
        name="new",
        config_xml=xml.replace("<name>d</name>", "<name>new</name>").replace(">262144<", ">524288<"),
    )
    record = write_of(s.plan_revert("s1")).record
    assert record is not None
    assert "<name>new</name>" in record.config_xml
    assert ">262144<" in record.config_xml


@pytest.mark.parametrize(("kind", "live_kib"), [("disks", 524288), ("running", 262144)])
def test_what_boots_boots_the_definition_and_memory_needs_the_machine(kind: str, live_kib: int) -> None:
    s = Scene(running=True)
    s.book.record = replace(
        s.book.record, config_xml=s.book.record.config_xml.replace(">262144<", ">524288<")
    )
    s.create("s1", memory=kind == "running")
    s.stop()
    record = write_of(s.plan_revert("s1", RUNNING)).record
    assert record is not None
    assert record.live_xml is not None
    assert f">{live_kib}<" in record.live_xml
    assert ">524288<" in record.config_xml


# --- refusals ---------------------------------------------------------------------------------------------


def put(**changes: object) -> Callable[[Scene], None]:
    """s1, as the store has it, says something else."""

    def change(s: Scene) -> None:
        s.book.snapshots["s1"] = replace(s.book.snapshots["s1"], **changes)  # type: ignore[arg-type]

    return change


def lose(path: str) -> Callable[[DomainFacts], DomainFacts]:
    def change(facts: DomainFacts) -> DomainFacts:
        gone = ImageFacts(path, "qcow2", missing=True)
        return replace(facts, images={**facts.images, path: gone})

    return change


def files(path: str, file: FileFacts) -> Callable[[DomainFacts], DomainFacts]:
    return lambda facts: replace(facts, files={path: file})


def nothing(s: Scene) -> None:
    """The world as it is."""


def transient(s: Scene) -> None:
    s.book.record = replace(s.book.record, persistent=False)


def on_a_volume(s: Scene) -> None:
    xml = s.book.snapshots["s1"].domain_xml or ""
    xml = xml.replace("<disk type='file'", "<disk type='block'").replace("<source file=", "<source dev=")
    put(domain_xml=xml)(s)


REFUSALS: dict[
    str,
    tuple[str, Callable[[Scene], None], Callable[[DomainFacts], DomainFacts], type[VirtsnapError], str],
] = {
    "a job runs": (
        "running",
        nothing,
        lambda facts: replace(facts, jobs=("vda: commit",)),
        OperationInvalid,
        "Requested operation is not valid: domain has active block job",
    ),
    "transient, to a state without a process": (
        "disks",
        transient,
        same,
        OperationInvalid,
        "Requested operation is not valid: transient domain needs to request run or pause to revert to "
        "inactive snapshot",
    ),
    "no definition": (
        "running",
        put(domain_xml=None),
        same,
        RevertRisky,
        "revert requires force: snapshot 's1' lacks domain 'd' rollback info",
    ),
    "no state": (
        "running",
        put(state=SnapshotState.NOSTATE),
        same,
        InternalRefused,
        "internal error: Invalid target domain state 'nostate'. Refusing snapshot reversion",
    ),
    "blocked": (
        "running",
        put(state=SnapshotState.BLOCKED),
        same,
        InternalRefused,
        "internal error: Invalid target domain state 'blocked'. Refusing snapshot reversion",
    ),
    "running without memory": (
        "running",
        put(memory=Location.NO, memory_file=None),
        same,
        Damaged,
        "internal error: snapshot 's1' says running and holds no memory",
    ),
    "on a volume": (
        "shutoff",
        on_a_volume,
        same,
        OperationUnsupported,
        "Operation not supported: source disk for 'vda' is not a regular file, reverting to snapshot is not "
        "supported",
    ),
    "image is gone": (
        "shutoff",
        nothing,
        lose("/i/vda.img"),
        SystemRefused,
        "Cannot access storage file '/i/vda.img': No such file or directory",
    ),
    "memory file is gone": (
        "running",
        nothing,
        files("/m/s1", FileFacts(False)),
        SystemRefused,
        "Failed to open file '/m/s1': No such file or directory",
    ),
    "memory file is out of reach": (
        "running",
        nothing,
        files("/m/s1", FileFacts(False, error="Permission denied")),
        SystemRefused,
        "Failed to open file '/m/s1': Permission denied",
    ),
    "folder is out of reach": (
        "shutoff",
        nothing,
        files("/i/vda.200", FileFacts(False, error="Permission denied")),
        SystemRefused,
        "unable to stat for disk vda: /i/vda.200: Permission denied",
    ),
    "every name is taken": (
        "shutoff",
        nothing,
        lambda facts: replace(
            facts,
            files=dict.fromkeys(
                ["/i/vda.200", *(f"/i/vda.200-{n}" for n in range(2, 10))], FileFacts(True, regular=True)
            ),
        ),
        ConfigUnsupported,
        "unsupported configuration: external snapshot file for disk vda already exists and is not a block "
        "device: /i/vda.200-9",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str) -> None:
    kind, arrange, change, error, text = REFUSALS[case]
    s = scene(kind, "running")
    arrange(s)
    with pytest.raises(error) as caught:
        s.plan_revert("s1", change=change)
    assert str(caught.value) == text
    assert type(caught.value) is error


def test_a_gap_in_the_chain() -> None:
    with pytest.raises(SystemRefused) as caught:
        scene("shutoff", "off").plan_revert("s2", change=lose("/i/vda.img"))
    assert str(caught.value) == (
        "Cannot access backing file '/i/vda.img' of storage file '/i/vda.s1': No such file or directory"
    )


def test_unknown_snapshot() -> None:
    with pytest.raises(NoSnapshot) as caught:
        Scene().plan_revert("nope")
    assert str(caught.value) == "Domain snapshot not found: no domain snapshot with matching name 'nope'"


@pytest.mark.parametrize("flags", [RUNNING, PAUSED])
def test_a_transient_domain_may_start_from_an_inactive_snapshot(flags: int) -> None:
    s = scene("disks", "running")
    transient(s)
    assert s.plan_revert("s1", flags)


@pytest.mark.parametrize(
    "state",
    [SnapshotState.SHUTDOWN, SnapshotState.CRASHED, SnapshotState.SHUTOFF, SnapshotState.DISK_SNAPSHOT],
)
def test_states_that_leave_the_domain_off(state: SnapshotState) -> None:
    s = scene("shutoff", "running")
    put(state=state)(s)
    assert s.plan_revert("s1").result_reason is Reason.SHUTOFF_FROM_SNAPSHOT


def test_memory_of_a_snapshot_that_reads_as_off_is_not_needed() -> None:
    s = scene("running", "running")
    put(state=SnapshotState.CRASHED)(s)
    plan = s.plan_revert("s1", change=files("/m/s1", FileFacts(False)))
    assert lines(plan) == [MAKE, WRITE, END, GONE]


def test_tree_without_a_current_snapshot() -> None:
    s = scene("shutoff", "off")
    s.book.current = None
    assert write_of(s.plan_revert("s1")).current == "s1"
    assert SnapshotTree.of([Snapshot("a")]).current is None
