"""Two processes on one store, and one that is killed at any instant."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtsnap.model.domain import DomainRecord
from virtsnap.store.database import open_store

_COUNT = """
import sys
from pathlib import Path
from virtsnap.model.domain import DomainRecord
from virtsnap.model.snapshot import Snapshot
from virtsnap.store.database import open_store

root, uuid, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store = open_store(root)
with store.transaction() as tx:
    tx.put_domain(DomainRecord(uuid, "guest " + uuid, "<domain/>"))
for _ in range(rounds):
    with store.transaction() as tx:
        print(tx.next_domain_id())
"""

_WRITE = """
import sys
from pathlib import Path
from virtsnap.model.snapshot import Snapshot
from virtsnap.store.database import open_store

store = open_store(Path(sys.argv[1]))
number = len(store.tree("u"))
while True:
    with store.transaction() as tx:
        tx.open_journal("u", str(number), "{}", "{}", "writer")
        tx.put_snapshot("u", Snapshot(str(number), number))
        tx.put_image("u", f"/image.{number}", "overlay")
        tx.set_current("u", str(number))
        tx.close_journal("u", "done")
    print(number, flush=True)
    number += 1
"""


@contextlib.contextmanager
def python(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_processes_that_make_the_store_and_write_at_once(tmp_path: Path) -> None:
    root, rounds = str(tmp_path / "root"), 40
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(python(_COUNT, root, f"u{n}", str(rounds))) for n in range(3)]
        results = [writer.communicate(timeout=60) for writer in writers]
    assert [stderr for _, stderr in results] == ["", "", ""]
    given = [int(line) for stdout, _ in results for line in stdout.split()]
    assert sorted(given) == list(range(1, 3 * rounds + 1)), "a domain id was given twice or skipped"
    store = open_store(tmp_path / "root")
    assert [record.uuid for record in store.domains()] == ["u0", "u1", "u2"]
    store.close()


@pytest.mark.parametrize("after", [1, 2, 5, 9, 14])
def test_a_killed_writer_leaves_whole_transactions(tmp_path: Path, after: int) -> None:
    store = open_store(tmp_path)
    with store.transaction() as tx:
        tx.put_domain(DomainRecord("u", "guest", "<domain/>"))
    store.close()
    with python(_WRITE, str(tmp_path)) as writer:
        assert writer.stdout is not None
        for _ in range(after):
            reported = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        writer.wait(timeout=60)
        # Not communicate(): it passes by the lines that are buffered here already.
        assert writer.stderr is not None
        rest, stderr = writer.stdout.read(), writer.stderr.read()
    assert stderr == ""
    reported = max([reported, *(int(line) for line in rest.split())])
    tree = store.tree("u")
    count = len(tree)
    assert count - 1 in (reported, reported + 1), "a transaction that was reported is lost"
    assert tree.current == str(count - 1)
    assert sorted(store.images("u")) == sorted(f"/image.{number}" for number in range(count))
    assert store.journal("u") is None
    assert store.history("u")[0].entry.operation == str(count - 1)
    assert store._connection().execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    store.close()
