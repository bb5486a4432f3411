"""Storage pools of type dir: folders, so that tools find images and make new ones.

A pool is a note in ROOT/pools; its volumes are the files in its folder. An image that a domain or a snapshot
uses, or has an image on top of, is neither deleted nor resized nor written to from here.

The format of a file is what a domain or a snapshot says, where one does: a guest can write a qcow2 header
into its raw disk. Of any other file it is what the content looks like.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from virtsnap.formats import qcow2
from virtsnap.formats.storage_xml import (
    format_pool,
    format_volume,
    is_volume_name,
    parse_pool,
    parse_volume,
)
from virtsnap.model.errors import (
    ArgumentUnsupported,
    ConfigUnsupported,
    InternalRefused,
    NoPool,
    NoSupport,
    NoVolume,
    OperationDenied,
    OperationFailed,
    OperationInvalid,
    ResourceBusy,
    SystemRefused,
    VolumeExists,
)
from virtsnap.model.storage import Pool, Space, Volume, VolumeRequest, VolumeResize
from virtsnap.plan.volumes import new_capacity
from virtsnap.qemu.process import current_boot_id
from virtsnap.service.image_users import formats, users
from virtsnap.store.database import Store, open_store

_ALGORITHMS = [
    "zero",
    "nnsa",
    "dod",
    "bsi",
    "gutmann",
    "schneier",
    "pfitzner7",
    "pfitzner33",
    "random",
    "trim",
]
"""virStorageVolWipeAlgorithm."""


class Storage:
    """The pools of one root folder. `readonly`: nothing changes."""

    def __init__(self, root: Path, readonly: bool = False) -> None:
        self._folder = root / "pools"
        self._readonly = readonly
        self._store: Store = open_store(root)
        self._boot = current_boot_id()

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    # --- pools -----------------------------------------------------------------------------------------

    def pools(self) -> list[Pool]:
        """All, by name."""
        found = []
        for file in self._folder.glob("*.json"):
            try:
                pool = Pool(**json.loads(file.read_text())).since(self._boot)
            except (OSError, ValueError, TypeError) as error:
                logging.getLogger("virtsnap").warning("pool '%s': %s", file, error)
                continue
            if pool is not None:
                found.append(pool)
        return sorted(found, key=lambda pool: pool.name)

    def pool(self, *, uuid: str | None = None, name: str | None = None, path: str | None = None) -> Pool:
        """The one of that uuid, name or folder. Raises NoPool."""
        for pool in self.pools():
            if pool.uuid == uuid or pool.name == name or pool.path == path:
                return pool
        what, value = next(
            (w, v) for w, v in (("uuid", uuid), ("name", name), ("target path", path)) if v is not None
        )
        raise NoPool(f"no storage pool with matching {what} '{value}'")

    def define(self, xml: str, *, start: bool = False, build: bool = False) -> Pool:
        """Raises OperationFailed when the name or the folder belongs to another pool."""
        self._writable("virStoragePoolCreateXML" if start else "virStoragePoolDefineXML")
        pool = parse_pool(xml)
        for other in self.pools():
            if other.name == pool.name and other.uuid != pool.uuid:
                raise OperationFailed(f"pool '{pool.name}' already exists with uuid {other.uuid}")
            if other.uuid == pool.uuid:
                if other.name != pool.name:
                    raise OperationFailed(f"pool '{other.name}' is already defined with uuid {pool.uuid}")
                if start and other.active:
                    raise OperationInvalid(f"pool is already active as '{other.name}'")
                pool = replace(pool, active=other.active, autostart=other.autostart)
            elif other.path == pool.path:
                raise OperationFailed(f"Storage source conflict with pool: '{other.name}'")
        if start:
            if build:
                _build(pool)
            self._check_folder(pool)
            pool = replace(pool, active=True, persistent=any(one.uuid == pool.uuid for one in self.pools()))
        self._write(pool)
        return pool

    def start(self, uuid: str) -> None:
        """Raises OperationInvalid when it is active, SystemRefused when there is no such folder."""
        self._writable("virStoragePoolCreate")
        pool = self.pool(uuid=uuid)
        if pool.active:
            raise OperationInvalid(f"storage pool '{pool.name}' is already active")
        self._check_folder(pool)
        self._write(replace(pool, active=True))

    def stop(self, uuid: str) -> None:
        """Its files stay. Raises OperationInvalid when it is not active."""
        self._writable("virStoragePoolDestroy")
        pool = self._active(uuid)
        if pool.persistent:
            self._write(replace(pool, active=False))
        else:
            self._file(pool).unlink(missing_ok=True)

    def delete_folder(self, uuid: str) -> None:
        """Remove the pool's folder. Raises OperationInvalid while it is active, SystemRefused."""
        self._writable("virStoragePoolDelete")
        pool = self.pool(uuid=uuid)
        if pool.active:
            raise OperationInvalid(f"storage pool '{pool.name}' is still active")
        try:
            os.rmdir(pool.path)
        except OSError as error:
            raise SystemRefused(f"failed to remove pool '{pool.path}': {error.strerror}") from error

    def build(self, uuid: str) -> None:
        """Make the folder if it is missing."""
        self._writable("virStoragePoolBuild")
        _build(self.pool(uuid=uuid))

    def undefine(self, uuid: str) -> None:
        """Its files stay. Raises OperationInvalid while it is active."""
        self._writable("virStoragePoolUndefine")
        pool = self.pool(uuid=uuid)
        if pool.active:
            raise OperationInvalid(f"storage pool '{pool.name}' is still active")
        self._file(pool).unlink(missing_ok=True)

    def set_autostart(self, uuid: str, autostart: bool) -> None:
        """Active from the daemon's start on."""
        self._writable("virStoragePoolSetAutostart")
        pool = self.pool(uuid=uuid)
        if not pool.persistent:
            raise OperationInvalid("pool has no config file")
        self._write(replace(pool, autostart=autostart))

    def autostart(self) -> None:
        """Start the pools that want it and can, once in each boot of the host."""
        for pool in self.pools():
            if pool.autostart and pool.boot != self._boot and os.path.isdir(pool.path):
                self._write(replace(pool, active=True))

    def space(self, pool: Pool) -> Space:
        """Of the file system that it lies on."""
        if not pool.active:
            return Space(0, 0, 0)
        try:
            found = os.statvfs(pool.path)
        except OSError as error:
            raise SystemRefused(f"cannot statvfs path '{pool.path}': {error.strerror}") from error
        capacity, free = found.f_blocks * found.f_frsize, found.f_bfree * found.f_frsize
        return Space(capacity, capacity - free, free)

    def pool_xml(self, uuid: str) -> str:
        """The pool's document."""
        pool = self.pool(uuid=uuid)
        try:
            status = os.stat(pool.path)
        except OSError:
            return format_pool(pool, Space(0, 0, 0), 0o711, 0, 0)  # it is not built yet
        mode = stat.S_IMODE(status.st_mode)
        return format_pool(pool, self.space(pool), mode, status.st_uid, status.st_gid)

    # --- volumes ---------------------------------------------------------------------------------------

    def volumes(self, uuid: str) -> list[Volume]:
        """Those of an active pool, by name. Raises OperationInvalid when it is not active."""
        pool = self._active(uuid)
        found = []
        known = formats(self._store)
        try:
            names = sorted(os.listdir(pool.path))
        except OSError as error:
            raise SystemRefused(f"cannot open path '{pool.path}': {error.strerror}") from error
        for name in names:
            volume = _volume(pool, name, known)
            if volume is not None:
                found.append(volume)
        return found

    def volume(self, pool_name: str, name: str) -> Volume:
        """Raises NoPool, NoVolume."""
        pool = self.pool(name=pool_name)
        self._active(pool.uuid)
        volume = _volume(pool, name, formats(self._store))
        if volume is None:
            raise NoVolume(f"no storage vol with matching name '{name}'")
        return volume

    def volume_by_path(self, path: str) -> tuple[Pool, Volume]:
        """The volume at a path, of an active pool. Raises NoVolume."""
        folder, name = os.path.split(os.path.normpath(path)) if path.startswith("/") else ("", "")
        for pool in self.pools():
            if pool.active and pool.path == folder:
                volume = _volume(pool, name, formats(self._store))
                if volume is not None:
                    return pool, volume
        raise NoVolume(f"no storage vol with matching path '{path}'")

    def volume_xml(self, pool_name: str, name: str) -> str:
        """The volume's document."""
        return format_volume(self.volume(pool_name, name))

    async def create(self, uuid: str, xml: str, *, metadata: bool = False) -> Volume:
        """Make an image, `metadata`: with all of its own tables (qcow2 only). Raises VolumeExists."""
        from virtsnap.qemu import volumes

        self._writable("virStorageVolCreateXML")
        pool = self._active(uuid)
        wish = parse_volume(xml)
        path = os.path.join(pool.path, wish.name)
        if os.path.lexists(path):
            raise VolumeExists(f"storage volume '{wish.name}' exists already")
        if metadata and wish.format != "qcow2":
            raise ConfigUnsupported("metadata preallocation is not supported for raw volumes")
        await volumes.create(path, await self._standing(wish), metadata=metadata)
        return self.volume(pool.name, wish.name)

    async def clone(self, uuid: str, xml: str, pool_name: str, name: str) -> Volume:
        """Make an image with the content of another one. Raises InternalRefused when the name is taken."""
        from virtsnap.qemu import volumes

        self._writable("virStorageVolCreateXMLFrom")
        pool = self._active(uuid)
        source = self.volume(pool_name, name)
        wish = parse_volume(xml, sized=False)
        path = os.path.join(pool.path, wish.name)
        if os.path.lexists(path):
            raise InternalRefused(f"storage volume name '{wish.name}' already in use.")
        await volumes.clone(path, await self._standing(wish), source)
        return self.volume(pool.name, wish.name)

    async def _standing(self, wish: VolumeRequest) -> VolumeRequest:
        """With the format and, if it has no size of its own, the size of what it stands on.

        Raises NoSupport for a raw volume, ConfigUnsupported where only the content would tell the format.
        """
        from virtsnap.qemu import images

        if wish.backing is None:
            return wish
        if wish.format == "raw":
            raise NoSupport("backing storage not supported for raw volumes")
        known = formats(self._store)
        format = wish.backing_format or known.get(wish.backing)
        if format is None:
            await images.info(wish.backing, format="raw")  # it is there
            if _is_qcow2(wish.backing):
                raise ConfigUnsupported(f"the format of backing volume '{wish.backing}' must be given")
            format = "raw"
        below = await images.info(wish.backing, format=format)
        return replace(wish, backing_format=format, capacity=wish.capacity or below.virtual_size)

    async def delete(self, pool_name: str, name: str) -> None:
        """Raises ResourceBusy when a running domain, a snapshot or another image needs it.

        A domain at rest is no hindrance: virt-manager deletes its disks first and it then.
        """
        self._writable("virStorageVolDelete")
        path = await self._free(pool_name, name, rest=True)
        try:
            os.unlink(path)
        except OSError as error:
            raise SystemRefused(f"cannot unlink file '{path}': {error.strerror}") from error

    async def resize(self, pool_name: str, name: str, capacity: int, flags: int) -> None:
        """Raises InvalidArg for less than it has unless SHRINK is given, ResourceBusy when it is used."""
        from virtsnap.qemu import volumes

        self._writable("virStorageVolResize")
        volume = self.volume(pool_name, name)
        wanted = new_capacity(volume, capacity, flags)
        await self._free(pool_name, name)
        allocate = bool(flags & VolumeResize.ALLOCATE)
        await volumes.resize(volume, wanted, shrink=bool(flags & VolumeResize.SHRINK), allocate=allocate)

    async def wipe(self, pool_name: str, name: str, algorithm: int) -> None:
        """Raises ResourceBusy when it is used, ArgumentUnsupported for another algorithm than zeros."""
        from virtsnap.qemu import volumes

        self._writable("virStorageVolWipePattern")
        if algorithm:
            word = _ALGORITHMS[algorithm] if 0 < algorithm < len(_ALGORITHMS) else str(algorithm)
            raise ArgumentUnsupported(f"'{word}' algorithm not supported")
        await volumes.wipe(await self._free(pool_name, name))

    async def open(self, pool_name: str, name: str, *, write: bool) -> int:
        """A descriptor of the volume. Raises ResourceBusy when it is to be written to and used."""
        path = await self._free(pool_name, name) if write else self.volume(pool_name, name).path
        if write:
            self._writable("virStorageVolUpload")
        try:
            return os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise SystemRefused(f"cannot open volume '{path}': {error.strerror}") from error

    # --- both ------------------------------------------------------------------------------------------

    async def _free(self, pool_name: str, name: str, *, rest: bool = False) -> str:
        """The path of a volume that nobody needs; `rest`: but for domains at rest."""
        path = self.volume(pool_name, name).path
        needed = [user for user in await users(self._store, path) if not (rest and user.at_rest)]
        if needed:
            raise ResourceBusy(f"volume '{name}' is used by {needed[0]}")
        return path

    def _active(self, uuid: str) -> Pool:
        pool = self.pool(uuid=uuid)
        if not pool.active:
            raise OperationInvalid(f"storage pool '{pool.name}' is not active")
        return pool

    def _check_folder(self, pool: Pool) -> None:
        if not os.path.isdir(pool.path):
            raise SystemRefused(f"cannot open directory '{pool.path}': No such file or directory")

    def _writable(self, function: str) -> None:
        if self._readonly:
            raise OperationDenied(f"read only access prevents {function}")

    def _file(self, pool: Pool) -> Path:
        return self._folder / f"{pool.uuid}.json"

    def _write(self, pool: Pool) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        file = self._file(pool)
        new = file.with_suffix(".new")
        new.write_text(json.dumps(asdict(replace(pool, boot=self._boot))))
        os.replace(new, file)


