"""A real libvirtd of our own: a session daemon with every file in one folder, ended with its guests.

Started by root it runs as nobody, since root's libvirtd would be the system's. It runs guests of type qemu
only and asks no other daemon for anything.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = "11.3"
"""Whose words and files are compared."""
NOBODY = 65534


def missing() -> str | None:
    """Why there is no libvirt here to compare with; None where there is."""
    if _libvirtd() is None or shutil.which("virsh") is None:
        return "no libvirt here to compare with (script/setup --with-parity installs it)"
    version = subprocess.run(
        ["virsh", "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not version.startswith(VERSION + "."):
        return f"libvirt {version} is not the {VERSION} we compare with"
    return None


def _libvirtd() -> str | None:
    return shutil.which("libvirtd", path=os.environ.get("PATH", "") + ":/usr/sbin")


class Oracle:
    """A running daemon. `user` is whom its guests run as: files they write must be his; None: us."""

    def __init__(
        self,
        folder: Path,
        user: int | None,
        process: subprocess.Popen[bytes],
        options: tuple[str, ...],
    ) -> None:
        self.folder = folder
        self.user = user
        self._process = process
        self._options = options
        self.environment = _environment(folder)

    def virsh(
        self,
        words: list[str],
        *,
        program: str = "virsh",
        timeout: float = 60,
        cwd: Path | None = None,
        editor: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run virsh as the daemon's user; see `run`."""
        return self.run([program, "-c", "qemu:///session", *words], timeout=timeout, cwd=cwd, editor=editor)

    def run(
        self, words: list[str], *, timeout: float = 60, cwd: Path | None = None, editor: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as the daemon's user. Raises subprocess.TimeoutExpired."""
        environment = self.environment | ({"EDITOR": editor} if editor else {})
        return subprocess.run(
            words,
            env=environment,
            cwd=cwd or self.folder,
            timeout=timeout,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            stdin=subprocess.DEVNULL,
            check=False,
            user=self.user,
            group=self.user,
            extra_groups=_no_groups(self.user),
        )

    def own(self, path: Path) -> None:
        """Give a file to the daemon's user."""
        if self.user is not None:
            os.chown(path, self.user, self.user)

    def clear(self) -> None:
        """Forget every domain: the next scenario finds an empty daemon."""
        for name in self.virsh(["list", "--name"]).stdout.split("\n"):
            if name:
                self.virsh(["destroy", name])
        for name in self.virsh(["list", "--all", "--name"]).stdout.split("\n"):
            if name:
                done = self.virsh(["undefine", name, "--snapshots-metadata", "--managed-save"])
                if done.returncode:
                    raise RuntimeError(f"the oracle keeps domain {name}: {done.stderr}")

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "r/libvirt/libvirt-sock"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def files(self) -> Path:
        """Where the daemon keeps definitions and snapshots."""
        return Path(self.environment["XDG_CONFIG_HOME"], "libvirt", "qemu")

    @property
    def run_files(self) -> Path:
        """Where the daemon notes which domains are active."""
        return Path(self.environment["XDG_RUNTIME_DIR"], "libvirt", "qemu", "run")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Without the daemon; afterwards one that has read its files anew. Guests run on."""
        # Asked politely it sometimes takes many seconds, and it has nothing left to write.
        self._process.kill()
        self._process.wait()
        yield
        self.socket.unlink(missing_ok=True)
        self._process = _start(self.folder, self.user, self._options)
        _await_socket(self._process, self.folder)

    def end(self) -> None:
        """End the guests and the daemon."""
        with contextlib.suppress(Exception):
            self.clear()
        self._stop()
        end_guests(self.folder)

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def let_in(folder: Path) -> None:
    """The daemon's user must be able to go there."""
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o111)


@contextmanager
def running(folder: Path, config: str = "", *options: str) -> Iterator[Oracle]:
    """Start the daemon in `folder`, which must exist; end it. Raises RuntimeError when it does not start.

    `config`: what libvirtd.conf says more.
    """
    user = NOBODY if os.geteuid() == 0 else None
    environment = _environment(folder)
    for key, value in environment.items():
        if key.startswith("XDG") or key == "HOME":
            Path(value).mkdir(parents=True)
    files = Path(environment["XDG_CONFIG_HOME"], "libvirt")
    files.mkdir()
    # "file": no virtlogd, which would outlive us.
    (files / "qemu.conf").write_text('stdio_handler = "file"\n')
    (files / "libvirtd.conf").write_text(f'log_outputs="3:file:{folder}/log"\n{config}')
    if user is not None:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, user, user)
    os.chmod(environment["XDG_RUNTIME_DIR"], 0o700)
    process = _start(folder, user, options)
    oracle = Oracle(folder, user, process, options)
    try:
        _await_socket(process, folder)
        yield oracle
    finally:
        oracle.end()


def _start(folder: Path, user: int | None, options: tuple[str, ...]) -> subprocess.Popen[bytes]:
    program = _libvirtd()
    assert program is not None
    with (folder / "said").open("wb") as said:
        return subprocess.Popen(
            [program, "-f", str(folder / "c/libvirt/libvirtd.conf"), "-p", str(folder / "pid"), *options],
            env=_environment(folder),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            user=user,
            group=user,
            extra_groups=_no_groups(user),
        )


def _await_socket(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Return when virsh is answered: the first answer waits until the daemon has looked at QEMU."""
    done = os.pidfd_open(process.pid)
    try:
        for _ in range(600):
            if select.select([done], [], [], 0.1)[0]:
                raise RuntimeError(f"libvirtd ended at once: {(folder / 'said').read_text()[-800:]}")
            if (folder / "r/libvirt/libvirt-sock").exists():
                return
    finally:
        os.close(done)
    raise RuntimeError(f"libvirtd does not answer: {(folder / 'said').read_text()[-800:]}")


def _environment(folder: Path) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "TZ") if key in os.environ}
    return kept | {
        "LC_ALL": "C.UTF-8",
        "HOME": f"{folder}/h",
        "XDG_CONFIG_HOME": f"{folder}/c",
        "XDG_RUNTIME_DIR": f"{folder}/r",
        "XDG_CACHE_HOME": f"{folder}/s",
        "XDG_DATA_HOME": f"{folder}/d",
        "XDG_STATE_HOME": f"{folder}/t",
        "TMPDIR": "/tmp",
    }


def _no_groups(user: int | None) -> list[int] | None:
    return None if user is None else []


def end_guests(*folders: Path) -> None:
    """End the QEMU processes that have one of the folders in their arguments; return when they are gone."""
    for pid in _pids(folders):
        with contextlib.suppress(ProcessLookupError):
            gone = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(gone, signal.SIGKILL)
                select.select([gone], [], [], 10)
            finally:
                os.close(gone)


def _pids(folders: tuple[Path, ...]) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                ours = any(f"{folder}/".encode() in words for folder in folders)
                if ours and b"qemu-system" in words.split(b"\0")[0]:
                    found.append(int(entry.name))
    return found
