"""libvirt's own asyncio loop (libvirtaio): what it tells of a domain's life and of a block job."""

import asyncio
import json
import sys
from typing import Any

import libvirt  # type: ignore[import-not-found]
import libvirtaio  # type: ignore[import-not-found]

OVERLAY = "<domainsnapshot><disks><disk name='vda'/></disks></domainsnapshot>"
DISK_ONLY = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA


async def main(uri: str, name: str) -> dict[str, Any]:
    libvirtaio.virEventRegisterAsyncIOImpl()
    connection = libvirt.open(uri)
    domain = connection.lookupByName(name)
    told: asyncio.Queue[list[object]] = asyncio.Queue()
    ids = [
        connection.domainEventRegisterAny(
            domain, kind, lambda c, d, *rest: told.put_nowait(list(rest[:-1])), None
        )
        for kind in (
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
            libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB,
            libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
        )
    ]
    domain.create()
    started = [await told.get(), await told.get()]
    domain.snapshotCreateXML(OVERLAY, DISK_ONLY)
    domain.blockPull("vda", 0, 0)
    job = sorted([await told.get(), await told.get()], key=str)
    domain.destroy()
    stopped = [await told.get(), await told.get()]
    for number in ids:
        connection.domainEventDeregisterAny(number)
    return {"started": started, "job": job, "stopped": stopped}


print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
