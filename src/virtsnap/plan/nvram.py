"""The UEFI variables of a domain, which belong to a snapshot as its disks do.

With memory they travel in it: QEMU writes the flash back when the guest runs on. A snapshot without memory
gets a copy of the file beside it, whatever its format; libvirt keeps none (or, internal, only of qcow2).
"""

from __future__ import annotations

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.errors import ConfigUnsupported, OperationFailed
from virtsnap.model.facts import DomainFacts, ImageRole
from virtsnap.model.snapshot import Snapshot
from virtsnap.model.steps import CopyImage, RemoveFile, RestoreFile, Step


def nvram_paths(domain_xml: str, snapshot: str) -> tuple[str, ...]:
    """The domain's variable store and the copy of it that the snapshot would have; nothing without UEFI."""
    path = DomainDefinition.parse(domain_xml).nvram_path
    return () if path is None else (path, _copy(path, snapshot))


def _copy(path: str, snapshot: str) -> str:
    return f"{path}.{snapshot}"


def copy_nvram(facts: DomainFacts, snapshot: Snapshot) -> tuple[CopyImage, ...]:
    """The step that keeps the variables, if the snapshot needs one. Raises ConfigUnsupported."""
    assert snapshot.domain_xml is not None
    paths = nvram_paths(snapshot.domain_xml, snapshot.name)
    if not paths or snapshot.full_system:
        return ()
    path, copy = paths
    source, target = facts.files.get(path), facts.files.get(copy)
    if source is None or not source.exists:
        return ()  # a domain that never ran has no variables yet
    if target is not None and target.exists:
        raise ConfigUnsupported(f"copy of the UEFI variables already exists: {copy}")
    return (CopyImage(copy, path),)


def restore_nvram(facts: DomainFacts, snapshot: Snapshot) -> tuple[Step, ...]:
    """The step that brings the variables back, if the snapshot kept them."""
    if snapshot.domain_xml is None:
        return ()
    paths = nvram_paths(snapshot.domain_xml, snapshot.name)
    if not paths or facts.owned.get(paths[1]) is not ImageRole.NVRAM:
        return ()
    return (RestoreFile(path=paths[0], source=paths[1]),)


def reset_nvram(domain_xml: str) -> tuple[RestoreFile, ...]:
    """The step that makes the variables what a new domain has, before QEMU starts; nothing without UEFI.

    Raises OperationFailed where nobody knows what that is.
    """
    definition = DomainDefinition.parse(domain_xml)
    if definition.nvram_path is None:
        return ()
    if definition.nvram_template is None:
        raise OperationFailed(f"unable to find any master var store for loader: {definition.loader_path}")
    return (RestoreFile(path=definition.nvram_path, source=definition.nvram_template),)


def forget_nvram(facts: DomainFacts, snapshots: list[Snapshot]) -> tuple[RemoveFile, ...]:
    """The steps that delete the copies of snapshots that go."""
    copies = [
        path
        for snapshot in snapshots
        if snapshot.domain_xml is not None
        for path in nvram_paths(snapshot.domain_xml, snapshot.name)[1:]
    ]
    return tuple(RemoveFile(path) for path in copies if facts.owned.get(path) is ImageRole.NVRAM)