def _build(pool: Pool) -> None:
    try:
        os.makedirs(pool.path, mode=0o711, exist_ok=True)
        if pool.mode is not None:
            os.chmod(pool.path, pool.mode)
        if pool.owner is not None or pool.group is not None:
            owner, group = (-1 if one is None else one for one in (pool.owner, pool.group))
            os.chown(pool.path, owner, group)
    except OSError as error:
        raise SystemRefused(f"cannot create path '{pool.path}': {error.strerror}") from error


def _is_qcow2(path: str) -> bool:
    with open(path, "rb") as file:
        return qcow2.parse(file.read(qcow2.HEADER_BYTES)) is not None


def _volume(pool: Pool, name: str, known: Mapping[str, str]) -> Volume | None:
    """A plain file of the folder; nothing else is a volume. `known`: formats by path."""
    if not is_volume_name(name):
        return None
    path = os.path.join(pool.path, name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        header = None
        if known.get(path) in (None, "qcow2"):
            header = qcow2.parse(os.pread(descriptor, qcow2.HEADER_BYTES, 0))
    finally:
        os.close(descriptor)
    backing = header.backing if header is not None else None
    if backing is not None and "/" not in backing[:1] and ":" not in backing:
        backing = os.path.join(pool.path, backing)
    return Volume(
        name=name,
        path=path,
        format="raw" if header is None else "qcow2",
        capacity=status.st_size if header is None else header.virtual_size,
        allocation=status.st_blocks * 512,
        physical=status.st_size,
        mode=stat.S_IMODE(status.st_mode),
        owner=status.st_uid,
        group=status.st_gid,
        backing=backing,
        backing_format=header.backing_format if header is not None else None,
        times=(status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns),
    )
