"""The calls on storage pools and volumes."""

from __future__ import annotations

from uuid import UUID

from virtsnap.model.storage import Pool, Volume, VolumeResize
from virtsnap.server.calls.flags import only
from virtsnap.server.session import Session
from virtsnap.server.streams import FileSource, Stream

WirePool = tuple[str, bytes]
WireVolume = tuple[str, str, str]

_INACTIVE, _ACTIVE, _PERSISTENT, _TRANSIENT, _AUTOSTART, _NO_AUTOSTART, _DIR = (1 << bit for bit in range(7))
_KINDS = 0xFFFC0 | _DIR
_RUNNING = 2
_PREALLOC_METADATA = 1
_DEFINED, _UNDEFINED, _STARTED, _STOPPED, _CREATED, _DELETED = range(6)
"""virStoragePoolEventLifecycleType."""
_CAPABILITIES = """<storagepoolCapabilities>
  <pool type='dir' supported='yes'>
    <volOptions>
      <defaultFormat type='raw'/>
      <enum name='targetFormatType'>
        <value>raw</value>
        <value>qcow2</value>
      </enum>
    </volOptions>
  </pool>
</storagepoolCapabilities>
"""


def _wire(pool: Pool) -> WirePool:
    return pool.name, UUID(pool.uuid).bytes


def _uuid(pool: WirePool) -> str:
    return str(UUID(bytes=pool[1]))


def _told(session: Session, pool: WirePool, event: int | None) -> WirePool:
    session.events.pools.tell(pool, event)
    return pool


def _wire_volume(pool: Pool, volume: Volume) -> WireVolume:
    return pool.name, volume.name, volume.path


# pools


def _passes(pool: Pool, flags: int) -> bool:
    groups = (
        {_ACTIVE: pool.active, _INACTIVE: not pool.active},
        {_PERSISTENT: pool.persistent, _TRANSIENT: not pool.persistent},
        {_AUTOSTART: pool.autostart, _NO_AUTOSTART: not pool.autostart},
    )
    return (not flags & _KINDS or bool(flags & _DIR)) and all(
        not any(flags & bit for bit in group) or any(flags & bit and true for bit, true in group.items())
        for group in groups
    )


async def connect_list_all_storage_pools(
    session: Session, need_results: int, flags: int
) -> tuple[list[WirePool], int]:
    found = [_wire(pool) for pool in session.storage.pools() if _passes(pool, flags)]
    return (found if need_results else []), len(found)


async def connect_num_of_storage_pools(session: Session) -> int:
    return sum(pool.active for pool in session.storage.pools())


async def connect_list_storage_pools(session: Session, maxnames: int) -> list[str]:
    return [pool.name for pool in session.storage.pools() if pool.active][: max(maxnames, 0)]


async def connect_num_of_defined_storage_pools(session: Session) -> int:
    return sum(not pool.active for pool in session.storage.pools())


async def connect_list_defined_storage_pools(session: Session, maxnames: int) -> list[str]:
    return [pool.name for pool in session.storage.pools() if not pool.active][: max(maxnames, 0)]


async def storage_pool_lookup_by_name(session: Session, name: str) -> WirePool:
    return _wire(session.storage.pool(name=name))


async def storage_pool_lookup_by_uuid(session: Session, uuid: bytes) -> WirePool:
    return _wire(session.storage.pool(uuid=str(UUID(bytes=uuid))))


async def storage_pool_lookup_by_target_path(session: Session, path: str) -> WirePool:
    return _wire(session.storage.pool(path=path))


async def storage_pool_lookup_by_volume(session: Session, vol: WireVolume) -> WirePool:
    return _wire(session.storage.pool(name=vol[0]))


async def storage_pool_define_xml(session: Session, xml: str, flags: int) -> WirePool:
    only(flags, 0, "storagePoolDefineXML")
    return _told(session, _wire(session.storage.define(xml)), _DEFINED)


async def storage_pool_create_xml(session: Session, xml: str, flags: int) -> WirePool:
    only(flags, 1, "storagePoolCreateXML")  # WITH_BUILD
    return _told(session, _wire(session.storage.define(xml, start=True, build=bool(flags))), _STARTED)


async def storage_pool_create(session: Session, pool: WirePool, flags: int) -> None:
    only(flags, 1, "storagePoolCreate")  # WITH_BUILD
    if flags:
        await storage_pool_build(session, pool, 0)
    session.storage.start(_uuid(pool))
    _told(session, pool, _STARTED)


async def storage_pool_build(session: Session, pool: WirePool, flags: int) -> None:
    only(flags, 0, "storagePoolBuild")
    session.storage.build(_uuid(pool))
    _told(session, pool, _CREATED)


async def storage_pool_destroy(session: Session, pool: WirePool) -> None:
    session.storage.stop(_uuid(pool))
    _told(session, pool, _STOPPED)


async def storage_pool_delete(session: Session, pool: WirePool, flags: int) -> None:
    only(flags, 0, "storagePoolDelete")
    session.storage.delete_folder(_uuid(pool))
    _told(session, pool, _DELETED)


async def storage_pool_undefine(session: Session, pool: WirePool) -> None:
    session.storage.undefine(_uuid(pool))
    _told(session, pool, _UNDEFINED)


async def storage_pool_refresh(session: Session, pool: WirePool, flags: int) -> None:
    only(flags, 0, "storagePoolRefresh")
    session.storage.volumes(_uuid(pool))  # what is there is looked at whenever somebody asks
    _told(session, pool, None)


async def storage_pool_is_active(session: Session, pool: WirePool) -> bool:
    return session.storage.pool(uuid=_uuid(pool)).active


