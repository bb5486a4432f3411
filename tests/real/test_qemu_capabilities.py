"""`qemu.capabilities` asking real binaries, and programs that are none."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from tests.real.real_qemu import EMULATOR
from virtsnap.model.errors import ConfigUnsupported, InternalRefused, SystemRefused
from virtsnap.qemu import capabilities
from virtsnap.qemu.monitor import Monitor, MonitorLost

pytestmark = pytest.mark.real


async def test_probe_and_its_cache(tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "cache"
    found = await capabilities.probe(EMULATOR, cache=cache)
    assert found.version >= (7, 2, 0)
    assert found.machine_aliases["q35"].startswith("pc-q35-")
    assert found.canonical_machine("pc") == found.default_machine
    assert found.canonical_machine(found.machine_aliases["q35"]) == found.machine_aliases["q35"]
    assert found.has_mapped_ram == (found.version >= (9, 0, 0))
    assert found.has_blockdev_set_active == (found.version >= (10, 0, 0))
    with pytest.raises(ConfigUnsupported, match="does not support machine type 'none-such'"):
        found.canonical_machine("none-such")
    [file] = cache.iterdir()
    # What the second call says is what the file says: so it asked nobody.
    file.write_text(file.read_text().replace('"default_machine": "', '"default_machine": "my-'))
    assert (await capabilities.probe(EMULATOR, cache=cache)).default_machine == f"my-{found.default_machine}"
    file.write_text("{")
    assert await capabilities.probe(EMULATOR, cache=cache) == found
    assert await capabilities.probe(EMULATOR, cache=cache) == found


async def test_a_changed_binary_is_asked_again(tmp_path: Path) -> None:
    script = tmp_path / "qemu"
    marks = tmp_path / "marks"
    script.write_text(f'#!/bin/sh\necho x >> {marks}\nexec {EMULATOR} "$@"\n')
    script.chmod(0o755)
    for _ in range(2):
        await capabilities.probe(str(script), cache=tmp_path / "cache")
    assert marks.read_text() == "x\n"
    script.write_text(script.read_text() + "\n")
    await capabilities.probe(str(script), cache=tmp_path / "cache")
    assert marks.read_text() == "x\nx\n"


async def test_missing_and_unusable_binaries(tmp_path: Path) -> None:
    with pytest.raises(SystemRefused) as caught:
        await capabilities.probe("/usr/bin/qemu-none")
    assert str(caught.value) == "Cannot check QEMU binary /usr/bin/qemu-none: No such file or directory"
    (tmp_path / "text").write_text("no program")
    with pytest.raises(SystemRefused, match="is not executable"):
        await capabilities.probe(str(tmp_path / "text"))
    with pytest.raises(InternalRefused, match="Failed to probe QEMU binary with QMP"):
        await capabilities.probe("/bin/false")


@pytest.mark.parametrize("deaths", [1, 2])
async def test_one_that_dies_of_the_question_is_asked_once_more(
    monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    died = []
    execute = Monitor.execute

    async def dies(self: Monitor, command: str, **arguments: Any) -> Any:
        if command == "query-machines" and len(died) < deaths:
            died.append(command)
            with contextlib.suppress(MonitorLost):
                await execute(self, "quit")
        return await execute(self, command, **arguments)

    monkeypatch.setattr(Monitor, "execute", dies)
    if deaths == 1:
        assert (await capabilities.probe(EMULATOR)).version >= (7, 2, 0)
    else:
        with pytest.raises(InternalRefused, match="Failed to probe QEMU binary with QMP: End of file from"):
            await capabilities.probe(EMULATOR)
    assert len(died) == deaths


async def test_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "OLDEST", (99, 0, 0))
    with pytest.raises(ConfigUnsupported, match=r"is too old: 7\.2"):
        await capabilities.probe(EMULATOR)
    # The answer is kept all the same, and refused again.
    for _ in range(2):
        with pytest.raises(ConfigUnsupported):
            await capabilities.probe(EMULATOR, cache=tmp_path)


def test_processor_flags() -> None:
    assert capabilities.cpu_virtualizes("processor : 0\nflags\t\t: fpu vmx sse\n")
    assert capabilities.cpu_virtualizes("flags : svm")
    assert not capabilities.cpu_virtualizes("flags : fpu\nvmx flags : vnmi\nbugs : svm\n")
    assert not capabilities.cpu_virtualizes("")
