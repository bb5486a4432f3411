"""The order in which libvirt writes the children and attributes of a domain's elements.

`arrange` puts a tree into that order. Whatever is not listed keeps its place behind what is; nothing is
dropped. Source: the oracle's `dumpxml`, and the order of the sections on libvirt's formatdomain page.
"""

from __future__ import annotations

from lxml import etree

from virtsnap.machine import tree
from virtsnap.machine.addresses import disk_index

_INFO = ("boot", "alias", "master", "rom", "acpi", "address")
"""What most devices end with."""

_CHARACTER = ("source", "protocol", "log", "target", *_INFO)

CHILDREN: dict[str, tuple[str, ...]] = {
    "domain": (
        *("name", "uuid", "hwuuid", "genid", "title", "description", "metadata"),
        *("maxMemory", "memory", "currentMemory", "blkiotune", "memtune", "memoryBacking"),
        *("vcpu", "vcpus", "iothreads", "iothreadids", "defaultiothread", "cputune", "numatune"),
        *("resource", "sysinfo", "bootloader", "bootloader_args", "os", "idmap", "features", "cpu", "clock"),
        *("on_poweroff", "on_reboot", "on_crash", "on_lockfailure", "pm", "perf", "devices", "seclabel"),
        *("keywrap", "launchSecurity"),
    ),
    "os": (
        *("type", "init", "initarg", "firmware", "loader", "nvram", "varstore", "kernel", "initrd"),
        *("cmdline", "dtb", "shim", "acpi", "boot", "bootmenu", "bios", "smbios"),
    ),
    "features": (
        *("acpi", "apic", "pae", "hap", "viridian", "privnet", "hyperv", "kvm", "pvspinlock"),
        *("capabilities", "pmu", "vmport", "gic", "smm", "ioapic", "hpt", "htm", "nested-hv", "msrs"),
        *("ccf-assist", "xen", "cfpc", "sbbc", "ibs", "tcg", "async-teardown", "ras", "ps2", "aia"),
    ),
    "hyperv": (
        *("relaxed", "vapic", "spinlocks", "vpindex", "runtime", "synic", "stimer", "reset", "vendor_id"),
        *("frequencies", "reenlightenment", "tlbflush", "ipi", "avic", "evmcs", "emsr_bitmap", "xmm_input"),
    ),
    "cpu": ("model", "vendor", "topology", "cache", "maxphysaddr", "feature", "numa"),
    "pm": ("suspend-to-mem", "suspend-to-disk"),
    "devices": (
        *("emulator", "disk", "controller", "lease", "filesystem", "interface", "smartcard", "serial"),
        *("parallel", "console", "channel", "input", "tpm", "graphics", "sound", "audio", "video"),
        *("hostdev", "redirdev", "redirfilter", "hub", "watchdog", "memballoon", "rng", "nvram", "panic"),
        *("shmem", "memory", "iommu", "vsock", "crypto", "pstore"),
    ),
    "disk": (
        *("driver", "auth", "source", "backingStore", "backenddomain", "geometry", "blockio", "mirror"),
        *("target", "iotune", "throttlefilters", "readonly", "shareable", "transient", "serial", "wwn"),
        *("vendor", "product", "encryption", *_INFO),
    ),
    "backingStore": ("format", "source", "backingStore"),
    "controller": ("model", "target", "driver", *_INFO, "pcihole64"),
    "interface": (
        *("mac", "source", "vlan", "virtualport", "bandwidth", "port", "ip", "route", "script"),
        *("downscript", "backenddomain", "target", "guest", "model", "driver", "backend", "filterref"),
        *("tune", "link", "mtu", "teaming", "coalesce", "portForward", *_INFO),
    ),
    "serial": _CHARACTER,
    "parallel": _CHARACTER,
    "console": _CHARACTER,
    "channel": _CHARACTER,
    "input": ("driver", "source", *_INFO),
    "tpm": ("backend", *_INFO),
    "active_pcr_banks": ("sha1", "sha256", "sha384", "sha512"),
    "sound": ("driver", "codec", "audio", *_INFO),
    "video": ("driver", "model", *_INFO),
    "watchdog": _INFO,
    "hub": _INFO,
    "panic": _INFO,
    "memballoon": ("stats", "driver", *_INFO),
    "rng": ("rate", "backend", "driver", *_INFO),
    "vsock": ("cid", "driver", *_INFO),
}

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "domain": ("type", "id"),
    "vcpu": ("placement", "cpuset", "current"),
    "os": ("firmware",),
    "type": ("arch", "machine"),
    "loader": ("readonly", "secure", "stateless", "type", "format"),
    "nvram": ("type", "template", "templateFormat", "format"),
    "cpu": ("mode", "match", "check", "migratable"),
    "model": ("type", "ram", "vram", "vram64", "vgamem", "fallback", "vendor_id", "name", "heads", "primary"),
    "topology": ("sockets", "dies", "clusters", "cores", "threads"),
    "clock": ("offset", "adjustment", "basis", "timezone", "start"),
    "timer": ("name", "present", "tickpolicy", "track", "frequency", "mode"),
    "bootmenu": ("enable", "timeout"),
    "disk": ("type", "device", "rawio", "sgio", "model", "snapshot"),
    "driver": (
        *("name", "type", "cache", "error_policy", "rerror_policy", "io", "ioeventfd", "event_idx"),
        *("copy_on_read", "discard", "iothread", "detect_zeroes", "discard_no_unref", "queues"),
        *("queue_size", "cmd_per_lun", "max_sectors", "ioeventfd", "iommu", "ats", "packed", "page_per_vq"),
    ),
    "controller": ("type", "index", "model", "ports", "vectors"),
    "target": ("dev", "bus", "tray", "rotation_rate", "type", "name", "chassisNr", "chassis", "port"),
    "address": (
        *("type", "domain", "controller", "bus", "slot", "target", "unit", "function", "multifunction"),
        *("port", "reg", "iobase", "irq"),
    ),
    "input": ("type", "bus", "model"),
    "graphics": (
        *("type", "socket", "port", "autoport", "websocket", "listen", "keymap", "sharePolicy", "passwd"),
        *("passwdValidTo", "connected", "powerControl"),
    ),
    "listen": ("type", "address", "network", "socket"),
    "watchdog": ("model", "action"),
    "memballoon": ("model", "autodeflate", "freePageReporting"),
    "backend": ("model", "type", "version", "persistent_state", "debug"),
    "audio": ("id", "type"),
    "ip": ("address", "family", "prefix"),
    "feature": ("enabled", "policy", "name"),
}

