"""Builds the guest: a kernel and an initramfs of busybox, modules and our own agent (`rootfs/`).

`build` is cheap when nothing changed: the result is kept under a hash of everything that went in, and two
processes building at once wait for each other. The kernel is fetched once and kept.
Run as a program (`python -m lab.guest`) it builds and prints the paths.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import cpio, guest_agent, modules, packages

ROOTFS = Path(__file__).parent / "rootfs"

CMDLINE = (
    "console=ttyS0 quiet loglevel=3 mitigations=off nokaslr no_timer_check "
    "apparmor=0 audit=0 cryptomgr.notests random.trust_cpu=on"
)
"""Kernel command line: the agent's console, and nothing that only costs time in an emulated guest."""


@dataclass(frozen=True)
class GuestImage:
    """A guest ready for direct kernel boot."""

    kernel: Path
    initrd: Path
    kernel_release: str
    cmdline: str = CMDLINE


def default_cache() -> Path:
    """$VIRTSNAP_LAB_CACHE, or .cache/lab in the repository."""
    chosen = os.environ.get("VIRTSNAP_LAB_CACHE")
    return Path(chosen) if chosen else Path(__file__).parent.parent / ".cache" / "lab"


def build(cache: Path | None = None, *, agent: bool = False) -> GuestImage:
    """Build the guest, or find it built. Raises `packages.LabError` when its parts cannot be had.

    `agent`: the variant that has QEMU's guest agent in it (`rootfs/agent`).
    """
    cache = (cache or default_cache()).resolve()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock"):
        kernel = cache / "kernel"
        if not (kernel / "release").exists():
            shutil.rmtree(kernel, ignore_errors=True)
            packages.unpack_kernel(kernel)
        release = (kernel / "release").read_text()
        busybox = packages.static_busybox(cache)
        initrd = cache / f"initrd-{_key(release, busybox)}"
        if not initrd.exists():
            with tempfile.NamedTemporaryFile(prefix="initrd-", suffix=".new", dir=cache, delete=False) as new:
                _initramfs(kernel / "modules", busybox).write(Path(new.name))
            os.chmod(new.name, 0o644)
            os.replace(new.name, initrd)
        if agent:
            initrd = _with_agent(initrd, packages.guest_agent(cache))
    return GuestImage(kernel / "vmlinuz", initrd, release)


def _with_agent(initrd: Path, program: Path) -> Path:
    both = initrd.with_name(f"{initrd.name}-agent")
    if not both.exists():
        with tempfile.NamedTemporaryFile(prefix="initrd-", dir=both.parent, delete=False) as new:
            guest_agent.archive(program, ROOTFS / "agent").write(Path(new.name))
            whole = initrd.read_bytes() + Path(new.name).read_bytes()
            Path(new.name).write_bytes(whole)
        os.chmod(new.name, 0o644)
        os.replace(new.name, both)
    return both


def _key(release: str, busybox: Path) -> str:
    stamp = busybox.stat()
    digest = hashlib.sha256(f"{release}\0{busybox}\0{stamp.st_size}\0{stamp.st_mtime_ns}\0".encode())
    sources = sorted(Path(__file__).parent.glob("*.py")) + sorted(p for p in ROOTFS.rglob("*") if p.is_file())
    for path in sources:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _initramfs(tree: Path, busybox: Path) -> cpio.Archive:
    archive = cpio.Archive()
    for folder in ("bin", "dev", "lib", "lib/lab", "mnt", "modules", "proc", "run", "sys", "tmp"):
        archive.folder(folder)
    archive.char_device("dev/console", 5, 1)
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    archive.link("bin/sh", "busybox")
    archive.file("init", (ROOTFS / "init").read_bytes(), 0o755)
    for source in sorted((ROOTFS / "lib").glob("*.sh")):
        archive.file(f"lib/lab/{source.name}", source.read_bytes())
    for number, module in enumerate(modules.in_load_order(tree)):
        archive.file(f"modules/{number:02}-{module.name}.ko", module.data)
    return archive


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        image = build()
    except packages.LabError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"kernel {image.kernel_release}: {image.kernel}\ninitramfs: {image.initrd}")
