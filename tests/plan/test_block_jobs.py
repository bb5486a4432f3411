"""Block jobs: what begins, what is refused for whose sake, and what their end means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.plan.scene import Scene
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.command_line import Layer
from virtsnap.model.block_job import BlockJob, BlockJobState, BlockJobType
from virtsnap.model.errors import (
    BlockCopyActive,
    ConfigUnsupported,
    InvalidArg,
    OperationInvalid,
    OperationUnsupported,
    SystemRefused,
)
from virtsnap.model.facts import DomainFacts, FileFacts, ImageFacts, ImageRole, InternalSnapshot
from virtsnap.model.flags import BlockCommit, BlockCopy, SnapshotCreate
from virtsnap.model.steps import (
    AttachOverlay,
    CreateImage,
    CreateOverlay,
    Plan,
    RemoveFile,
    StartCommit,
    StartCopy,
    StartPull,
    StoreWrite,
)
from virtsnap.plan.block_job_end import ended_record, plan_end
from virtsnap.plan.block_jobs import (
    CommitRequest,
    CopyRequest,
    PullRequest,
    plan_commit,
    plan_copy,
    plan_pull,
)

ACTIVE = BlockCommit.ACTIVE
NO_METADATA = SnapshotCreate.NO_METADATA | SnapshotCreate.DISK_ONLY
DISK_ONLY = SnapshotCreate.DISK_ONLY


def chain(*flags: int) -> Scene:
    """Running, vda on /i/vda.s1, /i/vda.s2 ...; each snapshot with or without a record."""
    scene = Scene(("vda",), running=True)
    for number, flag in enumerate(flags, 1):
        scene.create(f"s{number}", flags=SnapshotCreate(flag))
    return scene


def loose() -> Scene:
    """Three overlays that the user made without records."""
    return chain(NO_METADATA, NO_METADATA, NO_METADATA)


def facts_of(scene: Scene) -> DomainFacts:
    """The live definition with the chain that a real start writes into it."""
    facts = scene.world.facts()
    layers = [Layer(image.path, image.format, "file") for image in facts.chain(f"/i/vda.{_top(scene)}")]
    live = DomainDefinition.parse(facts.record.live_xml or "").with_backing_chain("vda", layers, 3)
    return replace(facts, record=replace(facts.record, live_xml=live.to_xml()))


def _top(scene: Scene) -> str:
    disk = DomainDefinition.parse(scene.book.record.live_xml or "").disk("vda")
    assert disk is not None
    assert disk.source is not None
    return disk.source.removeprefix("/i/vda.")


def begun(plan: Plan) -> BlockJob:
    assert isinstance(plan.commit, StoreWrite)
    (job,) = plan.commit.put_block_jobs
    return job


def commit(facts: DomainFacts, path: str = "vda", **request: object) -> Plan:
    return plan_commit(facts, CommitRequest(path, **request), 1)  # type: ignore[arg-type]


# --- commit ------------------------------------------------------------------------------------------------


def test_an_active_commit() -> None:
    plan = commit(facts_of(loose()), flags=ACTIVE, speed=7)
    (start,) = plan.prepare
    assert start == StartCommit("virtsnap-commit-vda-1", "vda", "/i/vda.s3", "/i/vda.img", True, None, 7)
    job = begun(plan)
    assert (job.type, job.source, job.writes) == (BlockJobType.ACTIVE_COMMIT, "/i/vda.s3", "/i/vda.img")
    assert job.gone == ("/i/vda.s3", "/i/vda.s2", "/i/vda.s1")
    assert isinstance(plan.commit, StoreWrite)
    assert plan.commit.record is not None
    root = DomainDefinition.parse(plan.commit.record.live_xml or "").element
    assert root.xpath("devices/disk/mirror/@job") == ["active-commit"]
    assert root.xpath("devices/disk/mirror/source/@file") == ["/i/vda.img"]
    config = DomainDefinition.parse(plan.commit.record.live_xml or "").to_inactive_xml()
    assert "mirror" not in config


def test_a_commit_below_the_top() -> None:
    plan = commit(facts_of(loose()), top="/i/vda.s2", flags=BlockCommit.SHALLOW)
    assert plan.prepare == (
        StartCommit("virtsnap-commit-vda-1", "vda", "/i/vda.s2", "/i/vda.s1", False, "/i/vda.s1", 0),
    )
    job = begun(plan)
    assert (job.type, job.gone, job.result) == (BlockJobType.COMMIT, ("/i/vda.s2",), None)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "commit of 'vda' active layer requires active flag"),
        ({"path": "vdz"}, "disk 'vdz' not found in domain"),
        ({"top": "/nope"}, "could not find image '/nope' in chain for 'vda'"),
        ({"base": "/nope"}, "could not find image '/nope' beneath '/i/vda.s3' in chain for 'vda'"),
        ({"top": "vda[99]"}, "could not find backing store index '99' in chain for 'vda'"),
        ({"top": "vdb[1]"}, "requested target 'vdb' does not match target 'vda'"),
        (
            {"top": "/i/vda.s1", "base": "/i/vda.s2"},
            "could not find image '/i/vda.s2' beneath '/i/vda.s1' in chain for 'vda'",
        ),
        ({"top": "/i/vda.img"}, "could not find base image in chain for 'vda'"),
        (
            {"top": "/i/vda.s2", "base": "/i/vda.img", "flags": BlockCommit.SHALLOW},
            "base '/i/vda.img' is not immediately below '/i/vda.s2' in chain for '/i/vda.s3'",
        ),
        ({"top": "/i/vda.s2", "flags": ACTIVE}, "active commit requested but '/i/vda.s2' is not active"),
    ],
)
def test_what_is_not_in_the_chain(request_: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidArg) as refused:
        commit(facts_of(loose()), **request_)  # type: ignore[arg-type]
    assert refused.value.detail == words


def test_a_layer_by_the_number_of_its_node() -> None:
    facts = facts_of(loose())
    definition = DomainDefinition.parse(facts.record.live_xml or "")
    number = definition.layer_index("vda", "/i/vda.s2")
    assert number is not None
    (start,) = commit(facts, top=f"vda[{number}]").prepare
    assert isinstance(start, StartCommit)
    assert start.top == "/i/vda.s2"


def test_a_disk_with_a_job() -> None:
    facts = facts_of(loose())
    for jobs, refusal in (
        (("vda: mirror",), BlockCopyActive),
        (("vda: stream",), OperationUnsupported),
    ):
        busy = replace(facts, jobs=jobs)
        with pytest.raises(refusal, match="disk 'vda' already in active block job"):
            commit(busy, flags=ACTIVE)
        with pytest.raises(refusal, match="disk 'vda' already in active block job"):
            plan_pull(busy, PullRequest("vda"), 1)
    assert commit(replace(facts, jobs=("vdb: mirror",)), flags=ACTIVE).prepare


def test_a_domain_that_does_not_run() -> None:
    scene = loose()
    scene.stop()
    with pytest.raises(InvalidArg, match="could not find base image in chain for 'vda'"):
        commit(scene.world.facts(), flags=ACTIVE)
    with pytest.raises(OperationInvalid, match="domain is not running"):
        plan_pull(scene.world.facts(), PullRequest("vda"), 1)


def test_no_snapshot_loses_its_content() -> None:
    """s2 has a record: it names /i/vda.s1, which a commit must neither write to nor ruin from below."""
    facts = facts_of(chain(NO_METADATA, DISK_ONLY, NO_METADATA))
    for request in (
        {"flags": ACTIVE},
        {"flags": ACTIVE, "base": "/i/vda.s1"},
        {"top": "/i/vda.s2"},
        {"top": "/i/vda.s2", "flags": BlockCommit.SHALLOW},
    ):
        with pytest.raises(OperationUnsupported, match=r"what snapshot 's2' needs of disk 'vda'"):
            commit(facts, **request)
    # What is above it is nobody's.
    assert commit(facts, flags=ACTIVE, base="/i/vda.s2").prepare
    # Its own content moves down and it still reads it: right as long as its file stays.
    assert commit(facts, top="/i/vda.s1").prepare
    with pytest.raises(OperationUnsupported, match="what snapshot 's2' needs"):
        commit(facts, top="/i/vda.s1", flags=BlockCommit.DELETE)


def test_a_commit_into_what_another_domain_uses() -> None:
    facts = replace(facts_of(loose()), named_elsewhere=frozenset({"/i/vda.img"}))
    with pytest.raises(OperationUnsupported, match=r"'/i/vda.img' is used by another domain"):
        commit(facts, flags=ACTIVE)
    assert commit(facts, flags=ACTIVE, base="/i/vda.s1").prepare


def test_internal_snapshots_keep_what_they_stand_on() -> None:
    facts = facts_of(loose())
    tagged = replace(facts.images["/i/vda.s2"], tags=(InternalSnapshot("1", "mine", 0),))
    facts = replace(facts, images={**facts.images, "/i/vda.s2": tagged})
    with pytest.raises(OperationUnsupported, match="holds internal snapshot 'mine'"):
        commit(facts, flags=ACTIVE)
    assert commit(facts, flags=ACTIVE, base="/i/vda.s2").prepare
    top = replace(facts.images["/i/vda.s3"], tags=(InternalSnapshot("1", "mine", 0),))
    facts = replace(facts, images={**facts.images, "/i/vda.s3": top})
    with pytest.raises(OperationUnsupported, match="holds internal snapshot 'mine'"):
        plan_pull(facts, PullRequest("vda"), 1)


# --- pull --------------------------------------------------------------------------------------------------


def test_pulls() -> None:
    facts = facts_of(chain(DISK_ONLY, DISK_ONLY, DISK_ONLY))
    plan = plan_pull(facts, PullRequest("vda", speed=3), 1)
    assert plan.prepare == (StartPull("virtsnap-pull-vda-1", "vda", None, None, 3),)
    assert begun(plan).gone == ("/i/vda.s2", "/i/vda.s1", "/i/vda.img")
    plan = plan_pull(facts, PullRequest("/i/vda.s3", base="/i/vda.s1"), 1)
    assert plan.prepare == (StartPull("virtsnap-pull-vda-1", "vda", "/i/vda.s1", "/i/vda.s1", 0),)
    assert begun(plan).gone == ("/i/vda.s2",)
    with pytest.raises(InvalidArg, match="valid only with non-null base"):
        plan_pull(facts, PullRequest("vda", relative=True), 1)


def test_names_that_stay_relative() -> None:
    facts = facts_of(loose())
    with pytest.raises(OperationInvalid, match="can't keep relative backing relationship"):
        plan_pull(facts, PullRequest("vda", base="/i/vda.s1", relative=True), 1)
    names = {"/i/vda.s3": "vda.s2", "/i/vda.s2": "sub/../vda.s1"}
    images = {path: replace(facts.images[path], backing_name=name) for path, name in names.items()}
    facts = replace(facts, images={**facts.images, **images})
    (start,) = plan_pull(facts, PullRequest("vda", base="/i/vda.s1", relative=True), 1).prepare
    assert isinstance(start, StartPull)
    assert start.backing_name == "sub/../vda.s1"


# --- copy --------------------------------------------------------------------------------------------------


def copy(
    facts: DomainFacts, *, exists: bool = False, reused: ImageFacts | None = None, **request: object
) -> Plan:
    to = str(request.pop("destination", "/i/copy"))
    facts = replace(facts, files={to: FileFacts(exists, regular=exists, size=1 if exists else 0)})
    request.setdefault("flags", BlockCopy.TRANSIENT_JOB)
    return plan_copy(facts, CopyRequest("vda", to, **request), 1, reused)  # type: ignore[arg-type]


def test_copies() -> None:
    facts = facts_of(loose())
    make, attach, start = copy(facts).prepare
    assert isinstance(make, CreateImage)
    assert isinstance(attach, AttachOverlay)
    assert attach.backing is None
    assert start == StartCopy("virtsnap-copy-vda-1", "vda", attach.node, False)
    plan = copy(facts, flags=BlockCopy.TRANSIENT_JOB | BlockCopy.SHALLOW)
    make, attach, _ = plan.prepare
    assert isinstance(make, CreateOverlay)
    assert isinstance(attach, AttachOverlay)
    assert make.backing == attach.backing == "/i/vda.s2"
    assert begun(plan).gone == ("/i/vda.s3",)


def test_destinations() -> None:
    facts = facts_of(loose())
    reuse = BlockCopy.TRANSIENT_JOB | BlockCopy.REUSE_EXT
    with pytest.raises(OperationInvalid, match="domain is not transient"):
        copy(facts, flags=0)
    with pytest.raises(ConfigUnsupported, match="already exists and is not a block device: /i/copy"):
        copy(facts, exists=True)
    with pytest.raises(ConfigUnsupported, match=r"'/i/vda.s1' is an image of a domain already"):
        copy(facts, exists=True, destination="/i/vda.s1", flags=reuse)
    with pytest.raises(SystemRefused, match="missing destination file for disk vda"):
        copy(facts, flags=reuse)
    with pytest.raises(InvalidArg, match="is not a block device"):
        copy(facts, type="block")
    with pytest.raises(InvalidArg, match="granularity must be power of 2"):
        copy(facts, granularity=3)
    empty = ImageFacts("/i/copy", "qcow2")
    assert len(copy(facts, exists=True, reused=empty, flags=reuse).prepare) == 2
    with pytest.raises(ConfigUnsupported, match=r"stands on '/i/x'; this copy has to stand on nothing"):
        copy(facts, exists=True, reused=replace(empty, backing="/i/x"), flags=reuse)
    with pytest.raises(ConfigUnsupported, match=r"stands on nothing; this copy has to stand on '/i/vda.s2'"):
        copy(facts, exists=True, reused=empty, flags=reuse | BlockCopy.SHALLOW)


# --- the end -----------------------------------------------------------------------------------------------


def ended(facts: DomainFacts, plan: Plan, state: BlockJobState, images: dict[str, str | None]) -> Plan:
    """The plan of the end, when the disk's chain is then as in `images` (path to what it stands on)."""
    assert isinstance(plan.commit, StoreWrite)
    assert plan.commit.record is not None
    job = replace(begun(plan), state=state)
    record = ended_record(plan.commit.record, job)
    after = {path: replace(ImageFacts(path, "qcow2"), backing=below) for path, below in images.items()}
    left = facts.chain(job.source) if job.type is BlockJobType.COPY else ()
    return plan_end(replace(facts, record=record, images=after), job, left)


