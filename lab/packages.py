"""Gets the guest's parts, a kernel, a static busybox and an agent, out of the distribution's own packages.

Nothing is installed: packages are downloaded with the machine's apt configuration and unpacked into the
cache, so no root is needed and no boot loader or initramfs of the host is touched.
"""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KERNEL_PACKAGES = (
    "linux-image-cloud-amd64",
    "linux-image-virtual",
    "linux-image-generic",
    "linux-image-amd64",
)
"""Metapackages in order of liking: Debian's small kernel for virtual machines, Ubuntu's, the full ones."""


class LabError(Exception):
    """The guest cannot be built on this machine; the text says what to do."""


def unpack_kernel(target: Path) -> None:
    """Put `vmlinuz`, `modules/` and `release` of the distribution's kernel into the folder `target`."""
    with _apt(target.parent) as apt, tempfile.TemporaryDirectory(prefix="kernel-", dir=target.parent) as text:
        work = Path(text)
        apt.download(apt.kernel_packages(), work)
        image = next((work / "tree/boot").glob("vmlinuz-*"))
        release = image.name.removeprefix("vmlinuz-")
        tree = next(path for path in _module_trees(work / "tree") if path.name == release)
        target.mkdir()
        shutil.move(image, target / "vmlinuz")
        shutil.move(tree, target / "modules")
        (target / "vmlinuz").chmod(0o644)
        (target / "release").write_text(release)


def static_busybox(cache: Path) -> Path:
    """The machine's own busybox when it is a static one, else that of the package busybox-static."""
    found = shutil.which("busybox")
    if found and _is_static(Path(found)):
        return Path(found)
    kept = cache / "busybox"
    if not kept.exists():
        with _apt(cache) as apt, tempfile.TemporaryDirectory(prefix="busybox-", dir=cache) as text:
            work = Path(text)
            apt.download(["busybox-static"], work)
            unpacked = next(
                path for path in (work / "tree").rglob("busybox") if path.is_file() and "bin" in path.parts
            )
            shutil.move(unpacked, kept)
    return kept


def guest_agent(cache: Path) -> Path:
    """QEMU's guest agent, of the machine's own release, since it runs with the machine's libraries."""
    kept = cache / "qemu-ga"
    if not kept.exists():
        with _apt(cache) as apt, tempfile.TemporaryDirectory(prefix="agent-", dir=cache) as text:
            work = Path(text)
            apt.download(["qemu-guest-agent"], work)
            found = next(path for path in (work / "tree").rglob("qemu-ga") if path.is_file())
            shutil.move(found, kept)
    return kept


def _is_static(program: Path) -> bool:
    # A dynamically linked program names its loader, which is an absolute path to ld-linux.
    return b"/ld-linux" not in program.read_bytes()[:4096]


def _module_trees(root: Path) -> list[Path]:
    return [path for top in ("lib/modules", "usr/lib/modules") for path in (root / top).glob("*")]


@contextmanager
def _apt(folder: Path) -> Iterator[_Apt]:
    """The machine's apt; where its package lists are missing, with lists of our own until the end."""
    apt = _Apt([])
    if apt.kernel_packages():
        yield apt
        return
    with tempfile.TemporaryDirectory(prefix="lists-", dir=folder) as lists:
        apt = _Apt(["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={lists}"])
        apt.update()
        if not apt.kernel_packages():
            raise LabError(f"apt knows none of the packages {', '.join(KERNEL_PACKAGES)}")
        yield apt


@dataclass(frozen=True)
class _Apt:
    """apt without installing anything: works for any user."""

    options: list[str]

    def kernel_packages(self) -> list[str]:
        """The packages of the first kernel in our order of liking that is known; empty when none is."""
        for meta in KERNEL_PACKAGES:
            image = [name for name in self._depends(meta) if re.match(r"linux-image-(unsigned-)?\d", name)]
            if image:
                return [image[0], *(n for n in self._depends(image[0]) if n.startswith("linux-modules-"))]
        return []

    def update(self) -> None:
        """Fetch the package lists."""
        self._get(["update", "-qq"], Path("/"), "fetch the package lists")

    def download(self, packages: list[str], work: Path) -> None:
        """Unpack the packages into `work`/tree."""
        self._get(["download", "-qq", *packages], work, f"download {' '.join(packages)}")
        for package in sorted(work.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package.name, "tree"], cwd=work, check=True)

    def _get(self, words: list[str], work: Path, purpose: str) -> None:
        # The sandbox user could not write into our folder.
        command = ["apt-get", "-o", f"APT::Sandbox::User={getpass.getuser()}", *self.options, *words]
        try:
            done = subprocess.run(
                command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            )
        except FileNotFoundError:
            raise LabError(
                "the guest is built from Debian's or Ubuntu's packages, and there is no apt"
            ) from None
        if done.returncode:
            raise LabError(f"cannot {purpose}: {done.stdout.strip()}")

    def _depends(self, package: str) -> list[str]:
        command = ["apt-cache", *self.options, "depends", "--no-recommends", "--no-suggests", package]
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
            )
        except FileNotFoundError:
            raise LabError(
                "the guest is built from Debian's or Ubuntu's packages, and there is no apt"
            ) from None
        return re.findall(r"^\s*\|?Depends: ([^<\s]+)", done.stdout, re.MULTILINE)
