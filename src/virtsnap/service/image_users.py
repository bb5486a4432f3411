"""Who needs an image file: domains and snapshots, by their names for it and by what their images stand on.

Not here: what follows of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from virtsnap.model.domain import DomainRecord
from virtsnap.model.storage import User
from virtsnap.plan.images import disks_of, frozen_images
from virtsnap.qemu.facts import chain
from virtsnap.store.database import Store


def formats(store: Store) -> dict[str, str]:
    """By path, the format that a definition or a snapshot says its image has."""
    found: dict[str, str] = {}
    for record in store.domains():
        texts = [snapshot.domain_xml for snapshot in store.tree(record.uuid)]
        for text in (*texts, record.config_xml, record.live_xml):
            if text is not None:
                found |= {disk.source: disk.format for disk in disks_of(text) if disk.source is not None}
    return found


async def users(store: Store, path: str) -> list[User]:
    """Who needs the file at `path`, by whatever name: those that name it before those that stand on it."""
    wanted = os.path.realpath(path)
    direct: list[User] = []
    below: list[User] = []
    for record in store.domains():
        for source, format, user in _named(store, record):
            if os.path.realpath(source) == wanted:
                direct.append(user)
            elif format is not None:
                under = (await chain(source, format))[1:]
                if any(os.path.realpath(image.path) == wanted for image in under):
                    below.append(replace(user, at_rest=False))
    return direct + below


def _named(store: Store, record: DomainRecord) -> Iterator[tuple[str, str | None, User]]:
    """(path, format of an image or None for what stands on nothing that others do not name, by whom)."""
    snapshots = list(store.tree(record.uuid))
    itself = User(record.name, at_rest=record.live_xml is None and not snapshots)
    for text in (record.live_xml, record.config_xml):
        if text is not None:
            for disk in disks_of(text):
                if disk.source is not None:
                    yield disk.source, disk.format, itself
    for snapshot in snapshots:
        user = User(record.name, snapshot.name)
        frozen = set(frozen_images(snapshot).values())
        for disk in disks_of(snapshot.domain_xml) if snapshot.domain_xml is not None else ():
            if disk.source in frozen:
                yield disk.source, disk.format, user
        if snapshot.memory_file is not None:
            yield snapshot.memory_file, None, user
    for source in store.images(record.uuid):
        yield source, None, itself
