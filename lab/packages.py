"""Gets the guest's parts, a kernel and a static busybox, out of the distribution's own packages.

Nothing is installed: packages are downloaded with the machine's apt configuration and unpacked into the
cache, so no root is needed and no boot loader or initramfs of the host is touched.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
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
    packages = _kernel_packages()
    with tempfile.TemporaryDirectory(prefix="kernel-", dir=target.parent) as text:
        work = Path(text)
        _download(packages, work)
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
        with tempfile.TemporaryDirectory(prefix="busybox-", dir=cache) as text:
            work = Path(text)
            _download(["busybox-static"], work)
            unpacked = next(
                path for path in (work / "tree").rglob("busybox") if path.is_file() and "bin" in path.parts
            )
            shutil.move(unpacked, kept)
    return kept


def _is_static(program: Path) -> bool:
    # A dynamically linked program names its loader, which is an absolute path to ld-linux.
    return b"/ld-linux" not in program.read_bytes()[:4096]


def _module_trees(root: Path) -> list[Path]:
    return [path for top in ("lib/modules", "usr/lib/modules") for path in (root / top).glob("*")]


def _kernel_packages() -> list[str]:
    for meta in KERNEL_PACKAGES:
        image = [name for name in _depends(meta) if re.match(r"linux-image-(unsigned-)?\d", name)]
        if image:
            return [image[0], *(name for name in _depends(image[0]) if name.startswith("linux-modules-"))]
    raise LabError(
        "no kernel package is known to apt (looked for "
        + ", ".join(KERNEL_PACKAGES)
        + "): run 'apt-get update' as root, then try again"
    )


def _depends(package: str) -> list[str]:
    done = subprocess.run(
        ["apt-cache", "depends", "--no-recommends", "--no-suggests", "--no-conflicts", package],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return re.findall(r"^\s*\|?(?:Depends|PreDepends): ([^<\s]+)", done.stdout, re.MULTILINE)


def _download(packages: list[str], work: Path) -> None:
    """Unpack the packages into `work`/tree."""
    command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *packages]
    done = subprocess.run(
        command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise LabError(f"cannot download {' '.join(packages)}: {done.stdout.strip()}")
    for package in sorted(work.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package.name, "tree"], cwd=work, check=True)
