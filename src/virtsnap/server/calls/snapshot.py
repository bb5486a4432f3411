"""The calls on snapshots."""

from __future__ import annotations

from virtsnap.api.listing import select
from virtsnap.model.errors import NoSnapshot
from virtsnap.model.flags import SnapshotList
from virtsnap.model.snapshot import Snapshot
from virtsnap.server.answers import Packed
from virtsnap.server.calls.flags import only
from virtsnap.server.session import Session
from virtsnap.wire.procedures import REMOTE, pack_snapshots
from virtsnap.wire.values import WireDomain, WireSnapshot

_KNOWN = 2 * int(SnapshotList.TOPOLOGICAL) - 1


async def _select(
    session: Session, dom: WireDomain, flags: int, function: str, start: str | None = None
) -> list[Snapshot]:
    only(flags, _KNOWN, function)
    return select(await session.service.snapshot_tree(dom.uuid_text), flags, start)


async def domain_snapshot_create_xml(
    session: Session, dom: WireDomain, xml_desc: str, flags: int
) -> WireSnapshot:
    name = await session.service.snapshot_create_xml(dom.uuid_text, xml_desc, flags)
    assert isinstance(name, str)
    return await session.snapshot(dom, name)


async def domain_snapshot_get_xml_desc(session: Session, snap: WireSnapshot, flags: int) -> str:
    return await session.service.snapshot_xml(snap.domain.uuid_text, snap.name, flags)


async def domain_snapshot_num(session: Session, dom: WireDomain, flags: int) -> int:
    return len(await _select(session, dom, flags, "qemuDomainSnapshotNum"))


async def domain_snapshot_list_names(session: Session, dom: WireDomain, maxnames: int, flags: int) -> Packed:
    only(flags, _KNOWN, "qemuDomainSnapshotListNames")
    tree = await session.service.snapshot_tree(dom.uuid_text)

    def pack() -> bytes:
        names = [snapshot.name for snapshot in select(tree, flags)][: max(maxnames, 0)]
        return REMOTE["domain_snapshot_list_names"].pack_answer(names)

    key = ("snapshot names", session.readonly, dom.uuid, max(maxnames, 0), flags)
    return session.answers.get(key, tree, pack)


async def domain_list_all_snapshots(
    session: Session, dom: WireDomain, need_results: int, flags: int
) -> Packed:
    only(flags, _KNOWN, "qemuDomainListAllSnapshots")
    tree = await session.service.snapshot_tree(dom.uuid_text)
    now = await session.domain(dom)

    def pack() -> bytes:
        names = [snapshot.name for snapshot in select(tree, flags)]
        return pack_snapshots(names if need_results else [], now, len(names))

    key = ("snapshots", session.readonly, now, bool(need_results), flags)
    return session.answers.get(key, tree, pack)


async def domain_snapshot_num_children(session: Session, snap: WireSnapshot, flags: int) -> int:
    return len(await _select(session, snap.domain, flags, "qemuDomainSnapshotNumChildren", snap.name))


async def domain_snapshot_list_children_names(
    session: Session, snap: WireSnapshot, maxnames: int, flags: int
) -> list[str]:
    found = await _select(session, snap.domain, flags, "qemuDomainSnapshotListChildrenNames", snap.name)
    return [snapshot.name for snapshot in found][: max(maxnames, 0)]


async def domain_snapshot_list_all_children(
    session: Session, snap: WireSnapshot, need_results: int, flags: int
) -> tuple[list[WireSnapshot], int]:
    found = await _select(session, snap.domain, flags, "qemuDomainSnapshotListAllChildren", snap.name)
    now = await session.domain(snap.domain)
    return [WireSnapshot(one.name, now) for one in found if need_results], len(found)


async def domain_snapshot_lookup_by_name(
    session: Session, dom: WireDomain, name: str, flags: int
) -> WireSnapshot:
    only(flags, 0, "qemuDomainSnapshotLookupByName")
    (await session.service.snapshot_tree(dom.uuid_text)).lookup(name)
    return await session.snapshot(dom, name)


async def domain_has_current_snapshot(session: Session, dom: WireDomain, flags: int) -> bool:
    only(flags, 0, "qemuDomainHasCurrentSnapshot")
    return (await session.service.snapshot_tree(dom.uuid_text)).current is not None


async def domain_snapshot_current(session: Session, dom: WireDomain, flags: int) -> WireSnapshot:
    only(flags, 0, "qemuDomainSnapshotCurrent")
    tree = await session.service.snapshot_tree(dom.uuid_text)
    if tree.current is None:
        raise NoSnapshot("the domain does not have a current snapshot")
    return await session.snapshot(dom, tree.current)


async def domain_snapshot_get_parent(session: Session, snap: WireSnapshot, flags: int) -> WireSnapshot:
    only(flags, 0, "qemuDomainSnapshotGetParent")
    parent = (await session.service.snapshot_tree(snap.domain.uuid_text)).lookup(snap.name).parent
    if parent is None:
        raise NoSnapshot(f"snapshot '{snap.name}' does not have a parent")
    return await session.snapshot(snap.domain, parent)


async def domain_snapshot_is_current(session: Session, snap: WireSnapshot, flags: int) -> bool:
    only(flags, 0, "qemuDomainSnapshotIsCurrent")
    tree = await session.service.snapshot_tree(snap.domain.uuid_text)
    return tree.lookup(snap.name).name == tree.current


async def domain_snapshot_has_metadata(session: Session, snap: WireSnapshot, flags: int) -> bool:
    only(flags, 0, "qemuDomainSnapshotHasMetadata")
    (await session.service.snapshot_tree(snap.domain.uuid_text)).lookup(snap.name)
    return True


async def domain_revert_to_snapshot(session: Session, snap: WireSnapshot, flags: int) -> None:
    await session.service.snapshot_revert(snap.domain.uuid_text, snap.name, flags)


async def domain_snapshot_delete(session: Session, snap: WireSnapshot, flags: int) -> None:
    await session.service.snapshot_delete(snap.domain.uuid_text, snap.name, flags)
