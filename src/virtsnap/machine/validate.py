"""What libvirt refuses when a definition is made, once all of it is known.

Combinations that no QEMU can build. What this engine alone cannot do is in `support`, and refused at start.
"""

from __future__ import annotations

import re

from lxml import etree

from virtsnap.machine import tpm, tree
from virtsnap.model.errors import ConfigUnsupported, InternalRefused, XmlError

_TIME = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d")


def pci_root(root: etree._Element, *, q35: bool) -> None:
    """PCI controller 0 is the board's own bus."""
    wanted = "pcie-root" if q35 else "pci-root"
    for controller in tree.controllers(root, "pci"):
        model = controller.get("model")
        if controller.get("index") == "0" and model != wanted:
            raise XmlError(
                f"The PCI controller with index='0' must be model='{wanted}' for this machine type,"
                f" but model='{model}' was found instead"
            )


def validate(root: etree._Element, *, q35: bool) -> None:
    """Refuse a completed definition that cannot be, in libvirt's words.

    Raises ConfigUnsupported, InternalRefused.
    """
    _cpu(root)
    _consoles(root)
    _videos(root)
    for graphics in tree.children(root, "graphics"):
        _password(graphics)
    for watchdog in tree.children(root, "watchdog"):
        model = watchdog.get("model")
        if (model == "ib700" and q35) or (model == "itco" and not q35):
            raise ConfigUnsupported(f"{model} model of watchdog cannot be used with this machine type")
    for disk in tree.children(root, "disk"):
        _disk(disk)
    tpm.validate(root)


def _password(graphics: etree._Element) -> None:
    password, until = graphics.get("passwd"), graphics.get("passwdValidTo")
    if until is not None and not _TIME.fullmatch(until):
        raise InternalRefused(f"cannot parse password validity time '{until}', expect YYYY-MM-DDTHH:MM:SS")
    size = len((password or "").encode())
    if graphics.get("type") == "vnc" and size > 8:
        raise ConfigUnsupported(f"VNC password is {size} characters long, only 8 permitted")


def _cpu(root: etree._Element) -> None:
    topology = root.find("cpu/topology")
    if topology is None:
        return
    product = 1
    for name in ("sockets", "dies", "clusters", "cores", "threads"):
        product *= tree.number(topology.get(name), 1)
    if product != tree.number(tree.text(root, "vcpu"), 1):
        raise ConfigUnsupported("CPU topology doesn't match maximum vcpu count")


def _consoles(root: etree._Element) -> None:
    for position, console in enumerate(tree.children(root, "console")):
        if position and tree.attribute(console, "target", "type") == "serial":
            raise ConfigUnsupported("Only the first console can be a serial port")
    for serial in tree.children(root, "serial"):
        port = tree.number(tree.attribute(serial, "target", "port"))
        if tree.attribute(serial, "target", "type") == "isa-serial" and port > 3:
            raise ConfigUnsupported(f"maximum supported number of ISA serial ports is '4', not {port + 1}")


def _videos(root: etree._Element) -> None:
    for position, video in enumerate(tree.children(root, "video")):
        kind = tree.attribute(video, "model", "type") or ""
        if position and kind not in ("virtio", "qxl", "none"):
            raise ConfigUnsupported(f"video type '{kind}' is only valid as primary video device")


def _disk(disk: etree._Element) -> None:
    target = tree.attribute(disk, "target", "dev")
    bus = tree.attribute(disk, "target", "bus")
    if tree.attribute(disk, "driver", "iothread") is not None and bus != "virtio":
        raise ConfigUnsupported(f"IOThreads not available for bus {bus} target {target}")
    if disk.get("device") == "cdrom" and bus == "virtio":
        raise ConfigUnsupported(f"disk type of '{target}' does not support ejectable media")
