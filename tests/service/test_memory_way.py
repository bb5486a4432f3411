"""How a snapshot's memory was written is told; what cannot be in the background falls to the next way."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.service.local_domain import BareDomain, skip_without
from virtsnap.formats.save_image import SaveFormat
from virtsnap.model.errors import NotCaptured, NotConverged
from virtsnap.model.flags import SnapshotCreate
from virtsnap.model.job import JobStats
from virtsnap.plan import memory_way
from virtsnap.qemu import background, dirty_rate, memory
from virtsnap.qemu.memory import read_header
from virtsnap.qemu.monitor import Monitor, QmpCommandFailed
from virtsnap.service.interface import MadeSnapshot

pytestmark = pytest.mark.real

_CANNOT = (
    "not background: the kernel cannot protect this guest's memory from being changed while it is written"
)
_NEXT = {"in-place", "paused"}
"""What comes after `background`, with QEMU 9.0 and before it."""


async def take(domain: BareDomain, name: str, xml: str | None = None) -> MadeSnapshot:
    made = await domain.service.snapshot_create_xml(domain.uuid, xml or domain.full_xml(name))
    assert isinstance(made, MadeSnapshot)
    return made


async def test_the_best_is_told_without_a_reason(bare: BareDomain, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "virtsnap")
    await bare.start()
    made = await take(bare, "s")
    if made.memory_mode in _NEXT:
        pytest.skip("needs QEMU 9.0, and userfaultfd for this user")
    assert (made, made.memory_mode, made.memory_reason) == ("s", "background", "")
    job = await bare.service.job_info(bare.uuid, JobStats.COMPLETED | JobStats.KEEP_COMPLETED)
    assert job.stats()["memory_mode"] == "background"
    assert "memory_reason" not in job.stats()
    assert "snapshot 's': memory mode 'background'" in caplog.messages
    said = await bare.cli("snapshot-create-as", "bare", "t", "--memspec", f"{bare.folder}/t.mem", "--json")
    assert json.loads(said.out) == {"name": "t", "memory": {"mode": "background", "reason": None}}
    plain = await bare.cli("snapshot-create-as", "bare", "u", "--memspec", f"{bare.folder}/u.mem")
    assert plain.out == "Domain snapshot u created\n"
    made = await bare.service.snapshot_create_xml(  # type: ignore[assignment]
        bare.uuid, "<domainsnapshot><name>d</name></domainsnapshot>", SnapshotCreate.DISK_ONLY
    )
    assert (made, made.memory_mode) == ("d", "")


async def test_userfaultfd_refused(
    bare: BareDomain, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await skip_without("sparse")
    caplog.set_level(logging.INFO, "virtsnap")
    words = "Background-snapshot is not supported by host kernel"
    real = background.set_capabilities

    async def refuse(monitor: Monitor, wanted: dict[str, bool]) -> None:
        if wanted.get(background.BACKGROUND):
            raise QmpCommandFailed("migrate-set-capabilities", "GenericError", words)
        await real(monitor, wanted)

    monkeypatch.setattr(background, "set_capabilities", refuse)
    await bare.start()
    made = await take(bare, "s")
    assert made.memory_mode in _NEXT
    assert made.memory_reason.startswith(f"{_CANNOT} (QEMU: {words})")
    assert any(made.memory_reason in message for message in caplog.messages)
    job = await bare.service.job_info(bare.uuid, JobStats.COMPLETED | JobStats.KEEP_COMPLETED)
    assert (job.memory_mode, job.memory_reason) == (made.memory_mode, made.memory_reason)
    await bare.service.snapshot_revert(bare.uuid, "s")


async def test_memory_that_does_not_qualify(bare: BareDomain) -> None:
    """A guest that runs on a mapped image: real words of a real QEMU."""
    await bare.start()
    first = await take(bare, "s")
    if first.memory_mode != "background":
        pytest.skip("needs QEMU 9.0, and userfaultfd for this user")
    await bare.service.snapshot_revert(bare.uuid, "s")
    again = await take(bare, "again")
    if again.memory_mode == "background":
        pytest.skip("this QEMU reads the image, or the file system's memory can be protected")
    assert again.memory_mode == "in-place"
    assert again.memory_reason.startswith(f"{_CANNOT} (QEMU: ")
    assert await bare.names() == {"s", "again"}


async def test_a_capture_that_cannot_begin(bare: BareDomain, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU has agreed to it and then cannot: nothing is left of the attempt, and the next way is taken."""
    await bare.start()

    async def fail(self: Any) -> None:
        raise NotCaptured("job 'snapshot' failed: out of luck")

    monkeypatch.setattr(background.Capture, "_begin", fail)
    made = await take(bare, "s")
    assert made.memory_mode in _NEXT
    assert "out of luck" in made.memory_reason or made.memory_mode == "paused"
    assert await bare.names() == {"s"}
    assert read_header(f"{bare.folder}/s.mem").format in (SaveFormat.SPARSE, SaveFormat.RAW)
    await bare.service.snapshot_revert(bare.uuid, "s")


async def test_one_that_was_asked_for_and_cannot_begin(
    bare: BareDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bare.start()
    if (await take(bare, "first")).memory_mode != "background":
        pytest.skip("needs QEMU 9.0, and userfaultfd for this user")
    before = bare.files()

    async def fail(self: Any) -> None:
        raise NotCaptured("job 'snapshot' failed: out of luck")

    monkeypatch.setattr(background.Capture, "_begin", fail)
    xml = bare.full_xml("s").replace("<memory ", "<memory mode='background' ")
    with pytest.raises(NotCaptured, match="out of luck"):
        await take(bare, "s", xml)
    assert await bare.names() == {"first"}
    assert bare.files() == before
    assert not Path(f"{bare.folder}/s.mem").exists()


async def test_a_busy_guest(bare: BareDomain, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place, as long as that comes to an end; else all of it is undone."""
    await skip_without("sparse")
    await bare.start()
    if (await take(bare, "idle")).memory_mode != "background":
        pytest.skip("needs QEMU 9.0, and userfaultfd for this user")

    async def busy(monitor: Monitor, little: int) -> int:
        return little

    monkeypatch.setattr(memory_way, "LITTLE_BYTES", 0)
    monkeypatch.setattr(dirty_rate, "sample", busy)
    made = await take(bare, "busy")
    assert made.memory_mode == "in-place"
    assert made.memory_reason.startswith("not background: the guest changes ")
    real = memory.finished
    tries = []

    async def endless(*arguments: Any, gives_up: bool, **options: Any) -> dict[str, Any]:
        tries.append(gives_up)
        if gives_up:
            raise NotConverged("it would stand still for long")
        return await real(*arguments, **options)

    monkeypatch.setattr(memory, "finished", endless)
    made = await take(bare, "faster")
    assert (made.memory_mode, tries) == ("background", [True])
    assert made.memory_reason == "not in-place: it would stand still for long"

    async def fail(self: Any) -> None:
        raise NotCaptured("out of luck")

    monkeypatch.setattr(background.Capture, "_begin", fail)
    made = await take(bare, "whatever")
    assert (made.memory_mode, tries) == ("in-place", [True, True, False])
    assert "out of luck" in made.memory_reason
    assert await bare.names() == {"idle", "busy", "faster", "whatever"}
    await bare.service.snapshot_revert(bare.uuid, "busy")
