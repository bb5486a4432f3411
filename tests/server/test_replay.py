"""What clients have asked a libvirtd, asked of virtsnapd; `script/replay` plays all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import daemon
from tests.parity.oracle import end_guests
from tests.server.replay.known import reason
from tests.server.replay.player import Player, read

pytestmark = pytest.mark.real
GROUPS = {
    "host and domains": "b",
    "snapshots": "c",
    "saves and block jobs": "d",
    "more snapshots": "e",
    "Python and virt-install": "f",
}
"""The beginnings of connections' names; what these leave out asks the same again."""


@pytest.fixture
def player(tmp_path: Path) -> Iterator[Player]:
    process = daemon.start(tmp_path / "root", tmp_path / "sock")
    try:
        yield Player(tmp_path / "sock", tmp_path)
    finally:
        daemon.stop(process)
        end_guests(tmp_path)
    assert "Traceback" not in Path(f"{tmp_path}/sock.log").read_text()


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
def test_answers_have_the_shape_of_libvirts(player: Player, group: str) -> None:
    connections = [one for one in read() if one.name.startswith(group)]
    found = [one for connection in connections for one in player.play(connection)]
    assert [str(one) for one in found if reason(one) is None] == []
    assert len(found) < sum(len(one.calls) for one in connections) / 10


def test_the_record_is_whole() -> None:
    connections = read()
    assert len(connections) == 639
    assert sum(len(one.calls) for one in connections) == 8573
    assert len({call.name for one in connections for call in one.calls}) > 200
