"""The few facts of a definition that monitors ask for again and again, apart from its XML."""

from __future__ import annotations

from virtsnap.formats.domain_xml import DiskLayer, DomainDefinition, DomainDisk
from virtsnap.model.frozen import dataclass


@dataclass(frozen=True)
class DomainSummary:
    """Memory in KiB."""

    os_type: str
    vcpus: int
    max_vcpus: int
    memory_kib: int
    current_memory_kib: int
    disks: tuple[DomainDisk, ...]
    layers: tuple[tuple[DiskLayer, ...], ...]
    """Those of each disk, top first."""
    interfaces: int
    balloon: str | None
    """The balloon's alias."""


def summary(text: str) -> DomainSummary:
    """Of a domain's XML. Raises as `DomainDefinition.parse` does."""
    definition = DomainDefinition.parse(text)
    return DomainSummary(
        definition.os_type,
        definition.vcpus,
        definition.max_vcpus,
        definition.memory_kib,
        definition.current_memory_kib,
        definition.disks,
        tuple(definition.layers(disk.target) for disk in definition.disks),
        definition.interface_count,
        definition.balloon_alias,
    )
