"""A virtsnapd of our own for a test: started, ready, and gone again."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

_SECONDS = 30


def start(root: Path, path: Path, *options: str) -> subprocess.Popen[bytes]:
    """Return when it serves, as it says itself to whoever started it. What it says goes to `PATH.log`."""
    with tempfile.TemporaryDirectory(prefix="vs-") as scratch, _waiting(f"{scratch}/notify") as ready:
        with Path(f"{path}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "virtsnap.daemon.main", "--root", root, "--socket", path, *options],
                env=os.environ | {"NOTIFY_SOCKET": f"{scratch}/notify", "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        done = os.pidfd_open(process.pid)
        try:
            waited: list[socket.socket | int] = [ready, done]
            heard = select.select(waited, [], [], _SECONDS)[0]
        finally:
            os.close(done)
        if ready not in heard:
            process.kill()
            process.wait()
            raise RuntimeError(f"virtsnapd does not start: {Path(f'{path}.log').read_text()[-2000:]}")
    return process


def stop(process: subprocess.Popen[bytes]) -> int:
    """End it as systemd would; its exit status."""
    process.terminate()
    try:
        return process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def _waiting(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(path)
    return sock
