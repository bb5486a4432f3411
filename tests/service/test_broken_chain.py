"""A layer of a shut off domain that is gone or damaged: what needs it is refused, and nothing happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.local_domain import BareDomain
from virtsnap.model.errors import SystemRefused

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
