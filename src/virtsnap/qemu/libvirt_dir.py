"""Reads a real libvirt's folders, and the files that its documents name. Changes nothing.

Everything that cannot be read is told with its reason, so that a report can name it. What it means is
`plan.takeover`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.formats.libvirt_files import named_images, status_pid
from virtsnap.formats.save_image import SaveImageHeader
from virtsnap.model.errors import InvalidArg, SystemRefused, VirtsnapError
from virtsnap.model.facts import ImageFacts
from virtsnap.model.libvirt import (
    SYSTEM_DEFINITIONS,
    SYSTEM_DIR,
    SYSTEM_RUN_DIR,
    Document,
    Evidence,
    LibvirtFiles,
    MemoryImage,
    Places,
)
from virtsnap.plan.libvirt_tree import Wanted
from virtsnap.qemu import images, memory

_MAX_DOCUMENT = 16 * 1024 * 1024
# QEMU's locks (file-posix.c): a byte for each permission that a process uses, or does not share.
_LOCK_BASE = 100
_LOCK_BYTES = 200
_FLOCK = struct.Struct("hhqqi4x")

Report = Callable[[int, int], None]
"""Files looked at, of how many."""


def places(
    state: str | None, definitions: str | None, run: str | None, *, make: bool | None = None
) -> Places:
    """libvirt's folders, where not given those of the system (as root) or of the user's session.

    `make`: they are to be written to and made if missing (False: they would be). Raises InvalidArg for a
    folder that is not there, SystemRefused for one that cannot be made.
    """
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    session = os.path.join(config, "libvirt", "qemu")
    if state is None:
        state = SYSTEM_DIR if os.geteuid() == 0 else session
    state = os.path.abspath(state)
    if definitions is None:
        definitions = SYSTEM_DEFINITIONS if state == SYSTEM_DIR else state
    definitions = os.path.abspath(definitions)
    if run is None and state == SYSTEM_DIR:
        run = SYSTEM_RUN_DIR
    if run is None and state == session and (runtime := os.environ.get("XDG_RUNTIME_DIR")):
        run = os.path.join(runtime, "libvirt", "qemu", "run")
    for folder in (state, definitions):
        if make:
            try:
                os.makedirs(folder, mode=0o755, exist_ok=True)
            except OSError as error:
                raise SystemRefused(f"cannot create directory '{folder}': {error.strerror}") from error
        elif make is None and not os.path.isdir(folder):
            raise InvalidArg(f"there is no folder '{folder}'")
    return Places(state, definitions, None if run is None else os.path.abspath(run))


def read(where: Places, name: str, *, others: bool = True) -> LibvirtFiles:
    """All documents of a domain, and those of all `others`, which may use the same images."""
    definition = where.definition(name)
    return LibvirtFiles(
        places=where,
        name=name,
        definition=_document(definition) if _may_be_there(definition) else None,
        snapshots=tuple(_documents(where.snapshots(name))),
        autostart=_same_file(where.autostart(name), definition),
        saved=os.path.lexists(where.save(name)),
        checkpoints=len(_documents(where.checkpoints(name))),
        active_pid=_active(where.status(name)),
        others=tuple(_others(where, name)) if others else (),
    )


async def examine(
    wanted: Wanted, others: Iterable[tuple[str, Mapping[str, str]]], report: Report
) -> Evidence:
    """Look at every file of every chain. `others`: who, and the images that he names with their formats."""
    found = _Finding()
    total = len(wanted.images) + len(wanted.memory)
    for done, (path, format) in enumerate(sorted(wanted.images.items())):
        report(done, total)
        await found.chain(path, format)
    heads = {}
    for done, path in enumerate(wanted.memory, len(wanted.images)):
        report(done, total)
        heads[path] = await asyncio.to_thread(memory_image, path)
    report(total, total)
    elsewhere: dict[str, str] = {}
    for who, named in others:
        other = _Finding()
        for path, format in sorted(named.items()):
            await other.chain(path, format)
        elsewhere |= dict.fromkeys((*other.images, *named), who)
    media = (*wanted.media, *wanted.nvram)
    tops = [path for path in wanted.images if path in found.images]
    return Evidence(
        images=found.images,
        unreadable=found.unreadable,
        absent=frozenset(found.absent),
        memory=heads,
        busy=frozenset(path for path in tops if in_use(path)),
        identity={path: found_at for path in found.images if (found_at := _identity(path)) is not None},
        changed={path: os.stat(path).st_mtime for path in tops if os.path.exists(path)},
        elsewhere=elsewhere,
        nvram_tags=await nvram_tags(wanted.nvram),
        present=frozenset(path for path in wanted.copies if os.path.lexists(path)),
        missing_files=frozenset(path for path in media if not os.path.exists(path)),
    )


async def nvram_tags(paths: Iterable[str]) -> dict[str, frozenset[str]]:
    """Of those UEFI variable stores that are qcow2, the names of their internal snapshots."""
    found = {path: await _nvram(path) for path in paths}
    return {
        path: frozenset(tag.name for tag in image.tags) for path, image in found.items() if image is not None
    }


def memory_image(path: str) -> MemoryImage:
    """The head of a memory image, and whether it has its end."""
    try:
        header: SaveImageHeader = memory.read_header(path)
        memory.check_whole(path, header)
        status = os.stat(path)
        uuid = DomainDefinition.parse(header.xml).uuid
    except VirtsnapError as error:
        return MemoryImage(problem=str(error))
    except OSError as error:
        return MemoryImage(problem=error.strerror)
    size = status.st_blocks * 512
    return MemoryImage(uuid, header.xml, header.format.name.lower(), size, status.st_mtime)


def in_use(path: str) -> bool:
    """A process holds one of QEMU's locks on the image."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _LOCK_BASE, _LOCK_BYTES, 0)
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, question)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


