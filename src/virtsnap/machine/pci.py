"""PCI topology and addresses: which bus, slot and function each device gets, and which bridges that takes.

The rules are libvirt's, so that a definition completed here shows the guest the same machine:

- an address in the definition is taken as it is, and never changes;
- the chipset's own devices have fixed places (piix3 at 0:1, ICH9 at 0:1f, 0:1d, 0:1b, 0:1e, primary video);
- the others take the first free place in a fixed order of kinds, PCI Express devices on root ports and
  conventional ones behind a bridge; where none is free a bridge is added;
- a q35 definition that leaves PCI to us gets one spare root port, a pc definition keeps one slot free.

Two passes: the first finds the buses that are needed, the second gives addresses with all bridges known.
Not here: USB, drive and virtio-serial addresses (`addresses`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from lxml import etree

from virtsnap.machine import tree
from virtsnap.model.errors import ConfigUnsupported, InternalRefused, XmlError

Place = tuple[int, int, int]
"""Bus, slot, function (the domain is always 0)."""


class Plug(Enum):
    """What kind of slot a device wants."""

    PCI = "pci"
    PCIE = "pcie"
    ROOT_PORT = "root port"
    BRIDGE = "bridge"
    """A conventional bridge: any conventional slot."""
    PCIE_TO_PCI = "pcie-to-pci-bridge"
    DMI = "dmi-to-pci-bridge"
    UPSTREAM = "switch upstream port"
    DOWNSTREAM = "switch downstream port"
    EXPANDER = "expander bus"


_CONTROLLER_PLUGS = {
    "pci-bridge": Plug.BRIDGE,
    "pcie-root-port": Plug.ROOT_PORT,
    "pcie-to-pci-bridge": Plug.PCIE_TO_PCI,
    "dmi-to-pci-bridge": Plug.DMI,
    "pcie-switch-upstream-port": Plug.UPSTREAM,
    "pcie-switch-downstream-port": Plug.DOWNSTREAM,
    "pci-expander-bus": Plug.EXPANDER,
    "pcie-expander-bus": Plug.EXPANDER,
}

_TAKES = {
    "pci-root": (0x01, 0x1F, {Plug.PCI, Plug.BRIDGE, Plug.EXPANDER}),
    "pci-bridge": (0x01, 0x1F, {Plug.PCI, Plug.BRIDGE}),
    "pci-expander-bus": (0x00, 0x1F, {Plug.PCI, Plug.BRIDGE}),
    "pcie-root": (0x01, 0x1F, {Plug.ROOT_PORT, Plug.DMI, Plug.EXPANDER}),
    "pcie-expander-bus": (0x00, 0x1F, {Plug.ROOT_PORT, Plug.DMI}),
    "dmi-to-pci-bridge": (0x00, 0x1F, {Plug.BRIDGE}),
    "pcie-to-pci-bridge": (0x01, 0x1F, {Plug.PCI, Plug.BRIDGE}),
    "pcie-root-port": (0x00, 0x00, {Plug.PCIE, Plug.PCIE_TO_PCI, Plug.UPSTREAM}),
    "pcie-switch-downstream-port": (0x00, 0x00, {Plug.PCIE, Plug.PCIE_TO_PCI, Plug.UPSTREAM}),
    "pcie-switch-upstream-port": (0x00, 0x1F, {Plug.DOWNSTREAM}),
}
"""Bus model -> first slot, last slot, what plugs in when an address is looked for."""

_ROOTS = ("pci-root", "pcie-root")
_TO_CONVENTIONAL = ("dmi-to-pci-bridge", "pcie-to-pci-bridge")


@dataclass
class _Bus:
    model: str
    slots: dict[int, int] = field(default_factory=dict)
    """Slot -> bit mask of its functions in use."""
    ports: set[int] = field(default_factory=set)
    """Slots opened for root ports, which share a slot's functions."""

    @property
    def span(self) -> range:
        first, last, _ = _TAKES[self.model]
        return range(first, last + 1)

    def takes(self, plug: Plug) -> bool:
        return plug in _TAKES[self.model][2]


