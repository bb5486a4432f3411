"""Plans of domains with a TPM: whose state it works on, and when that becomes the domain's."""

from __future__ import annotations

from dataclasses import replace

from tests.plan.scene import Scene
from virtsnap.model.facts import DomainFacts, ImageRole
from virtsnap.model.flags import SnapshotRevert as Flag
from virtsnap.model.steps import KeepTpm, KillQemu, Plan, RestoreFile, ResumeGuest, StartQemu

TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"


def order(steps: object) -> list[str]:
    """The kinds of steps that matter here, in order."""
    assert isinstance(steps, tuple)
    kinds = (KillQemu, StartQemu, KeepTpm, RestoreFile, ResumeGuest)
    return [type(step).__name__ for step in steps if isinstance(step, kinds)]


def start_of(plan: Plan) -> StartQemu:
    return next(step for step in plan.steps if isinstance(step, StartQemu))


def test_from_memory_beside_the_old_one() -> None:
    scene = Scene(running=True, devices=TPM)
    scene.create("s1", memory=True)
    plan = scene.plan_revert("s1")
    assert start_of(plan).own_tpm
    assert order(plan.prepare) == ["StartQemu"]
    assert order(plan.finish) == ["KillQemu", "KeepTpm", "ResumeGuest"]
    keep = next(step for step in plan.finish if isinstance(step, KeepTpm))
    assert keep.run_dir == start_of(plan).run_dir
    assert keep.path.endswith(f"/swtpm/{scene.book.record.uuid}/tpm2/tpm2-00.permall")


def test_a_boot_needs_the_state_alone() -> None:
    scene = Scene(running=True, devices=TPM)
    scene.create("s1")
    plan = scene.plan_revert("s1", Flag.RUNNING)
    assert not start_of(plan).own_tpm
    assert order(plan.prepare) == []
    assert order(plan.finish) == ["KillQemu", "StartQemu", "ResumeGuest"]
    assert "the TPM's state" in plan.pause


def test_a_copy_is_restored_between_the_old_and_the_new() -> None:
    scene = Scene(running=True, devices=TPM)
    scene.create("s1")
    copy = f"/swtpm/{scene.book.record.uuid}/tpm2.s1"

    def kept(facts: DomainFacts) -> DomainFacts:
        return replace(facts, owned={**facts.owned, f"{facts.root}{copy}": ImageRole.NVRAM})

    running = scene.plan_revert("s1", Flag.RUNNING, change=kept)
    assert order(running.finish) == ["KillQemu", "RestoreFile", "StartQemu", "ResumeGuest"]
    off = scene.plan_revert("s1", change=kept)
    assert order(off.finish) == ["KillQemu", "RestoreFile"]


def test_without_a_tpm_nothing_of_it() -> None:
    scene = Scene(running=True)
    scene.create("s1", memory=True)
    assert "KeepTpm" not in order(scene.plan_revert("s1").finish)
