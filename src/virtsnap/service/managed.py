"""Managed saves: one saved state per domain in `ROOT/save`, which the next start resumes.

Beside the image stands a note of what the domain's disks looked like when it was made. An image whose disks
have changed since is never resumed: memory would go on with files that are not those it knows. Snapshots
that are made or deleted meanwhile move content from file to file without changing it, so they renew the
note; a revert does change it, and removes the managed save.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from virtsnap.model.errors import OperationFailed, OperationInvalid, SystemRefused
from virtsnap.model.frozen import dataclass

if TYPE_CHECKING:
    from virtsnap.engine.world import World
    from virtsnap.formats.domain_xml import DomainDefinition
    from virtsnap.formats.save_image import SaveImageHeader
    from virtsnap.model.domain import DomainRecord


@dataclass(frozen=True)
class ManagedSave:
    """Where a domain's managed save is, whether there is one or not."""

    path: str
    note: str

    @classmethod
    def of(cls, root: Path, uuid: str) -> ManagedSave:
        """That of a domain."""
        base = f"{root}/save/{uuid}"  # no Path: every dominfo asks
        return cls(f"{base}.save", f"{base}.disks")

    @property
    def exists(self) -> bool:
        """The next start would resume it."""
        return os.path.exists(self.path)

    def remove(self) -> None:
        """Delete it. Raises SystemRefused."""
        for path in (self.path, self.note):
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise SystemRefused(f"cannot remove '{path}': {error.strerror}") from error

    def read(self) -> SaveImageHeader | None:
        """The image's head; None for a file that libvirt, too, gives up without a word: it is removed.

        Raises OperationFailed for one that is damaged behind its first bytes, SystemRefused.
        """
        from virtsnap.formats.save_image import NoImage
        from virtsnap.qemu import memory

        try:
            header = memory.read_header(self.path)
        except NoImage as error:
            logging.getLogger("virtsnap").warning("ignoring managed save '%s': %s", self.path, error.detail)
            self.remove()
            return None
        memory.check_whole(self.path, header)
        return header


def check_owner(record: DomainRecord, saved: DomainDefinition) -> None:
    """Raises OperationFailed when the image is of another domain."""
    if (saved.name, saved.uuid) != (record.name, record.uuid):
        raise OperationFailed(
            f"cannot restore domain '{record.name}' uuid {record.uuid} from a file which belongs to domain "
            f"'{saved.name}' uuid {saved.uuid}"
        )


async def on_present_disks(
    managed: ManagedSave, record: DomainRecord, saved: DomainDefinition
) -> DomainDefinition:
    """The saved definition on the files that hold its disks' content now.

    Raises OperationInvalid when a disk is not as it was.
    """
    from virtsnap.formats.domain_xml import DomainDefinition

    note = _read_note(managed)
    if note is None:
        raise _misfit(record, "nothing tells what its disks looked like")
    present = {disk.target: disk for disk in DomainDefinition.parse(record.config_xml).disks}
    for disk in saved.disks:
        noted = note.get(disk.target)
        if noted is None or disk.source != noted["saved"]:
            # Not writable then, or given another name by managedsave-edit: the user's own word.
            continue
        top = noted["now"][0][0]
        now = present.get(disk.target)
        if now is not None and now.source not in (top, disk.source):
            raise _misfit(record, f"disk '{disk.target}' is on '{now.source}' by now, not on '{top}'")
        format = now.format if now is not None and now.source == top else disk.format
        if await _layers(top, format) != noted["now"]:
            raise _misfit(record, f"disk '{disk.target}' has changed since")
        if top != disk.source:
            saved = saved.with_disk_source(disk.target, top, format, disk.type)
    return saved


async def fits(managed: ManagedSave, record: DomainRecord) -> bool:
    """There is a managed save, and its disks are as it knows them."""
    from virtsnap.formats.domain_xml import DomainDefinition
    from virtsnap.qemu import memory

    if record.active or not managed.exists:
        return False
    try:
        saved = DomainDefinition.parse(memory.read_header(managed.path).xml)
        await on_present_disks(managed, record, saved)
    except (OperationFailed, OperationInvalid, SystemRefused):
        return False
    return True


async def renew(world: World, managed: ManagedSave) -> None:
    """Note the disks again, after an operation that kept their content."""
    from virtsnap.engine.steps import do_step
    from virtsnap.formats.domain_xml import DomainDefinition
    from virtsnap.model.steps import NoteDisks

    note = _read_note(managed) or {}
    present = {disk.target: disk for disk in DomainDefinition.parse(world.record().config_xml).disks}
    disks = [
        (target, entry["saved"], present[target].source or entry["saved"], present[target].format)
        for target, entry in note.items()
        if target in present
    ]
    await do_step(world, NoteDisks(managed.note, tuple(disks)))


def _misfit(record: DomainRecord, why: str) -> OperationInvalid:
    return OperationInvalid(
        f"managed save of domain '{record.name}' does not fit its disks any more: {why}; "
        "start --force-boot or managedsave-remove gives it up"
    )


def _read_note(managed: ManagedSave) -> dict[str, Any] | None:
    try:
        note: dict[str, Any] = json.loads(Path(managed.note).read_bytes())
    except (OSError, ValueError):
        return None
    return note


async def _layers(path: str, format: str) -> list[list[Any]]:
    from virtsnap.engine.steps.saved import layers

    return [list(layer) for layer in await layers(path, format)]
