"""DomainSnapshot: a snapshot by its name. libvirt's virDomainSnapshot."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Literal, overload

from virtsnap.api.aio.cloning import Cloning
from virtsnap.api.listing import select
from virtsnap.model.errors import NoSnapshot
from virtsnap.service.interface import MadeSnapshot, PlanReport, ProgressCallback

if TYPE_CHECKING:
    from virtsnap.api.aio.connection import Connection
    from virtsnap.api.aio.domain import Domain


class DomainSnapshot:
    """A snapshot of a domain. Raises NoSnapshot from any call once it is deleted."""

    def __init__(self, domain: Domain, name: str) -> None:
        self._domain = domain
        self._service = domain._service
        self._uuid = domain.UUIDString()
        self._name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} of {self._domain.name()!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DomainSnapshot):
            return NotImplemented
        return (self._domain, self._name) == (other._domain, other._name)

    def __hash__(self) -> int:
        return hash((self._uuid, self._name))

    # what the object holds

    def getName(self) -> str:
        """The name."""
        return self._name

    def memoryMode(self) -> str:
        """How its memory was written, of one that `snapshotCreateXML` has just returned (docs/memory.md).

        background, in-place, paused or stream; empty of any other, and of one without memory.
        """
        return self._name.memory_mode if isinstance(self._name, MadeSnapshot) else ""

    def memoryReason(self) -> str:
        """Why not in a way that the guest would have noticed less; empty when there is none."""
        return self._name.memory_reason if isinstance(self._name, MadeSnapshot) else ""

    def getDomain(self) -> Domain:
        """The domain."""
        return self._domain

    def domain(self) -> Domain:
        """The domain: libvirt-python has both names."""
        return self._domain

    def getConnect(self) -> Connection:
        """The connection."""
        return self._domain.connect()

    def connect(self) -> Connection:
        """The connection: libvirt-python has both names."""
        return self._domain.connect()

    # facts

    async def getXMLDesc(self, flags: int = 0) -> str:
        """The snapshot's XML. Flags: `DomainXml.SECURE` (virDomainSnapshotGetXMLDesc)."""
        return await self._service.snapshot_xml(self._uuid, self._name, flags)

    async def getParent(self, flags: int = 0) -> DomainSnapshot:
        """The parent (virDomainSnapshotGetParent). Raises NoSnapshot for a root."""
        tree = await self._service.snapshot_tree(self._uuid)
        parent = tree.lookup(self._name).parent
        if parent is None:
            raise NoSnapshot(f"snapshot '{self._name}' does not have a parent")
        return DomainSnapshot(self._domain, parent)

    async def isCurrent(self, flags: int = 0) -> bool:
        """The domain's present state descends from this one (virDomainSnapshotIsCurrent)."""
        tree = await self._service.snapshot_tree(self._uuid)
        return tree.lookup(self._name).name == tree.current

    async def hasMetadata(self, flags: int = 0) -> bool:
        """True: a snapshot without metadata has no object (virDomainSnapshotHasMetadata)."""
        (await self._service.snapshot_tree(self._uuid)).lookup(self._name)
        return True

    async def listAllChildren(self, flags: int = 0) -> list[DomainSnapshot]:
        """Children, with `SnapshotList.DESCENDANTS` all below, parents first
        (virDomainSnapshotListAllChildren)."""
        return [DomainSnapshot(self._domain, name) for name in await self.listChildrenNames(flags)]

    async def listChildrenNames(self, flags: int = 0) -> list[str]:
        """Their names (virDomainSnapshotListChildrenNames)."""
        tree = await self._service.snapshot_tree(self._uuid)
        return [snapshot.name for snapshot in select(tree, flags, self._name)]

    async def numChildren(self, flags: int = 0) -> int:
        """How many they are (virDomainSnapshotNumChildren)."""
        return len(await self.listChildrenNames(flags))

    # clones

    def clone(self, name: str | None = None, *, start: bool = True, paused: bool = False) -> Cloning:
        """A new domain that begins as this snapshot: await it to keep it, or `async with` it, and it is gone
        afterwards with all its files.

        Disks are overlays and memory is shared until written to. `name` None: the domain's, the snapshot's
        and a few random letters. `paused`: start it with its virtual CPUs still. libvirt has no such call.
        """
        chosen = name or f"{self._domain.name()}-{self._name}-{secrets.token_hex(4)}"
        return Cloning(self, chosen.replace("/", "-"), start, paused)

    # change

    @overload
    async def delete(
        self,
        flags: int = 0,
        *,
        dry_run: Literal[False] = False,
        progress: ProgressCallback | None = None,
    ) -> int: ...

    @overload
    async def delete(
        self, flags: int = 0, *, dry_run: Literal[True], progress: ProgressCallback | None = None
    ) -> PlanReport: ...

    @overload
    async def delete(
        self, flags: int = 0, *, dry_run: bool, progress: ProgressCallback | None = None
    ) -> int | PlanReport: ...

    async def delete(
        self, flags: int = 0, *, dry_run: bool = False, progress: ProgressCallback | None = None
    ) -> int | PlanReport:
        """Delete the snapshot, its content merged where others need it (virDomainSnapshotDelete).

        Flags: `SnapshotDelete`. Returns 0, with `dry_run` the plan.
        """
        report = await self._service.snapshot_delete(
            self._uuid, self._name, flags, dry_run=dry_run, progress=progress
        )
        return 0 if report is None else report
