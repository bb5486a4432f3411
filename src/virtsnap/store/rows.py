"""Values of `model` to database rows and back. Column names are those of the migrations."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeAlias

from virtsnap.model.domain import DomainHead, DomainRecord, Instance, Reason
from virtsnap.model.errors import Damaged
from virtsnap.model.event import Change, DomainEvent, EventKind
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk, SnapshotState

Row: TypeAlias = tuple[Any, ...]
"""A row as sqlite3 gives it, in the order of the columns named below."""

DOMAIN_COLUMNS = (
    "uuid, name, config_xml, live_xml, persistent, autostart, reason,"
    " instance_id, instance_pid, instance_start_ticks, instance_boot_id, instance_run_dir"
)
HEAD_COLUMNS = (
    "uuid, name, persistent, autostart, reason,"
    " instance_id, instance_pid, instance_start_ticks, instance_boot_id, instance_run_dir"
)
"""The same without texts: there is an index of them."""
SNAPSHOT_COLUMNS = (
    "name, creation_time, state, parent, description, memory, memory_file,"
    " disks, revert_disks, domain_xml, inactive_domain_xml, cookie_xml"
)

EVENT_COLUMNS = "at, uuid, name, id, kind, data"


def domain_row(record: DomainRecord) -> Row:
    """In the order of DOMAIN_COLUMNS."""
    instance = record.instance
    return (
        record.uuid,
        record.name,
        record.config_xml,
        record.live_xml,
        record.persistent,
        record.autostart,
        record.reason.value,
        *(
            (None,) * 5
            if instance is None
            else (instance.id, instance.pid, instance.start_ticks, instance.boot_id, instance.run_dir)
        ),
    )


def domain_record(row: Row) -> DomainRecord:
    """From a row of DOMAIN_COLUMNS. Raises Damaged when a value is none of ours."""
    uuid, name, config_xml, live_xml, persistent, autostart, reason, *instance = row
    try:
        return DomainRecord(
            uuid=uuid,
            name=name,
            config_xml=config_xml,
            persistent=bool(persistent),
            autostart=bool(autostart),
            reason=Reason(reason),
            live_xml=live_xml,
            instance=None if instance[0] is None else Instance(*instance),
        )
    except ValueError as error:
        raise Damaged(f"the store's entry of domain '{name}' cannot be read: {error}") from error


def domain_head(row: Row) -> DomainHead:
    """From a row of HEAD_COLUMNS. Raises Damaged when a value is none of ours."""
    uuid, name, persistent, autostart, reason, *instance = row
    try:
        return DomainHead(
            uuid,
            name,
            bool(persistent),
            bool(autostart),
            Reason(reason),
            None if instance[0] is None else Instance(*instance),
        )
    except ValueError as error:
        raise Damaged(f"the store's entry of domain '{name}' cannot be read: {error}") from error


def snapshot_row(snapshot: Snapshot) -> Row:
    """In the order of SNAPSHOT_COLUMNS."""
    return (
        snapshot.name,
        snapshot.creation_time,
        snapshot.state.value,
        snapshot.parent,
        snapshot.description,
        snapshot.memory.value,
        snapshot.memory_file,
        _disks_text(snapshot.disks),
        _disks_text(snapshot.revert_disks),
        snapshot.domain_xml,
        snapshot.inactive_domain_xml,
        snapshot.cookie_xml,
    )


def snapshot_value(row: Row) -> Snapshot:
    """From a row of SNAPSHOT_COLUMNS. Raises Damaged when a value is none of ours."""
    name, time, state, parent, description, memory, memory_file, disks, revert_disks, *texts = row
    try:
        return Snapshot(
            name=name,
            creation_time=time,
            state=SnapshotState(state),
            description=description,
            parent=parent,
            memory=Location(memory),
            memory_file=memory_file,
            disks=_disks(disks),
            revert_disks=_disks(revert_disks),
            domain_xml=texts[0],
            inactive_domain_xml=texts[1],
            cookie_xml=texts[2],
        )
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged(f"the store's entry of snapshot '{name}' cannot be read: {error}") from error


def event_row(event: DomainEvent) -> Row:
    """In the order of EVENT_COLUMNS."""
    data = json.dumps(event.change.values, separators=(",", ":"))
    return (event.at, event.uuid, event.name, event.id, event.kind.value, data)


def domain_event(row: Row) -> DomainEvent:
    """From a row of the sequence and EVENT_COLUMNS. Raises Damaged when a value is none of ours."""
    sequence, at, uuid, name, id, kind, data = row
    try:
        return DomainEvent(uuid, name, id, Change(EventKind(kind), json.loads(data)), at, sequence)
    except ValueError as error:
        raise Damaged(f"the store's event {sequence} cannot be read: {error}") from error


def _disks_text(disks: Iterable[SnapshotDisk]) -> str:
    """JSON: a list of objects that name only what differs from SnapshotDisk's defaults."""
    return json.dumps([_disk_object(disk) for disk in disks], separators=(",", ":"))


def _disk_object(disk: SnapshotDisk) -> dict[str, object]:
    plain = {field.name: getattr(disk, field.name) for field in fields(disk)}
    plain["location"] = disk.location.value
    empty = {field.name: field.default for field in fields(disk)}
    empty["location"] = Location.UNSET.value
    return {key: value for key, value in plain.items() if value != empty[key] or key == "name"}


def _disks(text: str) -> tuple[SnapshotDisk, ...]:
    if text == "[]":
        return ()
    return tuple(
        SnapshotDisk(**{**entry, "location": Location(entry.get("location", ""))})
        for entry in json.loads(text)
    )
