"""What a domain remembers while it is off, beside its disks: the UEFI variables, and the state of its TPM.

It belongs to a snapshot as the disks do. With memory it travels in it: QEMU writes the flash back when the
guest runs on, and fills the TPM that was started for it (`KeepTpm`). A snapshot without memory gets a copy
of each file beside it, whatever its format; libvirt keeps none (or, internal, only of variables in qcow2).
"""

from __future__ import annotations

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.tpm import tpm_state
from virtsnap.model.errors import ConfigUnsupported, OperationFailed
from virtsnap.model.facts import DomainFacts, ImageRole
from virtsnap.model.frozen import dataclass
from virtsnap.model.snapshot import Snapshot
from virtsnap.model.steps import CopyImage, KeepTpm, RemoveFile, RestoreFile
from virtsnap.plan.images import frozen_images


@dataclass(frozen=True)
class Kept:
    """A file that a domain remembers by, and the copy of it that the snapshot would have."""

    path: str
    copy: str
    what: str

    @property
    def paths(self) -> tuple[str, str]:
        """Both, for who needs their facts."""
        return self.path, self.copy


def nvram_paths(domain_xml: str, snapshot: str) -> tuple[str, ...]:
    """The domain's variable store and the copy of it that the snapshot would have; nothing without UEFI."""
    path = DomainDefinition.parse(domain_xml).nvram_path
    return () if path is None else (path, f"{path}.{snapshot}")


def kept(domain_xml: str, snapshot: str, root: str) -> tuple[Kept, ...]:
    """All that a definition remembers by. `root`: of what is ours, where TPMs have their states."""
    found: list[Kept] = []
    variables = nvram_paths(domain_xml, snapshot)
    if variables:
        found.append(Kept(variables[0], variables[1], "UEFI variables"))
    state = tpm_state(root, domain_xml)
    if state is not None:
        # Beside the folder: in there the TPM is alone.
        found.append(Kept(state, f"{state.rpartition('/')[0]}.{snapshot}", "TPM's state"))
    return tuple(found)


def copy_nvram(facts: DomainFacts, snapshot: Snapshot) -> tuple[CopyImage, ...]:
    """The steps that keep it, if the snapshot needs them. Raises ConfigUnsupported."""
    assert snapshot.domain_xml is not None
    if snapshot.full_system:
        return ()
    steps: list[CopyImage] = []
    for one in kept(snapshot.domain_xml, snapshot.name, facts.root):
        source, target = facts.files.get(one.path), facts.files.get(one.copy)
        if source is None or not source.exists:
            continue  # a domain that never ran remembers nothing yet
        if target is not None and target.exists:
            raise ConfigUnsupported(f"copy of the {one.what} already exists: {one.copy}")
        steps.append(CopyImage(one.copy, one.path))
    return tuple(steps)


def restore_nvram(facts: DomainFacts, snapshot: Snapshot) -> tuple[RestoreFile, ...]:
    """The steps that bring back what the snapshot kept."""
    if snapshot.domain_xml is None:
        return ()
    return tuple(
        RestoreFile(path=one.path, source=one.copy)
        for one in kept(snapshot.domain_xml, snapshot.name, facts.root)
        if facts.owned.get(one.copy) is ImageRole.NVRAM
    )


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
        one.copy
        for snapshot in snapshots
        if snapshot.domain_xml is not None
        for one in kept(snapshot.domain_xml, snapshot.name, facts.root)
    ]
    return tuple(RemoveFile(path) for path in copies if facts.owned.get(path) is ImageRole.NVRAM)


def taken_back(facts: DomainFacts, snapshot: Snapshot) -> tuple[tuple[CopyImage, ...], tuple[str, ...]]:
    """For a record that somebody kept: the steps that give it copies, and the copies that become its own.

    A copy that lies there under its name is its own. A record that has a new name, or is there under another
    one too, gets what that one kept: it is of the same moment, on the same images.
    """
    if snapshot.domain_xml is None or snapshot.full_system:
        return (), ()
    steps: list[CopyImage] = []
    owned: list[str] = []
    for one, *others in zip(
        kept(snapshot.domain_xml, snapshot.name, facts.root),
        *(kept(snapshot.domain_xml, twin, facts.root) for twin in _twins(facts, snapshot)),
        strict=True,
    ):
        if one.copy in facts.owned:
            continue
        file = facts.files.get(one.copy)
        theirs = [other.copy for other in others if facts.owned.get(other.copy) is ImageRole.NVRAM]
        if file is not None and file.exists:
            owned.append(one.copy)
        elif theirs:
            steps.append(CopyImage(one.copy, theirs[0]))
            owned.append(one.copy)
    return tuple(steps), tuple(owned)


def _twins(facts: DomainFacts, snapshot: Snapshot) -> list[str]:
    """Records of the same moment under other names."""
    return [
        other.name
        for other in facts.tree
        if other.name != snapshot.name
        and other.creation_time == snapshot.creation_time
        and frozen_images(other) == frozen_images(snapshot)
    ]


def keep_tpm(root: str, domain_xml: str, run_dir: str) -> tuple[KeepTpm, ...]:
    """The step after a TPM was loaded with the memory, before the guest runs; nothing without a TPM."""
    state = tpm_state(root, domain_xml)
    return () if state is None else (KeepTpm(run_dir, state),)
