"""`script/replay [CONNECTION...]`: plays all that was recorded, and tells every difference with its reason.

CONNECTION: the beginning of a name, such as `c05` or `d`.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests import daemon
from tests.parity.oracle import end_guests
from tests.server.replay.known import reason
from tests.server.replay.player import Player, read


def main(wanted: list[str]) -> int:
    """The number of differences without a reason decides."""
    chosen = [one for one in read() if not wanted or one.name.startswith(tuple(wanted))]
    reasons: Counter[str] = Counter()
    alike = strange = 0
    with tempfile.TemporaryDirectory(prefix="vs-replay-") as text:
        folder = Path(text)
        process = daemon.start(folder / "root", folder / "sock")
        try:
            player = Player(folder / "sock", folder)
            for connection in chosen:
                differences = list(player.play(connection))
                alike += not differences
                for one in differences:
                    why = reason(one)
                    strange += why is None
                    reasons[why or "?"] += 1
                    print(f"{one}\n    {why or '?'}")
        finally:
            daemon.stop(process)
            end_guests(folder)
    calls = sum(len(one.calls) for one in chosen)
    print(f"{len(chosen)} connections, {alike} of them alike in every answer; {calls} calls")
    for why, count in reasons.most_common():
        print(f"{count:5} {why}")
    return min(strange, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
