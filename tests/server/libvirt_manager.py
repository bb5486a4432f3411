"""What virt-manager asks when it opens a connection and shows a machine, and its event loop."""

import json
import sys
import threading
import time

import libvirt  # type: ignore[import-not-found]

libvirt.registerErrorHandler(lambda *_: None, None)
libvirt.virEventRegisterDefaultImpl()


def loop():  # type: ignore[no-untyped-def]
    while True:
        libvirt.virEventRunDefaultImpl()


threading.Thread(target=loop, daemon=True).start()
connection = libvirt.openAuth(sys.argv[1], [[], lambda *_: 0, None], 0)
connection.setKeepAlive(20, 1)
seen = {"version": connection.getVersion(), "capabilities": len(connection.getCapabilities())}
told = []
wishes = (
    (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda c, dom, *rest: told.append((dom.name(), *rest[:2]))),
    *(
        (kind, lambda *_: None)
        for kind in (
            libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE,
            libvirt.VIR_DOMAIN_EVENT_ID_TRAY_CHANGE,
            libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
            libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
            libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
            libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
        )
    ),
)
ids = [connection.domainEventRegisterAny(None, kind, work, None) for kind, work in wishes]
network = connection.networkEventRegisterAny(
    None, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE, lambda *_: None, None
)
device = connection.nodeDeviceEventRegisterAny(
    None, libvirt.VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE, lambda *_: None, None
)
pool = connection.storagePoolEventRegisterAny(
    None, libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, lambda *_: None, None
)
seen["empty"] = [
    connection.numOfNetworks(),
    connection.numOfDevices(None, 0),
    len(connection.listAllNetworks()),
    len(connection.listAllDevices()),
    len(connection.listAllStoragePools()),
]
(domain,) = connection.listAllDomains(0)
seen["info"] = connection.getInfo()[2] > 0
seen["stats"] = sorted(connection.getAllDomainStats(11, 0)[0][1])[:3]
seen["saved"] = domain.hasManagedSaveImage(0)
seen["state"] = domain.state(0)
seen["xml"] = len(domain.XMLDesc(0)) > 0 and len(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)) > 0
seen["machine"] = len(connection.getDomainCapabilities(None, "x86_64", "pc", "qemu")) > 0
domain.create()
snapshot = domain.snapshotCreateXML("<domainsnapshot><name>snapshot1</name></domainsnapshot>", 0)
seen["current"] = [one.isCurrent() for one in domain.listAllSnapshots()]
domain.revertToSnapshot(snapshot)
snapshot.delete(0)
domain.destroy()
deadline = time.monotonic() + 30
while ("vm", 5, 1) not in told and time.monotonic() < deadline:
    domain.state()  # events come with whatever else comes
seen["told"] = [list(one) for one in told]
for number in ids:
    connection.domainEventDeregisterAny(number)
connection.networkEventDeregisterAny(network)
connection.storagePoolEventDeregisterAny(pool)
connection.nodeDeviceEventDeregisterAny(device)
print(json.dumps(seen))
