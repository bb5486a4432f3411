"""Run by the system's Python in a D-Bus session: drives a domain through libvirt-dbus, prints what it saw."""

import json
import sys
from typing import Any

from gi.repository import Gio, GLib  # type: ignore[import-not-found]

bus = Gio.bus_get_sync(Gio.BusType.SESSION)
told = []


def call(path: str, kind: str, method: str, signature: str, *values: object) -> Any:
    """Of an object of libvirt's; the bus starts libvirt-dbus."""
    wanted = GLib.Variant(signature, values)
    answer = bus.call_sync("org.libvirt", path, f"org.libvirt.{kind}", method, wanted, None, 0, 60000, None)
    return answer.unpack()[0] if answer.n_children() else None


def seen(bus: object, sender: str, path: str, kind: str, signal: str, values: Any) -> None:
    told.append([signal, *values.unpack()[1:]])


bus.signal_subscribe("org.libvirt", "org.libvirt.Connect", "DomainEvent", None, None, 0, seen)
found = {"domains": len(call("/org/libvirt/QEMU", "Connect", "ListDomains", "(u)", 0))}
domain = call("/org/libvirt/QEMU", "Connect", "DomainDefineXML", "(s)", sys.argv[1])
call(domain, "Domain", "Create", "(u)", 0)
found["state"] = call(domain, "Domain", "GetState", "(u)", 0)
xml = "<domainsnapshot><name>one</name></domainsnapshot>"
snapshot = call(domain, "Domain", "SnapshotCreateXML", "(su)", xml, 0)
found["snapshots"] = call(domain, "Domain", "ListDomainSnapshots", "(u)", 0) == [snapshot]
call(snapshot, "DomainSnapshot", "Revert", "(u)", 0)
found["reverted"] = call(domain, "Domain", "GetState", "(u)", 0)
call(snapshot, "DomainSnapshot", "Delete", "(u)", 0)
call(domain, "Domain", "Destroy", "(u)", 0)
while not told or told[-1] != ["DomainEvent", 5, 1]:  # stopped, destroyed
    GLib.MainContext.default().iteration(True)
call(domain, "Domain", "Undefine", "(u)", 0)
print(json.dumps(found | {"told": told[:2]}))