def sources(plan: Plan) -> tuple[list[str], str | None]:
    """The live disk's layers, and the definition's image."""
    assert isinstance(plan.commit, StoreWrite)
    assert plan.commit.record is not None
    live = DomainDefinition.parse(plan.commit.record.live_xml or "")
    config = DomainDefinition.parse(plan.commit.record.config_xml).disk("vda")
    assert not live.element.xpath("devices/disk/mirror")
    return [path for _, path in live.layer_paths("vda")], config.source if config is not None else None


def test_the_end_of_an_active_commit() -> None:
    facts = facts_of(loose())
    begin = commit(facts, flags=ACTIVE | BlockCommit.DELETE)
    plan = ended(facts, begin, BlockJobState.COMPLETED, {"/i/vda.img": None})
    assert sources(plan) == (["/i/vda.img"], "/i/vda.img")
    removed = [step.path for step in plan.finish if isinstance(step, RemoveFile)]
    assert removed == ["/i/vda.s3", "/i/vda.s2", "/i/vda.s1"]
    plan = ended(facts, begin, BlockJobState.CANCELED, {})
    assert sources(plan) == (["/i/vda.s3", "/i/vda.s2", "/i/vda.s1", "/i/vda.img"], "/i/vda.s3")
    assert not [step for step in plan.finish if isinstance(step, RemoveFile)]