class _Addresses:
    """The buses and what is taken on them, in one pass."""

    def __init__(self, root: etree._Element, *, grow: bool) -> None:
        self.buses: list[_Bus] = []
        self.grow = grow
        models = {tree.number(c.get("index")): c.get("model", "") for c in tree.controllers(root, "pci")}
        pcie = models.get(0) == "pcie-root"
        for index in range(max(models, default=-1) + 1):
            # An index nobody defined: libvirt fills such a hole with the bus that fits the root.
            model = models.get(index) or ("pcie-root-port" if pcie else "pci-bridge")
            if model not in _TAKES:
                raise XmlError(f"Invalid value for attribute 'model' in element 'controller': '{model}'.")
            self.buses.append(_Bus(model))

    @property
    def pcie(self) -> bool:
        return bool(self.buses) and self.buses[0].model == "pcie-root"

    def free(self, place: Place) -> bool:
        """No function of the slot is taken."""
        bus, slot, _ = place
        return not self.buses[bus].slots.get(slot)

    @property
    def some_free(self) -> bool:
        """Some bus has an empty slot."""
        return any(not bus.slots.get(slot) for bus in self.buses for slot in bus.span)

    def fill(self, bus: int, slot: int) -> None:
        """Nothing else goes into this slot."""
        self.buses[bus].slots[slot] = 0xFF

    def reserve(self, place: Place, *, port: bool = False) -> None:
        bus, slot, function = place
        while bus >= len(self.buses):
            if not self.grow:
                raise XmlError(
                    f"Invalid PCI address {text(place)}. bus index must be <= {len(self.buses) - 1}"
                )
            self.buses.append(_Bus("pcie-root-port" if self.pcie else "pci-bridge"))
        mask = 1 << function
        used = self.buses[bus].slots.get(slot, 0)
        if used & mask:
            raise XmlError(f"Attempted double use of PCI Address {text(place)}")
        self.buses[bus].slots[slot] = used | mask
        if port:
            self.buses[bus].ports.add(slot)

    def take(self, plug: Plug, function: int = 0) -> Place:
        """Reserve the next free place, adding buses when there is none and this is the first pass."""
        found = self._find(plug, function)
        if found is None and self.grow:
            self._add_bus_for(plug)
            found = self._find(plug, function)
        if found is None:
            raise InternalRefused("No more available PCI slots")
        self.reserve(found, port=plug is Plug.ROOT_PORT)
        return found

    def _find(self, plug: Plug, function: int) -> Place | None:
        for number, bus in enumerate(self.buses):
            if not bus.takes(plug):
                continue
            for slot in bus.span:
                used = bus.slots.get(slot, 0)
                if not used:
                    return (number, slot, function)
                if plug is Plug.ROOT_PORT and slot in bus.ports and used != 0xFF:
                    return (number, slot, next(f for f in range(8) if not used & (1 << f)))
        return None

    def _add_bus_for(self, plug: Plug) -> None:
        if plug in (Plug.PCIE, Plug.UPSTREAM, Plug.PCIE_TO_PCI):
            self.buses.append(_Bus("pcie-root-port"))
        elif plug in (Plug.PCI, Plug.BRIDGE):
            if self.pcie and not any(bus.model in _TO_CONVENTIONAL for bus in self.buses):
                # The bridge comes with the port it will sit on, even where another port is free.
                self.buses += [_Bus("pcie-root-port"), _Bus("pcie-to-pci-bridge")]
            else:
                self.buses.append(_Bus("pci-bridge"))
        else:
            raise ConfigUnsupported(
                f"a PCI controller of kind '{plug.value}' cannot be placed; give it an address"
            )


def assign(root: etree._Element) -> None:
    """Give every PCI device of the domain its address, adding the bridges this takes, in place.

    Raises XmlError (a place used twice, a bus that is not there) or InternalRefused (no slot left).
    """
    given = [tree.number(c.get("index")) for c in tree.controllers(root, "pci")]
    if not given:
        return
    trial = copy.deepcopy(root)
    first = _Addresses(trial, grow=True)
    _place_all(trial, first, spare_conventional=not first.pcie)
    if first.pcie and max(given) == 0 and len(first.buses) > 1:
        first.take(Plug.PCIE)
    present = set(given)
    index = 1
    # Taking a place for one new controller may add another one, so the length is read each time.
    while index < len(first.buses):
        if index not in present:
            model = first.buses[index].model
            tree.add_controller(root, "pci", index, model)
            if model not in _ROOTS:
                first.take(_CONTROLLER_PLUGS[model])
        index += 1
    _place_all(root, _Addresses(root, grow=False), spare_conventional=False)
    _mark_multifunction(root)
    for controller in tree.controllers(root, "pci"):
        _finish_controller(controller)


