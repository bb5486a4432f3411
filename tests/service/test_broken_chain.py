"""A layer of a shut off domain that is gone, damaged or in use: what needs it is refused beforehand."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

import pytest

from tests.service.local_domain import BareDomain
from virtsnap.model.errors import OperationFailed, SystemRefused

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    ("damaged", "why"), [(False, "No such file or directory"), (True, "Image is not in qcow2 format")]
)
async def test_a_layer_in_the_middle(bare: BareDomain, damaged: bool, why: str) -> None:
    for number, name in enumerate(("s1", "s2", "s3"), start=1):
        await bare.disk_only(name)
        await bare.put(number)
    layer = Path(bare.folder / "vda.s1")
    kept = layer.rename(bare.folder / "kept")
    if damaged:
        layer.write_bytes(bytes(kept.stat().st_size))
    before = bare.files()
    top = bare.folder / "vda.s3"
    for work, image in (
        (bare.disk_only("s4"), top),
        (bare.service.snapshot_delete(bare.uuid, "s3"), top),
        (bare.service.snapshot_revert(bare.uuid, "s3"), bare.folder / "vda.s2"),
    ):
        with pytest.raises(SystemRefused) as caught:
            await work
        assert str(caught.value) == f"Cannot access backing file '{layer}' of storage file '{image}': {why}"
    assert bare.files() == before
    assert await bare.names() == {"s1", "s2", "s3"}
    kept.rename(layer)
    await bare.service.snapshot_delete(bare.uuid, "s2")
    assert await bare.got() == [3, 3]


def end(pid: int) -> None:
    """End a process that is not a child of ours, and wait for it."""
    process = os.pidfd_open(pid)
    # qemu-nbd may forget a SIGTERM that comes just before its main loop.
    signal.pidfd_send_signal(process, signal.SIGKILL)
    assert select.select([process], [], [], 30)[0]
    os.close(process)


@pytest.mark.parametrize("only_reads", [True, False])
async def test_a_layer_that_somebody_else_has_open(bare: BareDomain, only_reads: bool) -> None:
    for number, name in enumerate(("s1", "s2"), start=1):
        await bare.disk_only(name)
        await bare.put(number)
    layer = bare.folder / "vda.s1"
    note = bare.folder / "pid"
    words = ["--fork", "--persistent", f"--pid-file={note}", f"--socket={bare.folder}/nbd", "-f", "qcow2"]
    subprocess.run(["qemu-nbd", *words, *(["-r"] if only_reads else []), layer], check=True)
    try:
        with pytest.raises(OperationFailed, match=r"Is another process using the image .*vda.s1"):
            await bare.service.snapshot_delete(bare.uuid, "s2")
        assert await bare.names() == {"s1", "s2"}
    finally:
        end(int(note.read_text()))
    await bare.service.snapshot_delete(bare.uuid, "s2")
    assert await bare.got() == [2, 2]
