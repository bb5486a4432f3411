"""The QEMU guest agent for the lab guest: the distribution's own, with the libraries that it needs.

It goes into an archive of its own, which the kernel unpacks over the first one, so that guests without an
agent boot as fast as ever.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from lab import cpio, packages

_LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x", re.MULTILINE)


def archive(program: Path, scripts: Path) -> cpio.Archive:
    """The agent, its libraries and the shell around it. Raises `packages.LabError` for a missing library."""
    result = cpio.Archive()
    folders = {"bin", "sbin", "lib", "lib/lab"}
    libraries = _libraries(program)
    for path in libraries:
        inside = path.relative_to("/")
        folders |= {str(folder) for folder in inside.parents if str(folder) != "."}
    for folder in sorted(folders):
        result.folder(folder)
    result.file("bin/qemu-ga", program.read_bytes(), 0o755)
    result.file("sbin/shutdown", (scripts / "shutdown").read_bytes(), 0o755)
    result.file("lib/lab/guest_agent.sh", (scripts / "guest_agent.sh").read_bytes())
    for path in libraries:
        result.file(str(path.relative_to("/")), path.read_bytes(), 0o755)
    return result


def _libraries(program: Path) -> list[Path]:
    """What the program is linked with, under the names by which its loader looks for it."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    missing = re.findall(r"^\s*(\S+) => not found", done.stdout, re.MULTILINE)
    if done.returncode or missing:
        raise packages.LabError(
            f"the guest agent needs libraries that are not here: {', '.join(missing) or done.stderr.strip()}"
        )
    return sorted({Path(path) for path in _LIBRARY.findall(done.stdout)})
