"""Run by the system's Python with libvirt's own module: takes a URI and a file, prints what it saw."""

import json
import os
import re
import sys

import libvirt  # type: ignore[import-not-found]

libvirt.registerErrorHandler(lambda *_: None, None)
uri, file = sys.argv[1:]
connection = libvirt.open(uri)
with open(file) as stream:
    xml = stream.read()
seen = {
    "type": connection.getType(),
    "version": connection.getLibVersion(),
    "uri": connection.getURI(),
    "alive": connection.isAlive(),
    "cpus": connection.getInfo()[2],
    "memory": connection.getMemoryStats(-1),
    "cpu": sorted(connection.getCPUStats(-1)),
    "capabilities": connection.getCapabilities(),
    "q35": connection.getDomainCapabilities(None, "x86_64", "q35", "qemu"),
    "empty": [
        len(found)
        for found in (
            connection.listAllNetworks(),
            connection.listAllStoragePools(),
            connection.listAllDevices(),
            connection.listAllSecrets(),
        )
    ],
}


def refusal(work):  # type: ignore[no-untyped-def]
    try:
        work()
    except libvirt.libvirtError as error:
        return [error.get_error_code(), error.get_error_domain(), str(error)]
    raise AssertionError("it was not refused")


domain = connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)
seen["transient"] = [domain.name(), domain.ID() > 0, domain.isPersistent(), domain.state()]
seen["again"] = refusal(lambda: connection.createXML(xml))
domain.resume()
seen["resumed"] = domain.state()
domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_DESCRIPTION, "for a test", None, None)
seen["description"] = domain.metadata(libvirt.VIR_DOMAIN_METADATA_DESCRIPTION, None)
domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, "<a x='1'/>", "k", "http://example.org/x")
seen["element"] = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, "http://example.org/x")
seen["in the definition"] = domain.XMLDesc()
seen["no title"] = refusal(lambda: domain.metadata(libvirt.VIR_DOMAIN_METADATA_TITLE, None))
seen["stats"] = connection.getAllDomainStats()[0][1]
domain.sendKey(libvirt.VIR_KEYCODE_SET_LINUX, 0, [29, 56, 111], 3, 0)
domain = connection.defineXML(xml)
seen["defined"] = [domain.isPersistent(), domain.autostart()]
domain.setAutostart(1)
listed = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART)
seen["autostart"] = [domain.autostart(), len(listed)]
snapshot = domain.snapshotCreateXML("<domainsnapshot><name>one</name></domainsnapshot>")
seen["snapshot"] = [snapshot.getName(), snapshot.isCurrent(), domain.snapshotNum(), snapshot.numChildren()]
child = domain.snapshotCreateXML("<domainsnapshot><name>two</name></domainsnapshot>")
seen["tree"] = [child.getParent().getName(), [one.getName() for one in snapshot.listAllChildren()]]
seen["root"] = refusal(snapshot.getParent)
before = domain.ID()
domain.revertToSnapshot(snapshot)
seen["reverted"] = [domain.state(), connection.lookupByUUID(domain.UUID()).ID() > before]
snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN)
seen["left"] = domain.snapshotNum()
seen["nothing"] = refusal(lambda: domain.snapshotLookupByName("one"))
seen["job"] = domain.jobStats()
seen["block"] = domain.blockInfo("vda")[0]
stream = connection.newStream()
seen["mime"] = domain.screenshot(stream, 0)
picture = b""
while data := stream.recv(65536):
    picture += data
stream.finish()
seen["picture"] = picture[:4].hex()
screen = domain.openGraphicsFD(0)
seen["screen"] = os.read(screen, 12).decode()
os.close(screen)
seen["screen at"] = re.findall("<graphics .*", domain.XMLDesc())[0]
seen["no screen"] = refusal(lambda: domain.openGraphicsFD(1))
domain.destroy()
domain.undefine()
seen["gone"] = refusal(domain.state)
readonly = libvirt.openReadOnly(uri)
seen["readonly"] = refusal(lambda: readonly.defineXML(xml))
readonly.close()
connection.close()
print(json.dumps(seen))
