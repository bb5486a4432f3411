"""Writes a domain into a real libvirt's folders: all of it, or what was there before.

Everything is written beside its place first. The definition is what counts: without NAME.xml libvirt does not
look at the domain's other files. So the old one goes aside first and the new one comes last, and whoever is
killed in between leaves a domain that libvirt does not know; the next call finds what was put aside and
brings it back. Not here: what is written (`plan.handback`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from virtsnap.formats.save_image import SaveImageHeader
from virtsnap.model.errors import ErrorCode, Failed
from virtsnap.model.frozen import dataclass
from virtsnap.model.libvirt import Places
from virtsnap.plan.handback import Handback
from virtsnap.qemu import images, memory
from virtsnap.store.files import fsync_path


@dataclass(frozen=True)
class _Place:
    """A file or folder of libvirt's, the one that is to take its place, and the one that was there."""

    path: Path

    @property
    def new(self) -> Path:
        return self.path.with_name(f".{self.path.name}.virtsnap-new")

    @property
    def old(self) -> Path:
        return self.path.with_name(f".{self.path.name}.virtsnap-old")


class LibvirtDir:
    """The files of one domain in libvirt's folders."""

    def __init__(self, places: Places, name: str) -> None:
        self.definition = _Place(Path(places.definition(name)))
        self.snapshots = _Place(Path(places.snapshots(name)))
        self.save = _Place(Path(places.save(name)))
        self.autostart = Path(places.autostart(name))
        self._placed: list[_Place] = []
        """New ones that are in their places."""

    @property
    def _all(self) -> tuple[_Place, ...]:
        """The definition first: it goes first and comes back last."""
        return (self.definition, self.snapshots, self.save)

    def recover(self) -> None:
        """Bring to its end what a process that was killed has left. Raises Failed."""
        with _explained("cannot tidy up after an interrupted export"):
            if self.definition.path.exists():
                self._forget()
            else:
                self._bring_back()

    async def write(
        self, wanted: Handback, save: tuple[str, SaveImageHeader] | None, progress: images.ProgressCallback
    ) -> None:
        """Put the domain there. `save`: the managed save to copy, and the head that it gets.

        Raises Failed; what was there is there again then, also after a cancellation.
        """
        try:
            with _explained("cannot write libvirt's files"):
                self._prepare(wanted)
            if save is not None:
                await images.copy(save[0], str(self.save.new), progress)
                await memory.rewrite_header(str(self.save.new), save[1])
            with _explained("cannot write libvirt's files"):
                self._own()
                self._switch()
        except BaseException:
            self._bring_back()
            raise
        with _explained("cannot remove libvirt's old files"):
            self._forget()
            self._link(wanted.autostart)

    def _prepare(self, wanted: Handback) -> None:
        for place in self._all:
            place.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _write(self.definition.new, wanted.definition)
        if wanted.documents:
            self.snapshots.new.mkdir(mode=0o755)
            for name, text in wanted.documents:
                _write(self.snapshots.new / name, text)
            fsync_path(self.snapshots.new)

    def _own(self) -> None:
        """Files that root puts into somebody's folder are his."""
        if os.geteuid() != 0:
            return
        for place in self._all:
            owner = place.path.parent.stat()
            inside = list(place.new.iterdir()) if place.new.is_dir() else []
            for path in [place.new, *inside] if place.new.exists() else []:
                os.chown(path, owner.st_uid, owner.st_gid)

    def _switch(self) -> None:
        for place in self._all:
            if os.path.lexists(place.path):
                os.rename(place.path, place.old)
            fsync_path(place.path.parent)
        for place in reversed(self._all):
            if place.new.exists():
                os.rename(place.new, place.path)
                self._placed.append(place)
                fsync_path(place.path.parent)

    def _bring_back(self) -> None:
        """The old files in their places, the definition last, and no new ones."""
        for place in reversed(self._all):
            _remove(place.new)
            if place in self._placed:
                _remove(place.path)
            if os.path.lexists(place.old):
                _remove(place.path)
                os.rename(place.old, place.path)

    def _forget(self) -> None:
        for place in self._all:
            _remove(place.new)
            _remove(place.old)

    def _link(self, autostart: bool) -> None:
        if autostart and not os.path.lexists(self.autostart):
            self.autostart.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self.autostart.symlink_to(self.definition.path)


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Failed(f"{what}: '{error.filename}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR) from error
