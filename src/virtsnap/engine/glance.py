"""A look at domains that costs next to nothing while nothing happens to them: for those who ask all the time.

Nothing here is answered from memory alone. What is remembered of a domain counts as long as three things are
what they were: the store (nobody has written to it, or not of this domain), the process, the log that QEMU
keeps of its own events. All three are asked each time, with a few system calls and no word to QEMU. When one
has moved, or somebody works on the domain, the answer is None: then `refresh` is the one to ask.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from virtsnap.engine.refresh import observed
from virtsnap.engine.world import events_path
from virtsnap.model.domain import DomainHead, DomainRecord, Instance
from virtsnap.qemu import process
from virtsnap.store.database import Store
from virtsnap.store.reads import Standing

if TYPE_CHECKING:
    from virtsnap.formats.domain_summary import DomainSummary

_SIGHTS_MAX = 4096
_Stamp = tuple[int, int, int]


class Sight:
    """A domain that is as its record says. The same object as long as nothing has happened to it."""

    __slots__ = ("_log", "_summary", "_texts", "balloon", "cpu_time_ns", "record", "standing")

    def __init__(self, standing: Standing, log: _Stamp | None) -> None:
        self.standing = standing
        self.record: DomainRecord = standing.record
        self._log = log
        self.cpu_time_ns: int | None = None
        """Processor time that its QEMU has used, at the last look."""
        self.balloon: tuple[int | None] | None = None
        """What QEMU said of its balloon, KiB, since anything happened; (None,): it has none."""
        self._summary: DomainSummary | None = None
        self._texts: dict[tuple[bool, bool], str] = {}

    @property
    def summary(self) -> DomainSummary:
        """What its definition says, as it lives."""
        if self._summary is None:
            from virtsnap.formats.domain_summary import summary

            self._summary = summary(self.record.live_xml or self.record.config_xml)
        return self._summary

    def text(self, inactive: bool, secure: bool) -> str:
        """Its XML, as it is started or, where the balloon is known, as it lives."""
        known = self._texts.get((inactive, secure))
        if known is None:
            known = self._texts[inactive, secure] = self._text(inactive, secure)
        return known

    def _text(self, inactive: bool, secure: bool) -> str:
        from virtsnap.formats.domain_xml import DomainDefinition

        stored = self.record.config_xml if inactive else self.record.live_xml
        assert stored is not None
        definition = DomainDefinition.parse(stored)
        balloon = self.balloon[0] if self.balloon is not None else None
        if not inactive and balloon is not None:
            definition = definition.with_memory(definition.memory_kib, balloon)
        if not secure:
            definition = definition.without_secrets()
        text = definition.to_inactive_xml() if inactive else definition.to_xml()
        return stored if text == stored else text  # one copy is enough

    def holds(self) -> bool:
        """Its QEMU, if it has one, has said nothing and lives."""
        instance = self.record.instance
        if instance is None:
            return True
        self.cpu_time_ns = process.beating(instance)
        return self.cpu_time_ns is not None and _stamp(instance) == self._log


class Glances:
    """What was seen of the domains of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sights: dict[str, Sight] = {}
        self._active: tuple[DomainHead, ...] = ()
        self._active_of: tuple[DomainHead, ...] | None = None

    def at(self, uuid: str) -> Sight | None:
        """The domain as it is now; None for one that is not known, too."""
        standing = self._store.standing(uuid)
        return self.of(standing) if standing is not None else None

    def of(self, standing: Standing) -> Sight | None:
        """The same of one whose standing was read just now."""
        uuid = standing.record.uuid
        known = self._sights.get(uuid)
        if known is not None and known.standing is standing and known.holds():
            return known
        found = _look(standing)
        if found is None:
            self._sights.pop(uuid, None)
            return None
        if len(self._sights) >= _SIGHTS_MAX:
            self._sights.clear()
        self._sights[uuid] = found
        return found

    def all(self) -> tuple[DomainHead, ...] | None:
        """All domains, by name, if each is as its record says; the same tuple while nothing is written."""
        heads, busy = self._store.heads()
        if busy:
            return None
        if heads is not self._active_of:
            self._active = tuple(head for head in heads if head.active or not head.persistent)
            self._active_of = heads
        for head in self._active:
            sight = self.at(head.uuid)
            if sight is None or sight.record.instance != head.instance or sight.record.reason != head.reason:
                return None
        return heads


def _look(standing: Standing) -> Sight | None:
    record = standing.record
    if standing.busy or not (record.active or record.persistent):
        return None
    # What happens from here on makes another stamp than this one.
    sight = Sight(standing, _stamp(record.instance) if record.instance is not None else None)
    return sight if observed(record) == record and sight.holds() else None


def _stamp(instance: Instance) -> _Stamp:
    """Changes with every event that the QEMU logs."""
    try:
        status = os.stat(events_path(instance.run_dir))
    except FileNotFoundError:
        return (0, 0, 0)
    return (status.st_size, status.st_mtime_ns, status.st_ino)