def text(place: Place) -> str:
    """A place as libvirt names it in messages."""
    bus, slot, function = place
    return f"0000:{bus:02x}:{slot:02x}.{function:x}"


def place_of(device: etree._Element) -> Place | None:
    """The PCI address a device has; None when it has none (or the element only says the type)."""
    address = device.find("address")
    if address is None or address.get("type") != "pci":
        return None
    if all(address.get(name) is None for name in ("bus", "slot", "function")):
        return None
    bus, slot, function = (tree.number(address.get(name)) for name in ("bus", "slot", "function"))
    return (bus, slot, function)


def _wanted(device: etree._Element) -> bool:
    """No address yet, and not one of another type."""
    address = device.find("address")
    return address is None or (address.get("type") == "pci" and place_of(device) is None)


def _set(device: etree._Element, place: Place, multifunction: bool = False) -> None:
    bus, slot, function = place
    address = tree.ensure(device, "address")
    address.attrib.clear()
    address.set("type", "pci")
    address.set("domain", "0x0000")
    address.set("bus", f"0x{bus:02x}")
    address.set("slot", f"0x{slot:02x}")
    address.set("function", f"0x{function:x}")
    if multifunction:
        address.set("multifunction", "on")


def _set_taken(
    addresses: _Addresses, device: etree._Element, place: Place, multifunction: bool = False
) -> None:
    """Write down a place that was looked for.

    Not in the first pass, as in libvirt: a device that asks twice (primary video whose own slot is taken, the
    parts of a USB 2 controller) is counted twice there, and the number of ports must come out the same.
    """
    if not addresses.grow:
        _set(device, place, multifunction)


def _place_all(root: etree._Element, addresses: _Addresses, *, spare_conventional: bool) -> None:
    for device in _all_pci_devices(root):
        place = place_of(device)
        if place is not None:
            is_port = device.get("model") == "pcie-root-port"
            fresh = place[0] < len(addresses.buses) and (
                addresses.free(place) or place[1] in addresses.buses[place[0]].ports
            )
            addresses.reserve(place, port=is_port and fresh)
            multifunction = tree.attribute(device, "address", "multifunction") == "on"
            _set(device, place, multifunction)
    if addresses.pcie:
        _place_q35(root, addresses)
    else:
        _place_piix3(root, addresses)
    if spare_conventional and addresses.some_free:
        addresses.take(Plug.PCI)
    for device, plug in _in_order(root, addresses.pcie):
        if not _wanted(device):
            continue
        if device.tag == "controller" and device.get("model", "") in _USB2_FUNCTIONS:
            _place_usb2(root, addresses, device, plug)
        else:
            _set_taken(addresses, device, addresses.take(plug))


def _all_pci_devices(root: etree._Element) -> Iterator[etree._Element]:
    # The first console only repeats the address of the first serial port.
    return (d for d in tree.devices(root) if d.tag != "console" and place_of(d) is not None)


def _place_piix3(root: etree._Element, addresses: _Addresses) -> None:
    """The i440fx board: ISA bridge, IDE, USB and power management share slot 1; video comes in slot 2."""
    for controller in tree.children(root, "controller"):
        kind, model = controller.get("type"), controller.get("model")
        if controller.get("index") != "0" or not _wanted(controller):
            continue
        if kind == "ide":
            addresses.reserve((0, 1, 1))
            _set(controller, (0, 1, 1))
        elif kind == "usb" and model == "piix3-uhci":
            addresses.reserve((0, 1, 2))
            _set(controller, (0, 1, 2))
    addresses.fill(0, 1)
    _place_primary_video(root, addresses, (0, 2, 0))


