"""Disks that take in what they stand on: which layers, what becomes of them, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.plan.scene import Scene, lines, write_of
from tests.plan.simulation import Image, cdrom_xml
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.errors import (
    InvalidArg,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    Refused,
    SystemRefused,
)
from virtsnap.model.facts import DomainFacts, ImageRole, InternalSnapshot
from virtsnap.model.flags import SnapshotCreate, SnapshotDelete
from virtsnap.model.steps import Declare, Plan
from virtsnap.plan.flatten import FlattenRequest, plan_flatten

NO_METADATA = SnapshotCreate.NO_METADATA | SnapshotCreate.DISK_ONLY


def flatten(scene: Scene, *targets: str, copy: bool = False) -> Plan:
    return plan_flatten(scene.world.facts(), FlattenRequest(targets, copy))


def on_template(*disks: str, running: bool = False) -> Scene:
    """The user's own images stand on a template, all disks on the same one."""
    scene = Scene(disks or ("vda",))
    scene.host.images["/i/template"] = Image({1: "t", 7: "t"})
    for target in disks or ("vda",):
        scene.host.images[f"/i/{target}.img"].backing = "/i/template"
    if running:
        scene.start()
    return scene


def held(scene: Scene, path: str) -> dict[int, str]:
    """An image's content but for the cluster that a running guest always writes to."""
    return {cluster: value for cluster, value in scene.host.content(path).items() if cluster}


def carry_out(scene: Scene, plan: Plan) -> None:
    """Do it, and see that every image that stays holds what it held."""
    before = {path: held(scene, path) for path in scene.host.images}
    scene.world.run(plan)
    scene.world.check()
    for path in scene.host.images:
        assert held(scene, path) == before[path]


def live_layers(scene: Scene, target: str) -> list[str]:
    disk = DomainDefinition.parse(scene.book.record.live_xml or "").element
    found = disk.xpath(f"devices/disk[target/@dev='{target}']//source/@file")
    return [str(path) for path in found]


@pytest.mark.parametrize("running", [False, True])
def test_from_a_template(running: bool) -> None:
    scene = on_template(running=running)
    plan = flatten(scene, "vda")
    assert lines(plan) == [
        "prepare: vda: merge /i/template into /i/vda.img (up to 0.1 MiB)",
        "commit: write it down: the domain's definition",
    ]
    carry_out(scene, plan)
    assert scene.host.chain("/i/vda.img") == ["/i/vda.img"]
    assert "/i/template" in scene.host.images
    with pytest.raises(OperationInvalid, match="disk 'vda' does not stand on another image"):
        flatten(scene, "vda")
    with pytest.raises(OperationInvalid, match="no disk stands on other images"):
        flatten(scene)


def test_one_of_two_disks_leaves_the_other_where_it_is() -> None:
    scene = on_template("vda", "vdb", running=True)
    definition = DomainDefinition.parse(scene.book.record.live_xml or "")
    for target in ("vda", "vdb"):
        layers = [Layer(f"/i/{target}.img"), Layer("/i/template")]
        definition = definition.with_backing_chain(target, layers)
    scene.book.record = replace(scene.book.record, live_xml=definition.to_xml())
    carry_out(scene, flatten(scene, "vdb"))
    assert live_layers(scene, "vda") == ["/i/vda.img", "/i/template"]
    assert live_layers(scene, "vdb") == ["/i/vdb.img"]
    carry_out(scene, flatten(scene))
    assert live_layers(scene, "vda") == ["/i/vda.img"]


class Layer:
    type, format = "file", "qcow2"

    def __init__(self, path: str) -> None:
        self.path = path


@pytest.mark.parametrize("running", [False, True])
def test_what_snapshots_need_stays_below(running: bool) -> None:
    scene = on_template(running=running)
    scene.create("s1")
    for name in ("lost", "lost2"):
        scene.create(name, flags=NO_METADATA)
    plan = flatten(scene, "vda")
    assert lines(plan)[0].startswith("prepare: vda: merge /i/vda.s1 into /i/vda.lost2 (")
    carry_out(scene, plan)
    assert scene.host.chain("/i/vda.lost2") == ["/i/vda.lost2", "/i/vda.img", "/i/template"]
    with pytest.raises(
        OperationUnsupported, match=r"'vda' stands on '/i/vda.img', .* needed by snapshot 's1'"
    ):
        flatten(scene, "vda")


@pytest.mark.parametrize("running", [False, True])
def test_a_copy_leaves_snapshots_what_they_have(running: bool) -> None:
    scene = on_template(running=running)
    for name in ("s1", "s2", "s3"):
        scene.create(name)
    with pytest.raises(OperationUnsupported, match=r"'/i/vda.s2', which is needed by snapshot 's3'; a copy"):
        flatten(scene)
    files = set(scene.host.images)
    carry_out(scene, flatten(scene, copy=True))
    assert set(scene.host.images) == files
    assert scene.host.chain("/i/vda.s3") == ["/i/vda.s3"]
    # The snapshots are as good as before.
    scene.revert("s2")
    assert held(scene, scene.world.active()["vda"]) == held(scene, "/i/vda.s1")
    scene.world.check()
    assert "/i/vda.s3" not in scene.host.images, "its branch was left"