def test_what_somebody_needs_is_not_deleted() -> None:
    facts = facts_of(loose())
    facts = replace(facts, named_elsewhere=frozenset({"/i/vda.s1"}))
    begin = commit(facts, flags=ACTIVE | BlockCommit.DELETE)
    plan = ended(facts, begin, BlockJobState.COMPLETED, {"/i/vda.img": None})
    removed = [step.path for step in plan.finish if isinstance(step, RemoveFile)]
    assert removed == ["/i/vda.s3", "/i/vda.s2"]


def test_the_end_of_a_pull_gives_up_what_nothing_names() -> None:
    scene = chain(DISK_ONLY, NO_METADATA, DISK_ONLY)
    facts = facts_of(scene)
    begin = plan_pull(facts, PullRequest("vda"), 1)
    images = {"/i/vda.s3": None, "/i/vda.s2": "/i/vda.s1", "/i/vda.s1": "/i/vda.img", "/i/vda.img": None}
    plan = ended(facts, begin, BlockJobState.COMPLETED, images)
    assert sources(plan) == (["/i/vda.s3"], "/i/vda.s3")
    assert isinstance(plan.commit, StoreWrite)
    # s3's image was the user's before it, and is again; s1's overlay stands where s3 needs it.
    assert plan.commit.delete_images == ("/i/vda.s2",)
    assert not [step for step in plan.finish if isinstance(step, RemoveFile)]