_DRIVERS = {
    "controller": ("queues", "cmd_per_lun", "max_sectors", "ioeventfd", "iothread", "iommu", "ats", "packed"),
}
"""Attributes of `<driver>` where they differ from a disk's."""

_OPAQUE = frozenset({"metadata", "seclabel", "sysinfo"})


def arrange(root: etree._Element) -> None:
    """Put `root` (a `<domain>`) and all below it into libvirt's order, in place."""
    pending = [root]
    while pending:
        element = pending.pop()
        if not isinstance(element.tag, str) or element.tag in _OPAQUE:
            continue
        _arrange_attributes(element)
        _arrange_children(element)
        pending.extend(element)


def group(root: etree._Element) -> None:
    """Disks of one bus, and controllers of one type, stand together in the order of their numbers."""
    devices = tree.devices(root)
    for tag, kind, number in (("disk", _disk_bus, _disk_number), ("controller", _type, _index)):
        placed: list[etree._Element] = []
        for element in devices.findall(tag):
            same = [p for p in placed if kind(p) == kind(element)]
            below = [p for p in same if (number(p), _companion(p)) <= (number(element), _companion(element))]
            if below:
                position = placed.index(below[-1]) + 1
            else:
                position = placed.index(same[0]) if same else len(placed)
            placed.insert(position, element)
        for element in placed:
            devices.append(element)


def _disk_bus(disk: etree._Element) -> str:
    return tree.attribute(disk, "target", "bus") or ""


def _disk_number(disk: etree._Element) -> int:
    return disk_index(tree.attribute(disk, "target", "dev") or "")


def _type(controller: etree._Element) -> str:
    return controller.get("type", "")


def _index(controller: etree._Element) -> int:
    return tree.number(controller.get("index"), 256)


def _companion(controller: etree._Element) -> bool:
    """A USB controller that serves another one stands behind it."""
    return controller.find("master") is not None


def _rank(order: tuple[str, ...], name: object) -> int:
    return order.index(name) if name in order else len(order)


def _arrange_children(element: etree._Element) -> None:
    order = CHILDREN.get(str(element.tag))
    if order is None:
        return
    children = list(element)
    arranged = sorted(children, key=lambda child: _rank(order, child.tag))
    if arranged != children:
        element[:] = arranged


def _arrange_attributes(element: etree._Element) -> None:
    order = ATTRIBUTES.get(str(element.tag))
    parent = element.getparent()
    if element.tag == "driver" and parent is not None:
        order = _DRIVERS.get(str(parent.tag), order)
    if order is None or len(element.attrib) < 2:
        return
    items = list(element.attrib.items())
    arranged = sorted(items, key=lambda item: _rank(order, item[0]))
    if arranged != items:
        element.attrib.clear()
        for name, value in arranged:
            element.set(name, value)
