"""Another medium for a drive of a running domain: what runs and what is written down change together."""

from __future__ import annotations

from virtsnap.formats.domain_xml import DomainDisk
from virtsnap.model.domain import DomainRecord
from virtsnap.model.steps import ChangeMedium, DropUnusedNodes, OpenMedium, Plan, StoreWrite


def plan_change_medium(
    changed: DomainRecord,
    drive: DomainDisk,
    new: DomainDisk,
    *,
    node: int,
    before: str | None,
    force: bool,
    left: tuple[str, ...] = (),
) -> Plan:
    """`new`: the drive with its medium, or without. `changed`: the domain's record with it.

    `node`: a number that no node of its QEMU has; `before`: the node of the medium that is in it;
    `left`: images that the changed definition leaves behind.
    """
    empty = new.source is None
    opened = () if new.source is None else (OpenMedium(new.target, new.source, new.format, new.type, node),)
    change = ChangeMedium(new.target, drive.alias or "", None if empty else node, before, force)
    return Plan(
        operation="change-media",
        subject=changed.name,
        prepare=(*opened, change),
        commit=StoreWrite(record=changed, delete_images=left),
        finish=(DropUnusedNodes(),),
    )