def test_the_end_of_a_copy_leaves_the_old_disk_to_the_user() -> None:
    scene = chain(DISK_ONLY)
    facts = facts_of(scene)
    assert facts.owned["/i/vda.s1"] is ImageRole.OVERLAY
    plan = ended(facts, copy(facts), BlockJobState.COMPLETED, {"/i/copy": None, "/i/vda.img": None})
    assert sources(plan) == (["/i/copy"], "/i/copy")
    assert isinstance(plan.commit, StoreWrite)
    assert "/i/vda.s1" in plan.commit.delete_images
    begin = copy(facts, flags=BlockCopy.TRANSIENT_JOB | BlockCopy.SHALLOW)
    images = {"/i/copy": "/i/vda.img", "/i/vda.img": None}
    plan = ended(facts, begin, BlockJobState.COMPLETED, images)
    assert sources(plan) == (["/i/copy", "/i/vda.img"], "/i/copy")


def test_a_definition_that_was_changed_meanwhile_is_the_users() -> None:
    facts = facts_of(loose())
    begin = commit(facts, flags=ACTIVE)
    assert isinstance(begin.commit, StoreWrite)
    assert begin.commit.record is not None
    other = DomainDefinition.parse(facts.record.config_xml).with_disk_source("vda", "/i/other", "qcow2")
    record = replace(begin.commit.record, config_xml=other.to_inactive_xml())
    job = replace(begun(begin), state=BlockJobState.COMPLETED)
    disk = DomainDefinition.parse(ended_record(record, job).config_xml).disk("vda")
    assert disk is not None
    assert disk.source == "/i/other"
