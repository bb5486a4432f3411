"""Ctrl-C and progress, in a process of its own on a terminal of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, sys
sys.path.insert(0, {root!r})
from tests.api.fake_service import FakeService
import virtsnap.api.connect
service = FakeService()
service.add("demo", running=True)
{more}
async def open_service(uri=None, readonly=False):
    return service
virtsnap.api.connect.open_service = open_service
from virtsnap.cli.main import main
status = main(["snapshot-create-as", "demo", "s"])
print("undone", service.undone, "left", len(next(iter(service.domains.values())).tree))
sys.exit(status)
"""

HELD = "service.hold = asyncio.Event()"


def _start(more: str, stderr: int) -> subprocess.Popen[bytes]:
    code = PROGRAM.format(root=str(ROOT), more=more)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=stderr)


def _terminal_text(master: int) -> bytes:
    text = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:  # EIO: the last writer has closed the other side.
            return text
        if not data:
            return text
        text += data


def test_progress_is_shown_on_a_terminal() -> None:
    master, slave = os.openpty()
    with _start("", slave) as process:
        os.close(slave)
        assert process.stdout is not None
        out = process.stdout.read()
        text = _terminal_text(master)
    os.close(master)
    assert process.returncode == 0
    assert text == b"\rSnapshot: [42.10 %]\rSnapshot: [100.00 %]\r\n"
    assert out.startswith(b"Domain snapshot s created\n")


def test_no_progress_into_a_pipe() -> None:
    with _start("", subprocess.PIPE) as process:
        assert process.communicate()[1] == b""


def test_interrupt_undoes_and_ends_with_130() -> None:
    master, slave = os.openpty()
    with _start(HELD, slave) as process:
        os.close(slave)
        # The progress line says that the operation has begun.
        assert os.read(master, 4096).startswith(b"\rSnapshot: [42.10 %]")
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        out = process.stdout.read()
        text = _terminal_text(master)
    os.close(master)
    assert (process.returncode, out) == (130, b"undone 1 left 0\n")
    assert text.endswith(b"\r\nerror: interrupted\r\n")
    assert b"Traceback" not in text