def test_after_a_copy_the_snapshots_go_as_always() -> None:
    scene = on_template()
    for name in ("s1", "s2", "s3"):
        scene.create(name)
    scene.world.run(flatten(scene, copy=True))
    active = scene.host.content("/i/vda.s3")
    scene.delete("s2")
    scene.world.check()
    scene.delete("s1", SnapshotDelete.CHILDREN)
    scene.world.check()
    assert set(scene.host.images) == {"/i/vda.s3", "/i/vda.img", "/i/template", "/i/cd.iso"}
    assert scene.world.active() == {"vda": "/i/vda.s3"}
    assert scene.host.content("/i/vda.s3") == active


def test_layers_that_nothing_names_are_deleted() -> None:
    facts = on_template().world.facts()
    facts = replace(facts, owned={"/i/template": ImageRole.OVERLAY, "/i/vda.img": ImageRole.OVERLAY})
    plan = plan_flatten(facts, FlattenRequest(("vda",)))
    assert lines(plan)[2:] == [
        "finish: write it down: the domain's definition",
        "finish: delete /i/template",
    ]
    assert write_of(plan).delete_images == ("/i/template",)
    elsewhere = replace(facts, named_elsewhere=frozenset({"/i/template"}))
    assert lines(plan_flatten(elsewhere, FlattenRequest(("vda",))))[2:] == []


def test_a_layer_that_only_active_images_lead_to_goes_in_once_it_is_decided() -> None:
    """Given up after the first of two disks, nothing would lead to that disk's layer any more."""
    scene = Scene(("vda", "vdb"))
    scene.create("s1")
    scene.create("s2")
    layers = frozenset({"/i/vda.s1", "/i/vdb.s1"})
    # Kept below the active images by a clone that is gone now.
    scene.world.run(scene.plan_delete("s2", change=lambda facts: replace(facts, named_elsewhere=layers)))
    assert layers <= set(scene.host.images)
    plan = flatten(scene)
    assert (plan.prepare, plan.commit) == ((), Declare())
    carry_out(scene, plan)
    assert not layers & set(scene.host.images)
    assert not layers & set(scene.book.owned)


def test_read_only_drives_are_not_meant_by_all() -> None:
    scene = Scene(("vda",), more_disks=cdrom_xml("sda", "/i/cd.iso") + cdrom_xml("sdb", None))
    scene.host.images["/i/vda.img"].backing = "/i/template"
    scene.host.images["/i/template"] = Image({1: "t"})
    assert [line.partition(": ")[2][:9] for line in lines(flatten(scene))[:1]] == ["vda: merg"]
    with pytest.raises(OperationInvalid, match="disk 'sda' is read-only"):
        flatten(scene, "vda", "sda")
    with pytest.raises(InvalidArg, match="disk 'sdb' does not currently have a source assigned"):
        flatten(scene, "sdb")
    with pytest.raises(InvalidArg, match="disk 'vdx' not found in domain"):
        flatten(scene, "vdx")


Change = Callable[[DomainFacts], DomainFacts]
REFUSED: dict[str, tuple[Change, type[Refused], str]] = {
    "a block job runs": (
        lambda facts: replace(facts, jobs=("vda: backup",)),
        OperationUnsupported,
        "another active block job",
    ),
    "an internal snapshot reaches down": (
        lambda facts: replace(
            facts,
            images={
                **facts.images,
                "/i/vda.img": replace(facts.images["/i/vda.img"], tags=(InternalSnapshot("1", "t", 0),)),
            },
        ),
        OperationUnsupported,
        "'/i/vda.img' of disk 'vda' holds internal snapshot 't', which needs what is below",
    ),
    "a layer is missing": (
        lambda facts: replace(
            facts,
            images={**facts.images, "/i/template": replace(facts.images["/i/template"], missing=True)},
        ),
        SystemRefused,
        "Cannot access backing file '/i/template' of storage file '/i/vda.img': No such file or directory",
    ),
    "a layer below is broken": (
        lambda facts: replace(
            facts,
            images={
                **facts.images,
                "/i/template": replace(facts.images["/i/template"], missing=True, problem="Bad"),
            },
        ),
        SystemRefused,
        "Cannot access backing file '/i/template' of storage file '/i/vda.img': Bad",
    ),
    "somebody has a layer open": (
        lambda facts: replace(facts, held=frozenset({"/i/template"})),
        OperationFailed,
        r"Is another process using the image \[/i/template\]",
    ),
    "there is no room": (
        lambda facts: replace(facts, free={"/i": 1 << 20}),
        SystemRefused,
        "cannot merge images in '/i': .* No space left on device",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    change, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        plan_flatten(change(on_template().world.facts()), FlattenRequest(("vda",)))