@dataclass
class _Finding:
    """Chains, as far as they can be read."""

    images: dict[str, ImageFacts] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)

    async def chain(self, path: str, format: str) -> None:
        """The image and what it stands on, down to one that is known already."""
        at: str | None = path
        while at is not None and at not in self.images and at not in self.unreadable:
            try:
                if not _is_image_file(at):
                    self.unreadable[at] = "is neither a file nor a block device"
                    return
                image = await images.read(at, format)
            except VirtsnapError as error:
                self.unreadable[at] = str(error)
                if not os.path.lexists(at):
                    self.absent.add(at)
                return
            except OSError as error:
                self.unreadable[at] = error.strerror or str(error)
                if isinstance(error, FileNotFoundError):
                    self.absent.add(at)
                return
            self.images[at] = image
            at, format = image.backing, image.backing_format or "raw"


def _is_image_file(path: str) -> bool:
    """Whether it may be opened; what is not there is told by whoever opens it."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return True
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


async def _nvram(path: str) -> ImageFacts | None:
    """The variable store, if it is qcow2."""
    try:
        image = await images.read(path, "qcow2")
        return image if image.cluster_size is not None else None
    except (VirtsnapError, OSError):
        # One that cannot be read is judged by whoever starts the machine.
        return None


def _identity(path: str) -> str | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return f"{status.st_dev}:{status.st_ino}"


def _may_be_there(path: str) -> bool:
    """Not known to be missing: a folder that may not be searched says nothing."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _names(folder: str) -> list[str] | None:
    """What is in a folder, sorted; None when it may not be read."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        return None


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _document(path: str) -> Document:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_DOCUMENT + 1)
    except OSError as error:
        return Document(path, problem=f"cannot be read: {error.strerror}")
    if len(data) > _MAX_DOCUMENT:
        return Document(path, problem=f"is longer than {_MAX_DOCUMENT} bytes")
    try:
        return Document(path, data.decode())
    except UnicodeDecodeError as error:
        return Document(path, problem=f"is not UTF-8 text: {error.reason} at byte {error.start}")


def _documents(folder: str) -> list[Document]:
    """Every file in it, as libvirt reads them at its start."""
    names = _names(folder)
    if names is None:
        return [Document(folder, problem="cannot be read: Permission denied")]
    return [_document(os.path.join(folder, name)) for name in names]


def _others(where: Places, name: str) -> list[Document]:
    found: list[Document] = []
    for folder in (where.definitions, os.path.dirname(where.snapshots(name))):
        names = _names(folder)
        if names is None:
            found.append(Document(folder, problem="cannot be read: Permission denied"))
        for file in names or ():
            path = os.path.join(folder, file)
            if folder == where.definitions and file.endswith(".xml") and file != f"{name}.xml":
                found.append(_document(path))
            elif folder != where.definitions and file != name and not file.startswith("."):
                found += _documents(path)
    return found


def other_images(documents: Iterable[Document]) -> tuple[list[tuple[str, Mapping[str, str]]], list[str]]:
    """Who names which images; and the documents that could not be understood."""
    found: list[tuple[str, Mapping[str, str]]] = []
    unread: list[str] = []
    for document in documents:
        try:
            if document.problem is not None:
                unread.append(document.path)
                continue
            found.append((f"'{document.path}'", named_images(document.text)[1]))
        except VirtsnapError:
            unread.append(document.path)
    return found, unread


def _active(path: str | None) -> int | None:
    """The live process of an active domain, by libvirt's own note, which outlives both after a crash."""
    if path is None or not os.path.exists(path):
        return None
    try:
        pid = status_pid(_document(path).text)
        if pid is None:
            return None
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            program = os.path.basename(file.read().split(b"\0")[0])
    except (VirtsnapError, OSError):
        # No such process: libvirt has not tidied up.
        return None
    return pid if b"qemu" in program or b"kvm" in program else None
