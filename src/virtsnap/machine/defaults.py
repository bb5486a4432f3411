"""Values that libvirt writes into a definition which does not say: sections, and attributes of devices.

Each function changes the tree in place. Devices that are added as a whole are in `implicit`.
"""

from __future__ import annotations

import hashlib

from lxml import etree

from virtsnap.formats.domain_xml import bus_of_target, scaled_bytes
from virtsnap.machine import firmware, tree
from virtsnap.machine.host import Host
from virtsnap.model.errors import ConfigUnsupported

_STATES = ("vmport", "smm", "pmu", "pvspinlock", "ioapic")
"""Features with a state that is 'on' when only named; vmport and pmu too."""


def sections(root: etree._Element, host: Host) -> None:
    """Everything outside `<devices>`."""
    _memory(root)
    vcpu = _after(root, "vcpu", ("currentMemory", "memory"))
    vcpu.text = (vcpu.text or "1").strip()
    tree.default(vcpu, "placement", "static")
    _os(root, host)
    _features(root)
    _cpu(root)
    clock = tree.ensure(root, "clock")
    tree.default(clock, "offset", "utc")
    if clock.get("offset") == "variable":
        tree.default(clock, "adjustment", "0")
        tree.default(clock, "basis", "utc")
    for tag, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        element = tree.ensure(root, tag)
        if not element.text:
            element.text = action
    _check_lifecycle(root)


def _after(root: etree._Element, tag: str, behind: tuple[str, ...]) -> etree._Element:
    found = root.find(tag)
    if found is None:
        found = etree.Element(tag)
        anchor = next((a for a in map(root.find, behind) if a is not None), None)
        if anchor is None:
            root.append(found)
        else:
            anchor.addnext(found)
    return found