def _place_q35(root: etree._Element, addresses: _Addresses) -> None:
    """The Q35 board: SATA in 1f.2, ISA bridge and SMBus beside it, USB 2 in 1d, sound in 1b, video in 1."""
    for controller in tree.children(root, "controller"):
        kind, model = controller.get("type"), controller.get("model")
        if not _wanted(controller):
            continue
        if kind == "sata" and controller.get("index") == "0":
            addresses.reserve((0, 0x1F, 2))
            _set(controller, (0, 0x1F, 2))
        elif kind == "usb" and model == "ich9-uhci1":
            slot = next((s for s in (0x1D, 0x1A) if addresses.free((0, s, 0))), None)
            if slot is not None:
                addresses.reserve((0, slot, 0))
                _set(controller, (0, slot, 0), multifunction=True)
        elif kind == "pci" and model == "dmi-to-pci-bridge" and addresses.free((0, 0x1E, 0)):
            addresses.reserve((0, 0x1E, 0))
            _set(controller, (0, 0x1E, 0))
    addresses.reserve((0, 0x1F, 0))
    addresses.reserve((0, 0x1F, 3))
    _place_primary_video(root, addresses, (0, 1, 0))
    if addresses.free((0, 0x1B, 0)):
        for sound in tree.children(root, "sound"):
            if sound.get("model") == "ich9" and _wanted(sound):
                addresses.reserve((0, 0x1B, 0))
                _set(sound, (0, 0x1B, 0))
                break


def _place_primary_video(root: etree._Element, addresses: _Addresses, place: Place) -> None:
    video = next(tree.children(root, "video"), None)
    if video is None or not _wanted(video) or _plug(video, addresses.pcie) is None:
        return
    if addresses.free(place):
        addresses.reserve(place)
        _set(video, place)
    else:
        plug = _plug(video, addresses.pcie)
        assert plug is not None
        _set_taken(addresses, video, addresses.take(plug))


_USB2_FUNCTIONS = {"ich9-ehci1": 7, "ich9-uhci1": 0, "ich9-uhci2": 1, "ich9-uhci3": 2}


def _place_usb2(root: etree._Element, addresses: _Addresses, device: etree._Element, plug: Plug) -> None:
    """The parts of one ICH9 USB 2 controller share a slot, each with its own function."""
    model = device.get("model", "")
    function = _USB2_FUNCTIONS[model]
    for other in tree.controllers(root, "usb"):
        same = other.get("model") in _USB2_FUNCTIONS and other.get("index") == device.get("index")
        place = place_of(other) if same else None
        if place is not None:
            place = (place[0], place[1], function)
            addresses.reserve(place)
            break
    else:
        _set_taken(addresses, device, addresses.take(plug, function), multifunction=function == 0)
        return
    _set(device, place, multifunction=function == 0)


def _in_order(root: etree._Element, pcie: bool) -> Iterator[tuple[etree._Element, Plug]]:
    """Every device that may get a PCI address, in the order in which libvirt hands them out."""
    controllers = list(tree.children(root, "controller"))
    groups = [
        [c for c in controllers if c.get("type") == "pci"],
        list(tree.children(root, "filesystem", "interface", "sound")),
        [c for c in controllers if c.get("type") != "pci"],
        list(tree.children(root, "disk", "hostdev", "memballoon", "rng", "watchdog", "video")),
        list(tree.children(root, "shmem", "input", "serial", "panic", "vsock", "crypto", "iommu")),
    ]
    for group in groups:
        for device in group:
            plug = _plug(device, pcie)
            if plug is not None:
                yield device, plug


def _plug(device: etree._Element, pcie: bool) -> Plug | None:
    """What a device plugs into; None when it is no PCI device."""
    kind = _kind(device)
    if kind is Plug.PCIE and not pcie:
        return Plug.PCI
    return kind


