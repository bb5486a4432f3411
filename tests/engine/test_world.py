"""What a run folder tells of its process."""

import json
from pathlib import Path

import pytest

from virtsnap.engine.world import instance_path, read_instance
from virtsnap.model.domain import Instance

NOTED = {"id": 3, "pid": 17, "start_ticks": 5, "boot_id": "b", "chains": {}}


def test_the_noted_process(tmp_path: Path) -> None:
    Path(instance_path(str(tmp_path))).write_text(json.dumps(NOTED))
    assert read_instance(str(tmp_path)) == Instance(3, 17, 5, "b", str(tmp_path))


@pytest.mark.parametrize("left", ["", json.dumps(NOTED)[:20], "\0" * 90])
def test_a_note_that_a_power_cut_kept_from_the_disk_names_no_process(tmp_path: Path, left: str) -> None:
    Path(instance_path(str(tmp_path))).write_text(left)
    assert read_instance(str(tmp_path)) is None
