from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from virtsnap.cli.shell import WELCOME

ROOT = Path(__file__).parents[2]


def _type(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_lines_run_over_one_connection_until_quit(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _type(monkeypatch, "domid demo\nbogus\ndomid other; domid demo\nquit\ndomid demo\n")
    result = cli()
    assert result.status == 0
    assert result.out == WELCOME + ("virtsnap # 1\n\nvirtsnap # virtsnap # -\n\n1\n\nvirtsnap # ")
    assert result.err == "error: unknown command: 'bogus'\n"
    assert len(cli.opened) == 1
    assert cli.service.closed


def test_the_end_of_input_ends_it_with_the_last_status(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _type(monkeypatch, "destroy other\n")
    assert cli("-q").status == 1
    _type(monkeypatch, "")
    result = cli("-q", "-r")
    assert (result.status, result.out) == (0, "virtsnap > \n")


PROGRAM = """
import asyncio, sys
sys.path.insert(0, {root!r})
from tests.api.fake_service import FakeService
import virtsnap.api.connect
service = FakeService()
service.add("demo", running=True)
service.hold = asyncio.Event()
async def open_service(uri=None, readonly=False):
    return service
virtsnap.api.connect.open_service = open_service
from virtsnap.cli.main import main
sys.exit(main([]))
"""


def test_interrupt_stops_the_command_and_not_the_shell() -> None:
    keyboard, terminal = os.openpty()
    code = PROGRAM.format(root=str(ROOT))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=terminal, stdout=terminal, stderr=terminal
    ) as process:

        def wait_for(wanted: bytes) -> None:
            text = b""
            while wanted not in text:
                text += os.read(keyboard, 4096)

        try:
            wait_for(b"virtsnap # ")
            os.write(keyboard, b"snapshot-create-as demo s\n")
            wait_for(b"Snapshot: [42.10 %]")
            process.send_signal(signal.SIGINT)
            wait_for(b"error: interrupted\r\nvirtsnap # ")
            os.write(keyboard, b"snapshot-list demo --name; quit\n")
            assert process.wait() == 0
        finally:
            process.kill()
    os.close(keyboard)
    os.close(terminal)