def _kind(device: etree._Element) -> Plug | None:
    tag = str(device.tag)
    model = device.get("model", "")
    if model.endswith("-transitional") and not model.endswith("non-transitional"):
        return Plug.PCI
    match tag:
        case "controller":
            return _controller_kind(device, model)
        case "disk":
            return Plug.PCIE if tree.attribute(device, "target", "bus") == "virtio" else None
        case "interface":
            return _interface_kind(tree.attribute(device, "model", "type") or "")
        case "sound":
            if model.startswith("virtio"):
                return Plug.PCIE
            return Plug.PCI if model in ("es1370", "ac97", "ich6", "ich7", "ich9") else None
        case "memballoon" | "rng" | "vsock":
            return Plug.PCIE if model.startswith("virtio") else None
        case "watchdog":
            return Plug.PCI if model == "i6300esb" else None
        case "video":
            return _video_kind(tree.attribute(device, "model", "type") or "")
        case "input":
            return Plug.PCIE if device.get("bus") == "virtio" else None
        case "serial":
            return Plug.PCI if tree.attribute(device, "target", "type") == "pci-serial" else None
        case "iommu" | "panic":
            return {"virtio": Plug.PCIE, "pvpanic": Plug.PCI}.get(model)
        case "crypto" | "filesystem":
            return Plug.PCIE
        case "shmem":
            return Plug.PCI
        case "hostdev":
            return Plug.PCIE if device.get("type") in ("pci", "mdev") else None
    return None


def _controller_kind(device: etree._Element, model: str) -> Plug | None:
    match device.get("type"):
        case "pci":
            return _CONTROLLER_PLUGS.get(model)
        case "usb":
            if model == "none":
                return None
            return Plug.PCIE if model in ("nec-xhci", "qemu-xhci") else Plug.PCI
        case "scsi":
            return Plug.PCIE if model.startswith("virtio") else Plug.PCI
        case "virtio-serial":
            return Plug.PCIE
        case "ide":
            return None if device.get("index") == "0" else Plug.PCI
        case "sata":
            return Plug.PCI
    return None


def _interface_kind(model: str) -> Plug | None:
    if model == "usb-net":
        return None
    return Plug.PCIE if model in ("virtio", "virtio-non-transitional", "e1000e", "igb") else Plug.PCI


def _video_kind(model: str) -> Plug | None:
    if model in ("none", "ramfb", "gop"):
        return None
    return Plug.PCIE if model in ("virtio", "bochs") else Plug.PCI


def _mark_multifunction(root: etree._Element) -> None:
    """Function 0 of a slot that has others must say so to the guest."""
    shared = {place[:2] for device in _all_pci_devices(root) if (place := place_of(device)) and place[2] != 0}
    for device in _all_pci_devices(root):
        place = place_of(device)
        address = device.find("address")
        if place is not None and address is not None and place[2] == 0 and place[:2] in shared:
            tree.default(address, "multifunction", "on")


_MODEL_NAMES = {
    "pci-bridge": "pci-bridge",
    "pcie-root-port": "pcie-root-port",
    "pcie-to-pci-bridge": "pcie-pci-bridge",
    "dmi-to-pci-bridge": "i82801b11-bridge",
    "pcie-switch-upstream-port": "x3130-upstream",
    "pcie-switch-downstream-port": "xio3130-downstream",
    "pci-expander-bus": "pxb",
    "pcie-expander-bus": "pxb-pcie",
}


def _finish_controller(controller: etree._Element) -> None:
    """Model name, chassis and port, which follow from the index and the address."""
    model = controller.get("model", "")
    index = controller.get("index", "0")
    if model in _MODEL_NAMES:
        tree.default(tree.ensure(controller, "model"), "name", _MODEL_NAMES[model])
    place = place_of(controller)
    if place is None:
        return
    if model == "pci-bridge":
        tree.default(tree.ensure(controller, "target"), "chassisNr", index)
        if tree.number(index) <= place[0]:
            raise ConfigUnsupported(
                f"PCI controller at index {index} (0x{int(index):02x}) has bus='0x{place[0]:02x}',"
                " but index must be larger than bus"
            )
    elif model in ("pcie-root-port", "pcie-switch-downstream-port"):
        target = tree.ensure(controller, "target")
        tree.default(target, "chassis", index)
        port = (place[1] << 3) + place[2] if model == "pcie-root-port" else place[1]
        tree.default(target, "port", f"0x{port:x}")
