"""Taking external snapshots: what is refused, in whose words, and which steps are taken in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from tests.plan.simulation import UUID, cdrom_xml, disk_xml, domain_xml, instance_of
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.domain import DomainRecord, Reason
from virtsnap.model.errors import (
    BlockCopyActive,
    ConfigUnsupported,
    InternalRefused,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    Refused,
    SystemRefused,
    XmlDetail,
)
from virtsnap.model.facts import DomainFacts, FileFacts, ImageFacts, ImageRole, MemoryWay
from virtsnap.model.flags import SnapshotCreate as Flag
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk, SnapshotState, SnapshotTree
from virtsnap.model.steps import (
    Announce,
    AttachOverlay,
    CreateOverlay,
    Declare,
    Plan,
    SaveInternal,
    SaveMemory,
    StoreWrite,
    SwitchLayers,
)
from virtsnap.plan.create import paths_of, plan_create, prepare_request
from virtsnap.plan.describe import sentence
from virtsnap.plan.requests import CreateRequest

ONE = disk_xml("vda", "/i/a.qcow2")
TWO = ONE + disk_xml("vdb", "/i/b.img", "raw")
NETWORK = (
    "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd' name='x'/>"
    "<target dev='vdb' bus='virtio'/></disk>"
)
NBD_DISKS = "'network' disks using 'nbd' protocol"
NVME = NETWORK.replace("network", "nvme").replace(" protocol='nbd' name='x'", "")
MIB = 1 << 20
IMAGES = {
    "/i/a.qcow2": ImageFacts("/i/a.qcow2", "qcow2", 8 * MIB, MIB, cluster_size=65536, extended_l2=True),
    "/i/b.img": ImageFacts("/i/b.img", "raw", 4 * MIB, MIB),
    "/i/cd.iso": ImageFacts("/i/cd.iso", "raw", MIB, MIB),
}
BROKEN = {
    "/i/a.qcow2": replace(IMAGES["/i/a.qcow2"], backing="/i/t.qcow2", backing_format="qcow2"),
    "/i/t.qcow2": ImageFacts("/i/t.qcow2", "qcow2", missing=True),
}
EXTERNAL, NO, INTERNAL = Location.EXTERNAL, Location.NO, Location.INTERNAL


def record(
    disks: str = ONE, reason: Reason = Reason.SHUTOFF_UNKNOWN, persistent: bool = True
) -> DomainRecord:
    xml = domain_xml(disks)
    off = DomainRecord(UUID, "d", xml, persistent, reason=reason)
    if reason.state in (5, 6) and reason is not Reason.CRASHED_PANICKED:
        return off
    return replace(off, live_xml=xml, instance=instance_of("/root/run/3"))


OFF = record()
RUNNING = record(reason=Reason.RUNNING_BOOTED)
PAUSED = record(reason=Reason.PAUSED_USER)


@dataclass(frozen=True)
class Ask:
    """One request and the world it meets."""

    domain: DomainRecord = OFF
    flags: Flag = Flag.DISK_ONLY
    disks: tuple[SnapshotDisk, ...] = ()
    memory: Location = Location.UNSET
    memory_file: str | None = None
    name: str = "s1"
    tree: SnapshotTree = field(default_factory=SnapshotTree)
    files: Mapping[str, FileFacts] = field(default_factory=dict)
    images: Mapping[str, ImageFacts] = field(default_factory=lambda: IMAGES)
    owned: Mapping[str, ImageRole] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()
    jobs: tuple[str, ...] = ()
    blockers: tuple[str, ...] = ()
    free: Mapping[str, int] = field(default_factory=dict)
    way: MemoryWay = MemoryWay.STREAM
    special: frozenset[str] = frozenset()
    """Paths that are no regular files."""

    def request(self) -> CreateRequest:
        parsed = Snapshot(self.name, memory=self.memory, memory_file=self.memory_file, disks=self.disks)
        return prepare_request(
            parsed,
            self.flags,
            self.domain,
            1_700_000_000,
            frozenset(self.tree.snapshots),
            lambda path: path not in self.special,
        )

    def facts(self) -> DomainFacts:
        return DomainFacts(
            record=self.domain,
            tree=self.tree,
            now=1_700_000_000,
            images=self.images,
            owned=self.owned,
            named_elsewhere=self.elsewhere,
            files=self.files,
            free=self.free,
            memory_way=self.way,
            memory_in_use=64 * MIB,
            jobs=self.jobs,
            migration_blockers=self.blockers,
            next_node=7,
        )

    def plan(self) -> Plan:
        return plan_create(self.facts(), self.request())


def test_an_empty_drive_may_be_said_to_be_internal() -> None:
    domain = record(ONE + cdrom_xml("sdb", None), Reason.RUNNING_BOOTED)
    plan = Ask(domain, Flag(0), (SnapshotDisk("sdb", INTERNAL),)).plan()
    (step,) = [step for step in plan.steps if isinstance(step, SaveInternal)]
    assert step.targets == ("vda",)


def full(domain: DomainRecord, **more: object) -> Ask:
    return replace(
        Ask(domain, Flag(0), memory=EXTERNAL, memory_file="/m/s1"),
        **more,  # type: ignore[arg-type]
    )


def lines(plan: Plan) -> list[str]:
    phases = [("prepare", x) for x in plan.prepare]
    phases += [("commit", plan.commit)]
    phases += [("finish", x) for x in plan.finish]
    return [f"{phase}: {sentence(step)}" for phase, step in phases if not isinstance(step, Announce)]


def write(plan: Plan) -> StoreWrite:
    (found,) = [step for step in plan.steps if isinstance(step, StoreWrite)]
    return found


def sources(xml: str | None) -> dict[str, str | None]:
    return {disk.target: disk.source for disk in DomainDefinition.parse(xml or "").disks}


S0 = Snapshot("s0", 1, SnapshotState.SHUTOFF, revert_disks=(SnapshotDisk("vda", EXTERNAL, path="/i/r"),))
HISTORY = SnapshotTree.of([S0], "s0")

MAKE_A = "prepare: make overlay /i/a.s1 on /i/a.qcow2"
MAKE_B = "prepare: make overlay /i/b.s1 on /i/b.img"
OPEN_A = "prepare: open /i/a.s1 for disk vda"
OPEN_B = "prepare: open /i/b.s1 for disk vdb"
SAVE = "prepare: write memory to /m/s1 (stream)"
SWITCH = "commit: switch to the overlays of vda"
SEAL = "finish: make /m/s1 durable and mark it whole"
WRITE = "write it down: snapshot s1, current s1"

PLANS: dict[str, tuple[Ask, list[str]]] = {
    "shut off": (Ask(), [MAKE_A, f"commit: {WRITE}"]),
    "shut off, without --disk-only": (
        Ask(flags=Flag(0), disks=(SnapshotDisk("vda", EXTERNAL),)),
        [MAKE_A, f"commit: {WRITE}"],
    ),
    "shut off, two disks": (Ask(record(TWO)), [MAKE_A, MAKE_B, f"commit: {WRITE}"]),
    "shut off, one of two disks": (
        Ask(record(TWO), disks=(SnapshotDisk("vda", NO),)),
        [MAKE_B, f"commit: {WRITE}"],
    ),
    "shut off, --halt means nothing": (Ask(flags=Flag.DISK_ONLY | Flag.HALT), [MAKE_A, f"commit: {WRITE}"]),
    "shut off, --no-metadata": (
        Ask(flags=Flag.DISK_ONLY | Flag.NO_METADATA),
        [MAKE_A, "commit: write it down: the domain's definition"],
    ),
    "shut off, --reuse-external": (
        Ask(
            flags=Flag.DISK_ONLY | Flag.REUSE_EXT,
            disks=(SnapshotDisk("vda", EXTERNAL, path="/i/made"),),
            files={"/i/made": FileFacts(True, regular=True, size=MIB)},
        ),
        [f"commit: {WRITE}"],
    ),
    "running, disks only": (
        Ask(record(TWO, Reason.RUNNING_BOOTED)),
        [
            *(MAKE_A, MAKE_B, OPEN_A, OPEN_B),
            "commit: switch to the overlays of vda, vdb",
            f"finish: {WRITE}",
        ],
    ),
    "running, disks only, --reuse-external": (
        Ask(
            RUNNING,
            flags=Flag.DISK_ONLY | Flag.REUSE_EXT,
            files={"/i/a.s1": FileFacts(True, regular=True, size=MIB)},
        ),
        [OPEN_A, SWITCH, f"finish: {WRITE}"],
    ),
    "running, disks only, --halt": (
        Ask(RUNNING, flags=Flag.DISK_ONLY | Flag.HALT),
        [MAKE_A, OPEN_A, SWITCH, "finish: end the old QEMU", f"finish: {WRITE}"],
    ),
    "running, full system": (
        full(RUNNING),
        [
            *(MAKE_A, OPEN_A, "prepare: pause the guest", SAVE, SWITCH),
            *("finish: resume the guest", SEAL, f"finish: {WRITE}"),
        ],
    ),
    "running, full system, memory in the background": (
        full(RUNNING, way=MemoryWay.BACKGROUND_SPARSE),
        [
            *(MAKE_A, OPEN_A, "prepare: be ready to take /i/a.s1 of disk vda back into /i/a.qcow2"),
            "prepare: be ready to write memory to /m/s1 (background sparse)",
            *("prepare: pause the guest", "prepare: begin to write memory to /m/s1"),
            *("prepare: switch to the overlays of vda", "prepare: resume the guest"),
            *("prepare: wait until all memory is in /m/s1", SEAL.replace("finish", "prepare")),
            f"commit: {WRITE}",
        ],
    ),
    "running, full system, live, in the background": (
        full(RUNNING, flags=Flag.LIVE, way=MemoryWay.BACKGROUND_SPARSE, disks=(SnapshotDisk("vda", NO),)),
        [
            "prepare: be ready to write memory to /m/s1 (background sparse)",
            *("prepare: pause the guest", "prepare: begin to write memory to /m/s1"),
            *("prepare: resume the guest", "prepare: wait until all memory is in /m/s1"),
            *(SEAL.replace("finish", "prepare"), f"commit: {WRITE}"),
        ],
    ),
    "running, full system, memory in place": (
        full(RUNNING, way=MemoryWay.SPARSE),
        [
            *(MAKE_A, OPEN_A, "prepare: be ready to take /i/a.s1 of disk vda back into /i/a.qcow2"),
            *("prepare: write memory to /m/s1 (sparse, live)", "prepare: switch to the overlays of vda"),
            *("prepare: resume the guest", "prepare: wait until all memory is in /m/s1"),
            *(SEAL.replace("finish", "prepare"), f"commit: {WRITE}"),
        ],
    ),
    "running, full system, --halt, no background": (
        full(RUNNING, flags=Flag.HALT, way=MemoryWay.BACKGROUND_SPARSE),
        [
            *(MAKE_A, OPEN_A, "prepare: pause the guest", SAVE.replace("stream", "sparse"), SWITCH),
            *("finish: end the old QEMU", SEAL, f"finish: {WRITE}"),
        ],
    ),
    "running, full system, --reuse-external, no background": (
        full(
            RUNNING,
            flags=Flag.REUSE_EXT,
            way=MemoryWay.BACKGROUND_SPARSE,
            files={"/i/a.s1": FileFacts(True, regular=True, size=MIB)},
        ),
        [
            *(OPEN_A, "prepare: write memory to /m/s1 (sparse, live)", SWITCH),
            *("finish: resume the guest", SEAL, f"finish: {WRITE}"),
        ],
    ),
    "paused, full system, no background": (
        full(PAUSED, way=MemoryWay.BACKGROUND_SPARSE),
        [
            *(MAKE_A, OPEN_A, SAVE.replace("stream", "sparse"), SWITCH),
            *("finish: reopen the disks of the paused guest", SEAL, f"finish: {WRITE}"),
        ],
    ),
    "running, full system, live": (
        full(RUNNING, flags=Flag.LIVE),
        [
            *(MAKE_A, OPEN_A, "prepare: be ready to take /i/a.s1 of disk vda back into /i/a.qcow2"),
            *("prepare: write memory to /m/s1 (stream, live)", "prepare: switch to the overlays of vda"),
            *("prepare: resume the guest", "prepare: wait until all memory is in /m/s1"),
            *(SEAL.replace("finish", "prepare"), f"commit: {WRITE}"),
        ],
    ),
    "running, full system, --halt": (
        full(RUNNING, flags=Flag.HALT),
        [
            *(MAKE_A, OPEN_A, "prepare: pause the guest", SAVE, SWITCH),
            *("finish: end the old QEMU", SEAL, f"finish: {WRITE}"),
        ],
    ),
    "running, full system, --no-metadata": (
        full(RUNNING, flags=Flag.NO_METADATA),
        [
            *(MAKE_A, OPEN_A, "prepare: pause the guest", SAVE, SWITCH),
            *("finish: resume the guest", SEAL, "finish: write it down: the domain's definition"),
        ],
    ),
    "running, memory without disks": (
        full(RUNNING, disks=(SnapshotDisk("vda", NO),)),
        [
            *("prepare: pause the guest", SAVE, "commit: declare the operation decided"),
            *("finish: resume the guest", SEAL, f"finish: {WRITE}"),
        ],
    ),
    "paused, disks only": (Ask(PAUSED), [MAKE_A, OPEN_A, SWITCH, f"finish: {WRITE}"]),
    "paused, full system": (
        full(PAUSED),
        [
            *(MAKE_A, OPEN_A, SAVE, SWITCH),
            *("finish: reopen the disks of the paused guest", SEAL, f"finish: {WRITE}"),
        ],
    ),
    "paused, full system, live is the same": (
        full(PAUSED, flags=Flag.LIVE),
        [
            *(MAKE_A, OPEN_A, SAVE, SWITCH),
            *("finish: reopen the disks of the paused guest", SEAL, f"finish: {WRITE}"),
        ],
    ),
    "on a tree, the old current gives its branch up": (
        Ask(tree=HISTORY),
        [MAKE_A, "commit: write it down: snapshot s1, snapshot s0, current s1"],
    ),
}


@pytest.mark.parametrize("case", PLANS)
def test_steps(case: str) -> None:
    ask, expected = PLANS[case]
    assert lines(ask.plan()) == expected


def test_overlays_inherit_size_and_shape() -> None:
    a, b = Ask(record(TWO)).plan().prepare
    assert a == CreateOverlay(
        "/i/a.s1", "qcow2", 8 * MIB, "/i/a.qcow2", "qcow2", cluster_size=65536, extended_l2=True
    )
    assert b == CreateOverlay("/i/b.s1", "qcow2", 4 * MIB, "/i/b.img", "raw")


def test_nodes_are_numbered_from_the_first_free_one() -> None:
    plan = Ask(record(TWO, Reason.RUNNING_BOOTED)).plan()
    assert plan.prepare[2:] == (
        AttachOverlay("vda", "/i/a.s1", "qcow2", "file", 7),
        AttachOverlay("vdb", "/i/b.s1", "qcow2", "file", 8),
    )
    assert isinstance(plan.commit, SwitchLayers)
    assert plan.commit.disks == (("vda", "/i/a.s1", 7), ("vdb", "/i/b.s1", 8))


def test_an_empty_file_that_was_there_is_taken_over() -> None:
    plan = Ask(files={"/i/a.s1": FileFacts(True, regular=True)}).plan()
    assert isinstance(plan.prepare[0], CreateOverlay)
    assert plan.prepare[0].existed


def test_a_volume_that_the_caller_made() -> None:
    entry = SnapshotDisk("vda", EXTERNAL, type="block", path="/dev/vg/new")
    files = {"/dev/vg/new": FileFacts(True, block_device=True)}
    plan = Ask(disks=(entry,), files=files).plan()
    assert isinstance(plan.prepare[0], CreateOverlay)
    assert plan.prepare[0].existed
    changed = write(plan).record
    assert changed is not None
    assert "<disk type='block'" in changed.config_xml
    assert "<source dev='/dev/vg/new'/>" in changed.config_xml


def test_the_snapshot_names_what_it_froze_and_what_was_put_on_top() -> None:
    asked = full(record(TWO, Reason.RUNNING_BOOTED), disks=(SnapshotDisk("vdb", NO),), tree=HISTORY)
    (snapshot, old) = write(asked.plan()).put_snapshots
    assert (snapshot.name, snapshot.parent, snapshot.creation_time) == ("s1", "s0", 1_700_000_000)
    assert (snapshot.state, snapshot.memory, snapshot.memory_file) == (
        SnapshotState.RUNNING,
        EXTERNAL,
        "/m/s1",
    )
    assert snapshot.disks == (
        SnapshotDisk("vda", EXTERNAL, path="/i/a.s1", format="qcow2"),
        SnapshotDisk("vdb", NO),
    )
    assert sources(snapshot.domain_xml) == {"vda": "/i/a.qcow2", "vdb": "/i/b.img"}
    assert sources(snapshot.inactive_domain_xml) == {"vda": "/i/a.qcow2", "vdb": "/i/b.img"}
    assert old == replace(S0, revert_disks=())


def test_ownership() -> None:
    plan = full(record(TWO, Reason.RUNNING_BOOTED), owned={"/i/a.qcow2": ImageRole.OVERLAY}).plan()
    assert write(plan).put_images == (
        ("/i/a.s1", ImageRole.OVERLAY),
        ("/i/b.img", ImageRole.ORIGIN),
        ("/i/b.s1", ImageRole.OVERLAY),
        ("/m/s1", ImageRole.MEMORY),
    )
    assert write(plan).delete_images == ()


def test_without_metadata_the_frozen_chain_becomes_the_users() -> None:
    images = {**IMAGES, "/i/a.qcow2": replace(IMAGES["/i/a.qcow2"], backing="/i/base")}
    images["/i/base"] = ImageFacts("/i/base", "raw", 8 * MIB)
    owned = {"/i/a.qcow2": ImageRole.OVERLAY, "/i/base": ImageRole.ORIGIN, "/i/b.img": ImageRole.ORIGIN}
    step = write(Ask(flags=Flag.DISK_ONLY | Flag.NO_METADATA, images=images, owned=owned).plan())
    assert step.delete_images == ("/i/a.qcow2", "/i/base")
    assert (step.put_images, step.put_snapshots, step.set_current) == ((), (), False)


@pytest.mark.parametrize(
    ("ask", "reason", "running"),
    [
        (Ask(), Reason.SHUTOFF_UNKNOWN, None),
        (Ask(RUNNING), Reason.RUNNING_BOOTED, True),
        (Ask(PAUSED), Reason.PAUSED_USER, True),
        (full(RUNNING), Reason.RUNNING_UNPAUSED, True),
        (full(PAUSED), Reason.PAUSED_USER, True),
        (full(RUNNING, flags=Flag.HALT), Reason.SHUTOFF_FROM_SNAPSHOT, False),
        (full(PAUSED, flags=Flag.HALT), Reason.SHUTOFF_FROM_SNAPSHOT, False),
        (Ask(RUNNING, flags=Flag.DISK_ONLY | Flag.HALT), Reason.SHUTOFF_FROM_SNAPSHOT, False),
    ],
)
def test_the_domain_afterwards(ask: Ask, reason: Reason, running: bool | None) -> None:
    after = write(ask.plan()).record
    assert after is not None
    assert after.reason is reason
    assert sources(after.config_xml) == {"vda": "/i/a.s1"}
    assert (after.instance is not None) == bool(running)
    assert (after.live_xml is not None) == bool(running)
    if running:
        assert sources(after.live_xml) == {"vda": "/i/a.s1"}


def test_a_definition_changed_meanwhile_keeps_its_own_images() -> None:
    domain = replace(
        RUNNING, config_xml=domain_xml(disk_xml("vda", "/i/other") + disk_xml("vdb", "/i/b.img"))
    )
    after = write(Ask(domain).plan()).record
    assert after is not None
    assert sources(after.config_xml) == {"vda": "/i/other", "vdb": "/i/b.img"}
    assert sources(after.live_xml) == {"vda": "/i/a.s1"}


def test_a_transient_domain_has_no_second_definition() -> None:
    snapshot = write(Ask(record(reason=Reason.RUNNING_BOOTED, persistent=False)).plan()).put_snapshots[0]
    assert snapshot.inactive_domain_xml is None


@pytest.mark.parametrize(
    ("ask", "forward"),
    [
        (Ask(RUNNING), True),  # it may have written to the overlay
        (Ask(PAUSED), False),
        (full(RUNNING), False),  # paused through the commit
        (full(RUNNING, flags=Flag.LIVE), False),
        (full(PAUSED), False),
        (Ask(), False),
    ],
)
def test_which_way_to_go_when_qemu_died_in_the_commit(ask: Ask, forward: bool) -> None:
    assert ask.plan().forward_if_gone is forward


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Ask(), "none"),
        (Ask(RUNNING), "none"),
        (Ask(PAUSED), "none (the guest is not running)"),
        (full(RUNNING), "while the memory is written (up to 64 MiB)"),
        (full(RUNNING, flags=Flag.LIVE), "short, at the end of writing the memory"),
        (full(PAUSED), "none (the guest is not running)"),
    ],
)
def test_the_pause_to_expect(ask: Ask, words: str) -> None:
    assert ask.plan().pause.split("; not ")[0] == words


def test_memory_is_written_as_the_guest_was() -> None:
    for domain, flags, live, was_running in (
        (RUNNING, Flag(0), False, True),
        (RUNNING, Flag.LIVE, True, True),
        (PAUSED, Flag.LIVE, False, False),
    ):
        plan = full(domain, flags=flags).plan()
        (save,) = [step for step in plan.prepare if isinstance(step, SaveMemory)]
        assert (save.live, save.was_running, save.way) == (live, was_running, MemoryWay.STREAM)
        assert sources(save.domain_xml) == {"vda": "/i/a.qcow2"}


# --- requests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "state", "memory"),
    [
        (Ask(), SnapshotState.SHUTOFF, NO),
        (Ask(RUNNING), SnapshotState.DISK_SNAPSHOT, NO),
        (Ask(PAUSED), SnapshotState.DISK_SNAPSHOT, NO),
        (full(RUNNING), SnapshotState.RUNNING, EXTERNAL),
        (full(PAUSED), SnapshotState.PAUSED, EXTERNAL),
        (full(record(reason=Reason.SHUTDOWN_USER)), SnapshotState.SHUTDOWN, EXTERNAL),
        (full(record(reason=Reason.CRASHED_PANICKED)), SnapshotState.CRASHED, EXTERNAL),
        (Ask(RUNNING, Flag(0)), SnapshotState.RUNNING, INTERNAL),
        (Ask(flags=Flag(0)), SnapshotState.SHUTOFF, NO),
    ],
)
def test_state_and_memory_of_the_snapshot(ask: Ask, state: SnapshotState, memory: Location) -> None:
    snapshot = ask.request().snapshot
    assert (snapshot.state, snapshot.memory) == (state, memory)


def test_names_by_default() -> None:
    now = "1700000000"
    assert Ask(name="").request().snapshot.name == now
    assert Ask(name=now).request().snapshot.name == now
    taken = SnapshotTree.of([Snapshot(now), Snapshot(f"{now}-2")])
    assert Ask(name=now, tree=taken).request().snapshot.name == f"{now}-3"
    assert Ask(name="", tree=taken).request().snapshot.disks[0].path == f"/i/a.{now}-3"


def test_the_paths_to_look_at() -> None:
    assert paths_of(full(record(TWO, Reason.RUNNING_BOOTED)).request()) == ("/i/a.s1", "/i/b.s1", "/m/s1")


REQUESTS: dict[str, tuple[Ask, type[Refused], str]] = {
    "halt a transient domain": (
        Ask(record(reason=Reason.RUNNING_BOOTED, persistent=False), Flag.DISK_ONLY | Flag.HALT),
        OperationInvalid,
        "Requested operation is not valid: cannot halt after transient domain snapshot",
    ),
    "slash": (
        Ask(name="a/b"),
        XmlDetail,
        "invalid snapshot name 'a/b': name can't contain '/'",
    ),
    "dot": (Ask(name=".a"), XmlDetail, "invalid snapshot name '.a': name can't start with '.'"),
    "live and shut off": (
        Ask(flags=Flag.LIVE),
        OperationUnsupported,
        "Operation not supported: live snapshot creation is supported only during full system snapshots",
    ),
    "live without memory": (
        Ask(RUNNING, Flag.LIVE | Flag.DISK_ONLY),
        OperationUnsupported,
        "Operation not supported: live snapshot creation is supported only during full system snapshots",
    ),
    "live and memory inside": (
        Ask(RUNNING, Flag.LIVE, memory=INTERNAL),
        OperationUnsupported,
        "Operation not supported: live snapshot creation is supported only during full system snapshots",
    ),
    "memory refused without --disk-only": (
        Ask(RUNNING, Flag(0), memory=NO),
        OperationUnsupported,
        "Operation not supported: internal snapshot of a running VM must include the memory state",
    ),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_requests_refused(case: str) -> None:
    ask, error, text = REQUESTS[case]
    with pytest.raises(error) as caught:
        ask.request()
    assert str(caught.value) == text
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("ask", "first"),
    [
        (Ask(RUNNING, Flag.REUSE_EXT), "be ready to delete internal snapshot 's1'"),
        (Ask(RUNNING, Flag.ATOMIC), "be ready to delete internal snapshot 's1'"),
        (Ask(RUNNING, Flag.DISK_ONLY | Flag.ATOMIC | Flag.HALT), "make overlay /i/a.s1 on /i/a.qcow2"),
        (full(RUNNING, flags=Flag.LIVE | Flag.HALT), "make overlay /i/a.s1 on /i/a.qcow2"),
    ],
)
def test_flags_that_mean_nothing_or_little_together_are_accepted(ask: Ask, first: str) -> None:
    assert sentence(ask.plan().prepare[0]).startswith(first)


def test_names_are_free_without_metadata() -> None:
    assert Ask(name="a/b", flags=Flag.DISK_ONLY | Flag.NO_METADATA).request().snapshot.name == "a/b"


def test_quiesce_of_a_domain_that_is_off_is_nothing_to_do() -> None:
    assert Ask(flags=Flag.DISK_ONLY | Flag.QUIESCE).request().snapshot.state is SnapshotState.SHUTOFF


# --- refusals of the plan ---------------------------------------------------------------------------------


def named(path: str = "/i/a.s1", **more: object) -> Ask:
    entry = SnapshotDisk("vda", EXTERNAL, path=path)
    return replace(Ask(disks=(entry,)), **more)  # type: ignore[arg-type]


def deep(layers: int) -> dict[str, ImageFacts]:
    paths = ["/i/a.qcow2", *(f"/i/{n}" for n in range(1, layers))]
    return {
        path: ImageFacts(path, "qcow2", MIB, backing=below)
        for path, below in zip(paths, [*paths[1:], None], strict=True)
    }


UNSUPPORTED = "unsupported configuration: "
FULL = FileFacts(True, regular=True, size=MIB)

REFUSALS: dict[str, tuple[Ask, type[Refused], str]] = {
    "a copy runs": (
        Ask(RUNNING, jobs=("vda: mirror",)),
        BlockCopyActive,
        "block copy still active: disk 'vda' already in active block job",
    ),
    "another job runs": (
        Ask(RUNNING, jobs=("vda: commit",)),
        OperationUnsupported,
        "Operation not supported: disk 'vda' already in active block job",
    ),
    "internal and disk-only": (
        Ask(RUNNING, disks=(SnapshotDisk("vda", INTERNAL),)),
        ConfigUnsupported,
        UNSUPPORTED + "active qemu domains require external disk snapshots; disk vda requested internal",
    ),
    "format": (
        Ask(disks=(SnapshotDisk("vda", EXTERNAL, format="raw"),)),
        ConfigUnsupported,
        UNSUPPORTED + "external snapshot format for disk vda is unsupported: raw",
    ),
    "qed": (
        Ask(disks=(SnapshotDisk("vda", EXTERNAL, format="qed"),)),
        ConfigUnsupported,
        UNSUPPORTED + "external snapshot format for disk vda is unsupported: qed",
    ),
    "shared disk": (
        Ask(record(disk_xml("vda", "/i/a.qcow2", more="<shareable/>"))),
        ConfigUnsupported,
        UNSUPPORTED + "shared access for disk 'vda' requires use of supported storage format",
    ),
    "image of another format": (
        Ask(record(TWO), Flag(0), (SnapshotDisk("vdb", INTERNAL),)),
        ConfigUnsupported,
        UNSUPPORTED + "internal snapshot for disk vdb unsupported for storage type raw",
    ),
    "network disk, internal": (
        Ask(record(ONE + NETWORK), Flag(0)),
        InternalRefused,
        f"internal error: internal inactive snapshots are not supported on {NBD_DISKS}",
    ),
    "network disk, external": (
        Ask(record(ONE + NETWORK), disks=(SnapshotDisk("vdb", EXTERNAL, path="/x"),)),
        InternalRefused,
        f"internal error: external inactive snapshots are not supported on {NBD_DISKS}",
    ),
    "disk of another kind, internal": (
        Ask(record(ONE + NVME), Flag(0)),
        InternalRefused,
        "internal error: internal inactive snapshots are not supported on 'nvme' disks",
    ),
    "disk of another kind, external": (
        Ask(record(ONE + NVME), disks=(SnapshotDisk("vdb", EXTERNAL, path="/x"),)),
        InternalRefused,
        "internal error: external inactive snapshots are not supported on 'nvme' disks",
    ),
    "internal, and a disk for the user": (
        Ask(disks=(SnapshotDisk("vdb", Location.MANUAL),), domain=record(TWO), flags=Flag(0)),
        ConfigUnsupported,
        UNSUPPORTED + "internal and full system snapshots require all disks to be selected for snapshot",
    ),
    "QEMU will not write this memory": (
        full(RUNNING, blockers=("reason one", "reason two")),
        OperationInvalid,
        "Requested operation is not valid: cannot migrate domain: reason one; reason two",
    ),
    "QEMU will not write this memory into the image": (
        Ask(RUNNING, Flag(0), blockers=("reason",)),
        OperationInvalid,
        "Requested operation is not valid: cannot migrate domain: reason",
    ),
    "memory, and a job of a disk that is left out": (
        full(
            record(TWO, Reason.RUNNING_BOOTED),
            disks=(SnapshotDisk("vda", NO),),
            jobs=("vda: mirror",),
        ),
        OperationInvalid,
        "Requested operation is not valid: domain has active block job",
    ),
    "target of a kind that needs more": (
        named(disks=(SnapshotDisk("vda", EXTERNAL, type="network", path="/x"),)),
        InternalRefused,
        "internal error: external inactive snapshots are not supported on 'network' disks",
    ),
    "target of a kind that needs more, running": (
        named(domain=RUNNING, disks=(SnapshotDisk("vda", EXTERNAL, type="network", path="/x"),)),
        InternalRefused,
        "internal error: external active snapshots are not supported on 'network' disks",
    ),
    "source with more than a path": (
        named(disks=(SnapshotDisk("vda", EXTERNAL, path="/x", source_xml="<source file='/x'/>"),)),
        ConfigUnsupported,
        UNSUPPORTED + "snapshot disk 'vda' asks for more than a path and a format (security label, metadata "
        "cache and the like), which is not supported",
    ),
    "driver with more than a type": (
        named(disks=(SnapshotDisk("vda", EXTERNAL, path="/x", driver_xml="<driver type='qcow2'/>"),)),
        ConfigUnsupported,
        UNSUPPORTED + "snapshot disk 'vda' asks for more than a path and a format (security label, metadata "
        "cache and the like), which is not supported",
    ),
    "passthrough": (
        Ask(
            record(
                disk_xml("sda", "/i/a.qcow2").replace("device='disk'", "device='lun'"), Reason.RUNNING_BOOTED
            )
        ),
        ConfigUnsupported,
        UNSUPPORTED + "external active snapshots are not supported on scsi passthrough devices",
    ),
    "transient disk": (
        Ask(record(disk_xml("vda", "/i/a.qcow2", more="<transient/>"), Reason.RUNNING_BOOTED)),
        OperationUnsupported,
        "Operation not supported: block jobs are not supported on transient disk 'vda'",
    ),
    "path cannot be looked at": (
        named(files={"/i/a.s1": FileFacts(False, error="Permission denied")}),
        SystemRefused,
        "unable to stat for disk vda: /i/a.s1: Permission denied",
    ),
    "folder is missing": (
        named(files={"/i/a.s1": FileFacts(False, error="No such file or directory")}),
        SystemRefused,
        "unable to stat for disk vda: /i/a.s1: No such file or directory",
    ),
    "nothing to reuse": (
        named(flags=Flag.DISK_ONLY | Flag.REUSE_EXT),
        SystemRefused,
        "missing existing file for disk vda: /i/a.s1: No such file or directory",
    ),
    "no such volume": (
        named(disks=(SnapshotDisk("vda", EXTERNAL, type="block", path="/dev/x"),)),
        OperationUnsupported,
        "Operation not supported: block device snapshot target '/dev/x' doesn't exist",
    ),
    "volume called file": (
        named(files={"/i/a.s1": FileFacts(True, block_device=True)}),
        ConfigUnsupported,
        UNSUPPORTED + "mismatch between configured type for snapshot disk 'vda' "
        "and the type of existing file '/i/a.s1'",
    ),
    "neither file nor volume": (
        named(flags=Flag.DISK_ONLY | Flag.REUSE_EXT, files={"/i/a.s1": FileFacts(True)}),
        ConfigUnsupported,
        UNSUPPORTED + "mismatch between configured type for snapshot disk 'vda' "
        "and the type of existing file '/i/a.s1'",
    ),
    "file called volume": (
        named(disks=(SnapshotDisk("vda", EXTERNAL, type="block", path="/x"),), files={"/x": FULL}),
        ConfigUnsupported,
        UNSUPPORTED + "mismatch between configured type for snapshot disk 'vda' "
        "and the type of existing file '/x'",
    ),
    "overlay exists": (
        named(files={"/i/a.s1": FULL}),
        ConfigUnsupported,
        UNSUPPORTED + "external snapshot file for disk vda already exists and is not a block device: /i/a.s1",
    ),
    "chain too deep": (
        Ask(images=deep(200)),
        OperationUnsupported,
        "Operation not supported: backing chains more than 200 layers deep are not supported for disk 'vda'",
    ),
    "image is gone": (
        Ask(images={"/i/a.qcow2": ImageFacts("/i/a.qcow2", "qcow2", missing=True)}),
        SystemRefused,
        "Cannot access storage file '/i/a.qcow2': No such file or directory",
    ),
    "memory file exists": (
        full(RUNNING, files={"/m/s1": FULL}),
        ConfigUnsupported,
        UNSUPPORTED + "external memory snapshot file already exists: /m/s1; "
        "delete it or choose another name with --memspec",
    ),
    "memory file cannot be looked at": (
        full(RUNNING, files={"/m/s1": FileFacts(False, error="Not a directory")}),
        SystemRefused,
        "Failed to create file '/m/s1': Not a directory",
    ),
    "no room for the memory": (
        full(RUNNING, free={"/m": 4 * MIB - 1}),
        SystemRefused,
        "Failed to create file '/m/s1': No space left on device",
    ),
    "a layer below is missing": (
        Ask(images=BROKEN),
        SystemRefused,
        "Cannot access backing file '/i/t.qcow2' of storage file '/i/a.qcow2': No such file or directory",
    ),
    "a layer below is broken": (
        Ask(images=BROKEN | {"/i/t.qcow2": replace(BROKEN["/i/t.qcow2"], problem="Image is not in qcow2")}),
        SystemRefused,
        "Cannot access backing file '/i/t.qcow2' of storage file '/i/a.qcow2': Image is not in qcow2",
    ),
    "a layer below an internal snapshot is missing": (
        Ask(images=BROKEN, flags=Flag(0)),
        SystemRefused,
        "Cannot access backing file '/i/t.qcow2' of storage file '/i/a.qcow2': No such file or directory",
    ),
    "an empty drive": (
        Ask(
            disks=(SnapshotDisk("sdb", EXTERNAL, path="/i/cd.s1"),),
            domain=record(ONE + cdrom_xml("sdb", None)),
        ),
        ConfigUnsupported,
        UNSUPPORTED + "disk 'sdb' has no medium, so there is nothing to take a snapshot of",
    ),
    "only an empty drive for the memory": (
        Ask(
            record(ONE + cdrom_xml("sdb", None), Reason.RUNNING_BOOTED),
            Flag(0),
            (SnapshotDisk("vda", NO), SnapshotDisk("sdb", INTERNAL)),
        ),
        ConfigUnsupported,
        UNSUPPORTED + "internal and full system snapshots require all disks to be selected for snapshot",
    ),
    "no disk of a running domain": (
        Ask(RUNNING, disks=(SnapshotDisk("vda", NO),)),
        ConfigUnsupported,
        UNSUPPORTED + "nothing selected for snapshot",
    ),
    "no disk": (
        Ask(disks=(SnapshotDisk("vda", NO),)),
        ConfigUnsupported,
        UNSUPPORTED + "nothing selected for snapshot",
    ),
    "name in use": (
        Ask(name="s0", tree=HISTORY),
        OperationFailed,
        "operation failed: domain moment s0 already exists",
    ),
    "one overlay for two disks": (
        Ask(
            record(TWO),
            disks=(SnapshotDisk("vda", EXTERNAL, path="/x"), SnapshotDisk("vdb", EXTERNAL, path="/x")),
        ),
        ConfigUnsupported,
        UNSUPPORTED + "external snapshot file for disk vdb is the overlay of disk 'vda': /x",
    ),
    "an overlay for the memory": (
        full(RUNNING, memory_file="/i/a.s1"),
        ConfigUnsupported,
        UNSUPPORTED + "external memory snapshot file is the overlay of disk 'vda': /i/a.s1",
    ),
    "the disk itself as its overlay": (
        named("/i/a.qcow2", flags=Flag.DISK_ONLY | Flag.REUSE_EXT, files={"/i/a.qcow2": FULL}),
        ConfigUnsupported,
        UNSUPPORTED + "external snapshot file for disk vda is an image of this domain: /i/a.qcow2",
    ),
    "the volume itself as its overlay": (
        named(
            domain=record(
                "<disk type='block' device='disk'><driver type='raw'/><source dev='/dev/x'/>"
                "<target dev='vda'/></disk>"
            ),
            disks=(SnapshotDisk("vda", EXTERNAL, type="block", path="/dev/x"),),
            images={"/dev/x": ImageFacts("/dev/x", "raw", MIB, block_device=True)},
            files={"/dev/x": FileFacts(True, block_device=True)},
        ),
        ConfigUnsupported,
        UNSUPPORTED + "external snapshot file for disk vda is an image of this domain: /dev/x",
    ),
    "an image of another domain": (
        named("/j/other", elsewhere=frozenset({"/j/other"})),
        ConfigUnsupported,
        UNSUPPORTED + "external snapshot file for disk vda is an image of another domain: /j/other",
    ),
    "memory over another snapshot's, which has been mislaid": (
        full(RUNNING, name="s2", tree=SnapshotTree.of([Snapshot("s1", memory_file="/m/s1")])),
        ConfigUnsupported,
        UNSUPPORTED + "external memory snapshot file is the memory of snapshot 's1': /m/s1",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str) -> None:
    ask, error, text = REFUSALS[case]
    request = ask.request()
    with pytest.raises(error) as caught:
        plan_create(ask.facts(), request)
    assert str(caught.value) == text
    assert type(caught.value) is error


def test_what_keeps_qemu_from_writing_memory_does_not_matter_without_it() -> None:
    assert isinstance(Ask(RUNNING, blockers=("reason",)).plan().commit, SwitchLayers)


def test_a_job_on_a_disk_that_is_left_out_does_not_matter() -> None:
    ask = Ask(record(TWO, Reason.RUNNING_BOOTED), disks=(SnapshotDisk("vda", NO),), jobs=("vda: mirror",))
    commit = ask.plan().commit
    assert isinstance(commit, SwitchLayers)
    assert commit.disks == (("vdb", "/i/b.s1", 7),)


def test_a_chain_of_199_layers_takes_one_more() -> None:
    assert Ask(images=deep(199)).plan().prepare


def test_read_only_media_are_no_part_of_it() -> None:
    plan = Ask(record(ONE + cdrom_xml("sda", "/i/cd.iso") + cdrom_xml("sdb", None))).plan()
    assert [step.path for step in plan.prepare if isinstance(step, CreateOverlay)] == ["/i/a.s1"]
    assert [disk.location for disk in write(plan).put_snapshots[0].disks] == [EXTERNAL, NO, NO]


def test_memory_alone_commits_by_the_journal() -> None:
    assert full(RUNNING, disks=(SnapshotDisk("vda", NO),)).plan().commit == Declare()