def _memory(root: etree._Element) -> None:
    memory = root.find("memory")
    if memory is None:
        return
    current = _after(root, "currentMemory", ("memory",))
    for element in (memory, current, root.find("maxMemory")):
        if element is not None and element.text:
            size = scaled_bytes(element.text, element.get("unit"), "KiB", f"./{element.tag}[1]")
            element.text = str(-(-size // 1024))
            element.set("unit", "KiB")
    if not current.text or int(current.text) > int(memory.text or "0") or int(current.text) == 0:
        current.set("unit", "KiB")
        current.text = memory.text


def _os(root: etree._Element, host: Host) -> None:
    os_ = tree.ensure(root, "os")
    type_ = tree.ensure(os_, "type")
    tree.default(type_, "arch", "x86_64")
    if type_.get("arch") != "x86_64":
        raise ConfigUnsupported(f"No emulator found for arch '{type_.get('arch')}'")
    if type_.text != "hvm":
        raise ConfigUnsupported(f"Emulator '{host.emulator}' does not support os type '{type_.text}'")
    machine = type_.get("machine") or host.default_machine
    type_.set("machine", host.machine_aliases.get(machine, machine))
    ordered = any(device.find("boot") is not None for device in tree.devices(root))
    if os_.find("boot") is None and not ordered:
        etree.SubElement(os_, "boot", dev="hd")
    firmware.choose(root, host.firmwares, host.nvram_dir)


def _features(root: etree._Element) -> None:
    features = root.find("features")
    if features is None:
        return
    for feature in features:
        if feature.tag in _STATES:
            tree.default(feature, "state", "on")
    hyperv = features.find("hyperv")
    if hyperv is not None:
        tree.default(hyperv, "mode", "custom")


def _cpu(root: etree._Element) -> None:
    cpu = tree.ensure(root, "cpu")
    model = cpu.find("model")
    mode = cpu.get("mode") or "custom"
    cpu.set("mode", mode)
    if mode == "custom":
        tree.default(cpu, "match", "exact")
        if model is None:
            model = etree.Element("model", fallback="forbid")
            model.text = "qemu64"
            cpu.insert(0, model)
            tree.default(cpu, "check", "none")
        else:
            tree.default(model, "fallback", "allow")
            plain = model.text in ("qemu64", "qemu32", "kvm64", "kvm32") and len(cpu.findall("feature")) == 0
            kvm = root.get("type") == "kvm"
            tree.default(cpu, "check", "partial" if kvm and not plain else "none")
    elif mode == "host-model":
        tree.default(cpu, "check", "partial")
    else:
        tree.default(cpu, "check", "none")
        if mode == "host-passthrough":
            tree.default(cpu, "migratable", "on")
    topology = cpu.find("topology")
    if topology is not None:
        tree.default(topology, "dies", "1")
        tree.default(topology, "clusters", "1")
    for index, cell in enumerate(cpu.iterfind("numa/cell")):
        tree.default(cell, "id", str(index))
        if cell.get("memory") is not None:
            size = scaled_bytes(cell.get("memory", "0"), cell.get("unit"), "KiB", "./@memory")
            cell.set("memory", str(-(-size // 1024)))
            cell.set("unit", "KiB")


def _check_lifecycle(root: etree._Element) -> None:
    poweroff = tree.text(root, "on_poweroff")
    reboot = tree.text(root, "on_reboot")
    if "preserve" in (poweroff, reboot):
        raise ConfigUnsupported(
            "qemu driver doesn't support the 'preserve' action for 'on_reboot'/'on_poweroff'"
        )
    if "rename-restart" in (poweroff, reboot, tree.text(root, "on_crash")):
        raise ConfigUnsupported(
            "qemu driver doesn't support the 'rename-restart' action for 'on_reboot'/'on_poweroff'/'on_crash'"
        )


# --- devices ----------------------------------------------------------------------------------------------


def disks(root: etree._Element) -> None:
    """Device kind, driver, bus, the read-only mark of CD-ROM drives, and what snapshots leave out."""
    for disk in tree.children(root, "disk"):
        tree.default(disk, "type", "file")
        tree.default(disk, "device", "disk")
        driver = disk.find("driver")
        if driver is None:
            driver = etree.Element("driver")
            disk.insert(0, driver)
        tree.default(driver, "name", "qemu")
        if disk.get("type") != "volume":
            tree.default(driver, "type", "raw")
        target = disk.find("target")
        if target is not None and target.get("bus") is None:
            floppy = disk.get("device") == "floppy"
            target.set("bus", "fdc" if floppy else bus_of_target(target.get("dev", "")) or "ide")
        if disk.get("device") == "cdrom":
            tree.ensure(disk, "readonly")
        if disk.get("type") == "vhostuser":
            tree.default(disk, "snapshot", "no")
        serial = disk.find("serial")
        if serial is not None and not serial.text:
            disk.remove(serial)


def _controller_indexes(root: etree._Element) -> None:
    """The lowest that are free; USB companions have that of the USB2 controller that stands nearest."""
    companions = []
    master: etree._Element | None = None
    for controller in tree.children(root, "controller"):
        kind = controller.get("type", "")
        if kind == "usb" and controller.find("master") is not None:
            companions.append((controller, master))
            continue
        if controller.get("index") is None:
            used = {c.get("index") for c in tree.controllers(root, kind)}
            controller.set("index", str(next(n for n in range(256) if str(n) not in used)))
        if kind == "usb":
            master = controller
            companions = [(one, before if before is not None else controller) for one, before in companions]
    for controller, owner in companions:
        tree.default(controller, "index", (owner.get("index") if owner is not None else None) or "0")


def controllers(root: etree._Element, *, q35: bool) -> None:
    """Models of USB and SCSI controllers, and indexes that were left out."""
    _controller_indexes(root)
    for controller in tree.children(root, "controller"):
        kind = controller.get("type", "")
        if kind == "usb":
            tree.default(controller, "model", "qemu-xhci" if q35 else "piix3-uhci")
        elif kind == "scsi" and controller.get("model") in (None, "auto"):
            controller.set("model", "lsilogic")
        for name in ("type", "model"):
            value = controller.attrib.get(name)
            if value == "":
                del controller.attrib[name]


def interfaces(root: etree._Element) -> None:
    """MAC addresses and models of network cards."""
    taken = {(tree.attribute(i, "mac", "address") or "").lower() for i in tree.children(root, "interface")}
    for position, interface in enumerate(tree.children(root, "interface")):
        mac = interface.find("mac")
        if mac is None:
            mac = etree.Element("mac", address=_mac(root, position, taken))
            interface.insert(0, mac)
            taken.add(mac.get("address", ""))
        mac.set("address", mac.get("address", "").lower())
        model = interface.find("model")
        if model is None:
            etree.SubElement(interface, "model", type="rtl8139")
        if interface.get("type") == "user":
            source = interface.find("source")
            if source is not None and interface.find("backend") is None:
                interface.remove(source)


def _mac(root: etree._Element, position: int, taken: set[str]) -> str:
    """An address in QEMU's range that follows from the domain's uuid, so that completing needs no chance."""
    for attempt in range(1000):
        seed = f"{tree.text(root, 'uuid')}/{tree.text(root, 'name')}/{position}/{attempt}"
        digest = hashlib.sha256(seed.encode()).digest()
        mac = "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])
        if mac not in taken:
            return mac
    raise ConfigUnsupported("no MAC address left for the network interface")


def character_devices(root: etree._Element) -> None:
    """Target types and models of serial ports, consoles and channels."""
    for serial in tree.children(root, "serial"):
        tree.default(serial, "type", "pty")
        target = tree.ensure(serial, "target")
        tree.default(target, "type", "isa-serial")
        model = target.find("model")
        if model is None:
            model = etree.SubElement(target, "model")
        tree.default(model, "name", target.get("type", "isa-serial"))
    for console in tree.children(root, "console"):
        tree.default(console, "type", "pty")
        tree.default(tree.ensure(console, "target"), "type", "serial")
    for tag in ("serial", "console", "channel", "parallel"):
        for device in tree.children(root, tag):
            source = device.find("source")
            if device.get("type") == "tcp":
                if source is not None:
                    tree.default(source, "mode", "connect")
                tree.default(tree.ensure(device, "protocol"), "type", "raw")
            elif source is not None and _says_nothing(device, source):
                device.remove(source)


def _says_nothing(device: etree._Element, source: etree._Element) -> bool:
    """A source that a start makes up anew."""
    if device.get("type") == "pty":
        return True
    generated = device.tag == "channel" and device.get("type") == "unix" and source.get("path") is None
    return generated and source.get("mode", "bind") == "bind" and len(source) == 0


def inputs(root: etree._Element) -> None:
    """The bus of input devices."""
    for device in tree.children(root, "input"):
        tree.default(device, "bus", "ps2" if device.get("type") in ("mouse", "keyboard") else "usb")


def graphics(root: etree._Element) -> None:
    """Ports and listeners of displays; a password's end only with a password."""
    for device in tree.children(root, "graphics"):
        if device.get("type") not in ("vnc", "spice"):
            continue
        if device.get("passwd") is None and "passwdValidTo" in device.attrib:
            del device.attrib["passwdValidTo"]
        listen = device.find("listen")
        if listen is None and device.get("type") == "vnc" and device.get("socket") is not None:
            listen = etree.Element("listen", type="socket", socket=device.get("socket", ""))
            device.insert(0, listen)
        if listen is not None and listen.get("type") == "socket":
            for name in ("port", "autoport"):
                if name in device.attrib:
                    del device.attrib[name]
            if listen.get("socket") is not None:
                device.set("socket", listen.get("socket", ""))
            continue
        if device.get("port") in (None, "-1", "0") or device.get("autoport") == "yes":
            device.set("port", "-1")
            device.set("autoport", "yes")
        else:
            tree.default(device, "autoport", "no")
        if listen is None:
            listen = etree.Element("listen", type="address")
            if device.get("listen") is not None:
                listen.set("address", device.get("listen", ""))
            device.insert(0, listen)
        elif listen.get("type") == "address" and listen.get("address") is not None:
            tree.default(device, "listen", listen.get("address", ""))


_VRAM = {"vga": "16384", "cirrus": "16384", "vmvga": "16384", "bochs": "16384", "qxl": "65536"}


def videos(root: etree._Element) -> None:
    """Models and memory of video cards; the first one is primary."""
    for position, video in enumerate(tree.children(root, "video")):
        model = tree.ensure(video, "model")
        tree.default(model, "type", "cirrus")
        kind = model.get("type", "")
        if kind == "none":
            continue
        if kind == "qxl":
            tree.default(model, "ram", "65536")
            tree.default(model, "vgamem", "16384")
        if kind in _VRAM:
            tree.default(model, "vram", _VRAM[kind])
        tree.default(model, "heads", "1")
        if position == 0:
            model.set("primary", "yes")
        elif model.get("primary") is not None:
            del model.attrib["primary"]


def others(root: etree._Element) -> None:
    """Watchdogs, panic devices, and the id and mode of a VM generation id."""
    for watchdog in tree.children(root, "watchdog"):
        tree.default(watchdog, "action", "reset")
    for panic in tree.children(root, "panic"):
        tree.default(panic, "model", "isa")
    for balloon in tree.children(root, "memballoon"):
        if balloon.get("model") == "none":
            for child in list(balloon):
                balloon.remove(child)