async def storage_pool_is_persistent(session: Session, pool: WirePool) -> bool:
    return session.storage.pool(uuid=_uuid(pool)).persistent


async def storage_pool_get_autostart(session: Session, pool: WirePool) -> bool:
    return session.storage.pool(uuid=_uuid(pool)).autostart


async def storage_pool_set_autostart(session: Session, pool: WirePool, autostart: int) -> None:
    session.storage.set_autostart(_uuid(pool), bool(autostart))


async def storage_pool_get_info(session: Session, pool: WirePool) -> tuple[int, int, int, int]:
    found = session.storage.pool(uuid=_uuid(pool))
    space = session.storage.space(found)
    return (_RUNNING if found.active else 0), space.capacity, space.allocation, space.available


async def storage_pool_get_xml_desc(session: Session, pool: WirePool, flags: int) -> str:
    only(flags, 1, "storagePoolGetXMLDesc")  # INACTIVE
    return session.storage.pool_xml(_uuid(pool))


async def connect_get_storage_pool_capabilities(session: Session, flags: int) -> str:
    only(flags, 0, "virConnectGetStoragePoolCapabilities")
    return _CAPABILITIES


# volumes


async def storage_pool_num_of_volumes(session: Session, pool: WirePool) -> int:
    return len(session.storage.volumes(_uuid(pool)))


async def storage_pool_list_volumes(session: Session, pool: WirePool, maxnames: int) -> list[str]:
    return [volume.name for volume in session.storage.volumes(_uuid(pool))][: max(maxnames, 0)]


async def storage_pool_list_all_volumes(
    session: Session, pool: WirePool, need_results: int, flags: int
) -> tuple[list[WireVolume], int]:
    only(flags, 0, "storagePoolListAllVolumes")
    where = session.storage.pool(uuid=_uuid(pool))
    found = [_wire_volume(where, volume) for volume in session.storage.volumes(where.uuid)]
    return (found if need_results else []), len(found)


async def storage_vol_lookup_by_name(session: Session, pool: WirePool, name: str) -> WireVolume:
    where = session.storage.pool(uuid=_uuid(pool))
    return _wire_volume(where, session.storage.volume(where.name, name))


async def storage_vol_lookup_by_path(session: Session, path: str) -> WireVolume:
    return _wire_volume(*session.storage.volume_by_path(path))


async def storage_vol_lookup_by_key(session: Session, key: str) -> WireVolume:
    return _wire_volume(*session.storage.volume_by_path(key))


async def storage_vol_get_path(session: Session, vol: WireVolume) -> str:
    return session.storage.volume(vol[0], vol[1]).path


async def storage_vol_get_info(session: Session, vol: WireVolume) -> tuple[int, int, int]:
    return await storage_vol_get_info_flags(session, vol, 0)


async def storage_vol_get_info_flags(session: Session, vol: WireVolume, flags: int) -> tuple[int, int, int]:
    only(flags, 1, "storageVolGetInfoFlags")  # GET_PHYSICAL
    found = session.storage.volume(vol[0], vol[1])
    return 0, found.capacity, found.physical if flags else found.allocation


async def storage_vol_get_xml_desc(session: Session, vol: WireVolume, flags: int) -> str:
    only(flags, 0, "storageVolGetXMLDesc")
    return session.storage.volume_xml(vol[0], vol[1])


async def storage_vol_create_xml(session: Session, pool: WirePool, xml: str, flags: int) -> WireVolume:
    only(flags, _PREALLOC_METADATA, "storageVolCreateXML")
    where = session.storage.pool(uuid=_uuid(pool))
    made = await session.storage.create(where.uuid, xml, metadata=bool(flags))
    return _wire_volume(where, made)


async def storage_vol_create_xml_from(
    session: Session, pool: WirePool, xml: str, clonevol: WireVolume, flags: int
) -> WireVolume:
    only(flags, 0, "storageVolCreateXMLFrom")
    where = session.storage.pool(uuid=_uuid(pool))
    return _wire_volume(where, await session.storage.clone(where.uuid, xml, clonevol[0], clonevol[1]))


async def storage_vol_delete(session: Session, vol: WireVolume, flags: int) -> None:
    only(flags, 0, "storageVolDelete")
    await session.storage.delete(vol[0], vol[1])


async def storage_vol_wipe(session: Session, vol: WireVolume, flags: int) -> None:
    await storage_vol_wipe_pattern(session, vol, 0, flags)


async def storage_vol_wipe_pattern(session: Session, vol: WireVolume, algorithm: int, flags: int) -> None:
    only(flags, 0, "storageVolWipePattern")
    await session.storage.wipe(vol[0], vol[1], algorithm)


async def storage_vol_resize(session: Session, vol: WireVolume, capacity: int, flags: int) -> None:
    only(flags, sum(VolumeResize), "storageVolResize")
    await session.storage.resize(vol[0], vol[1], capacity, flags)


async def storage_vol_download(
    session: Session, stream: Stream, vol: WireVolume, offset: int, length: int, flags: int
) -> None:
    only(flags, 0, "storageVolDownload")
    descriptor = await session.storage.open(vol[0], vol[1], write=False)
    stream.source = FileSource(descriptor, offset, length)


async def storage_vol_upload(
    session: Session, stream: Stream, vol: WireVolume, offset: int, length: int, flags: int
) -> None:
    only(flags, 0, "storageVolUpload")
    descriptor = await session.storage.open(vol[0], vol[1], write=True)
    stream.source = FileSource(descriptor, offset, length, write=True)
