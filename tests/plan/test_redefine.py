"""Records that are taken back: every rule of libvirt's, in its order and words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.plan.scene import Scene, write_of
from tests.plan.simulation import disk_xml, domain_xml
from virtsnap.model.block_job import BlockJob, BlockJobType
from virtsnap.model.errors import (
    ConfigUnsupported,
    InternalRefused,
    InvalidArg,
    OperationUnsupported,
    Refused,
    XmlDetail,
)
from virtsnap.model.flags import SnapshotCreate as Flag
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk, SnapshotState
from virtsnap.model.steps import Plan
from virtsnap.plan.redefine import plan_redefine

XML = domain_xml(disk_xml("vda", "/i/vda.img"))
OTHER = "11111111-2222-3333-4444-555555555555"
INVALID = "invalid argument: "
OFF, RUNNING, DISKS = SnapshotState.SHUTOFF, SnapshotState.RUNNING, SnapshotState.DISK_SNAPSHOT


def tree() -> Scene:
    """s1 - s2, of a shut off domain."""
    scene = Scene()
    scene.create("s1")
    scene.create("s2")
    return scene


def redefine(scene: Scene, given: Snapshot, flags: int = 1) -> Plan:
    return plan_redefine(scene.world.facts(), given, Flag(flags), scene.host.images.__contains__)


def given(name: str, **more: object) -> Snapshot:
    one = Snapshot(name, 5, OFF, domain_xml=XML)
    return replace(one, **more)  # type: ignore[arg-type]


def kept(name: str, **more: object) -> Snapshot:
    """A record of the tree, changed."""
    return replace(tree().book.snapshots[name], **more)  # type: ignore[arg-type]


REFUSED: dict[str, tuple[Snapshot, int, type[Refused], str]] = {
    "slash": (given("a/b"), 1, XmlDetail, "invalid snapshot name 'a/b': name can't contain '/'"),
    "dot": (given(".a"), 1, XmlDetail, "invalid snapshot name '.a': name can't start with '.'"),
    "state blocked": (
        given("s", state=SnapshotState.BLOCKED),
        1,
        InternalRefused,
        "internal error: Invalid domain state blocked",
    ),
    "its own parent": (
        given("s", parent="s"),
        1,
        InvalidArg,
        INVALID + "cannot set moment s as its own parent",
    ),
    "no such parent": (given("s", parent="no"), 1, InvalidArg, INVALID + "parent no for moment s not found"),
    "cycle": (kept("s1", parent="s2"), 1, InvalidArg, INVALID + "parent s2 would create cycle to s1"),
    "disk-only of a state that is not": (
        given("s"),
        1 | Flag.DISK_ONLY,
        InvalidArg,
        INVALID + "disk-only flag for snapshot s requires disk-snapshot state",
    ),
    "of another domain": (
        given("s", domain_xml=XML.replace(Scene().book.record.uuid, OTHER)),
        1,
        InvalidArg,
        INVALID + f"definition for snapshot s must use uuid {Scene().book.record.uuid}",
    ),
    "no definition": (
        given("s", domain_xml=None),
        1,
        InternalRefused,
        "internal error: missing domain in snapshot",
    ),
    "from offline to online": (
        kept("s1", state=RUNNING),
        1,
        InvalidArg,
        INVALID + "cannot change between online and offline snapshot state in snapshot s1",
    ),
    "from full system to disks only": (
        kept("s1", state=DISKS),
        1,
        InvalidArg,
        INVALID + "cannot change between disk only and full system in snapshot s1",
    ),
    "another machine": (
        kept("s1", domain_xml=XML.replace("262144", "524288")),
        1,
        ConfigUnsupported,
        "unsupported configuration: Target domain max memory 524288 does not match source 262144",
    ),
    "more disks than the machine": (
        given("s", disks=(SnapshotDisk("vda"), SnapshotDisk("vdb"))),
        1,
        ConfigUnsupported,
        "unsupported configuration: too many disk snapshot requests for domain",
    ),
    "a disk that is not there": (
        given("s", disks=(SnapshotDisk("vdb", Location.NO),)),
        1,
        ConfigUnsupported,
        "unsupported configuration: no disk named 'vdb'",
    ),
    # in libvirt's order
    "name before parent": (
        given("a/b", parent="a/b"),
        1,
        XmlDetail,
        "invalid snapshot name 'a/b': name can't contain '/'",
    ),
    "parent before domain": (
        given("s", parent="no", domain_xml=XML.replace(Scene().book.record.uuid, OTHER)),
        1,
        InvalidArg,
        INVALID + "parent no for moment s not found",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    one, flags, error, text = REFUSED[case]
    with pytest.raises(error) as caught:
        redefine(tree(), one, flags)
    assert str(caught.value) == text
    assert type(caught.value) is error


@pytest.mark.parametrize("name", ["s1", "s2"])
def test_what_was_written_is_taken_back_as_it_was(name: str) -> None:
    scene = tree()
    write = write_of(redefine(scene, kept(name)))
    assert write.put_snapshots == (scene.book.snapshots[name],)
    assert not write.set_current


@pytest.mark.parametrize(
    "state", [state for state in SnapshotState if state.name not in ("NOSTATE", "BLOCKED")]
)
def test_a_record_of_any_state_a_domain_can_have_is_taken(state: SnapshotState) -> None:
    (record,) = write_of(redefine(tree(), given("s", state=state))).put_snapshots
    assert record.state is state


def test_current_only_when_asked_for() -> None:
    scene = tree()
    assert write_of(redefine(scene, given("s"))).set_current is False
    write = write_of(redefine(scene, given("s"), Flag.REDEFINE | Flag.CURRENT))
    assert (write.set_current, write.current) == (True, "s")


def test_a_definition_that_is_left_out_stays() -> None:
    (record,) = write_of(redefine(tree(), kept("s1", domain_xml=None))).put_snapshots
    assert record.domain_xml == kept("s1").domain_xml


def test_of_an_image_that_a_job_writes() -> None:
    scene = tree()
    job = BlockJob("j", BlockJobType.COMMIT, "vda", "/root/run/1", "/i/vda.s2", writes="/i/vda.img")
    facts = replace(scene.world.facts(), block_jobs=(job,))
    with pytest.raises(OperationUnsupported, match=r"'/i/vda.img' is being changed by an active block job"):
        plan_redefine(facts, kept("s1"), Flag.REDEFINE, scene.host.images.__contains__)
