"""The console: this terminal is one pty, the guest's serial line another one, or a socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tty
from pathlib import Path

from tests.cli.conftest import Cli
from virtsnap.cli.tty import escape_byte

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from tests.api.fake_service import FakeService
import virtsnap.api.connect
service = FakeService()
service.add("demo", running=True)
service.console = {line!r}
async def open_service(uri=None, readonly=False):
    return service
virtsnap.api.connect.open_service = open_service
from virtsnap.cli.main import main
sys.exit(main({words!r}))
"""


def _console(line: str, terminal: int, words: list[str]) -> subprocess.Popen[bytes]:
    code = PROGRAM.format(root=str(ROOT), line=line, words=words)
    return subprocess.Popen([sys.executable, "-c", code], stdin=terminal, stdout=terminal, stderr=terminal)


def _read_until(descriptor: int, wanted: bytes) -> bytes:
    text = b""
    while wanted not in text:
        text += os.read(descriptor, 4096)
    return text


def test_bytes_go_both_ways_until_the_escape_character() -> None:
    keyboard, terminal = os.openpty()
    guest, line = os.openpty()
    tty.setraw(line)
    with _console(os.ttyname(line), terminal, ["console", "demo"]) as process:
        _read_until(keyboard, b"Escape character is ^] (Ctrl + ])\r\n")
        os.write(guest, b"login: ")
        assert _read_until(keyboard, b"login: ") == b"login: "
        os.write(keyboard, b"root\x03\r")
        # Raw: neither the Ctrl-C nor the carriage return means anything on this side.
        assert _read_until(guest, b"\r") == b"root\x03\r"
        os.write(keyboard, b"x\x1dnot for the guest")
        assert process.wait() == 0
    assert os.read(guest, 4096) == b"x"
    for descriptor in (keyboard, terminal, guest, line):
        os.close(descriptor)


def test_a_socket_and_another_escape_character(tmp_path: Path) -> None:
    keyboard, terminal = os.openpty()
    path = str(tmp_path / "console.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with _console(f"unix:{path}", terminal, ["-e", "^A", "console", "demo"]) as process:
            with listener.accept()[0] as guest:
                _read_until(keyboard, b"Escape character is ^A (Ctrl + A)\r\n")
                guest.sendall(b"hello")
                assert _read_until(keyboard, b"hello") == b"hello"
                # The guest goes away: so does the console.
            assert process.wait() == 0
    os.close(keyboard)
    os.close(terminal)


def test_without_a_terminal_it_is_refused(cli: Cli) -> None:
    assert cli.fails("console", "demo") == "error: Cannot run interactive console without a controlling TTY\n"


def test_what_needs_a_lock_is_refused(cli: Cli) -> None:
    assert cli.fails("console", "demo", "--force") == (
        "error: unsupported configuration: console --force is not supported\n"
    )


def test_ttyconsole(cli: Cli) -> None:
    assert cli.ok("ttyconsole", "demo") == "/dev/null\n"


def test_escape_characters() -> None:
    assert (escape_byte("^]"), escape_byte("^a"), escape_byte("^A"), escape_byte("q")) == (0x1D, 1, 1, 0x71)
