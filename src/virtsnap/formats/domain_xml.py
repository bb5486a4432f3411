"""A domain's XML: the whole document kept, and a typed view of what the engine uses.

libvirt's page formatdomain is the reference for every element. `DomainDefinition` is a value: the `with_*`
methods give a changed copy, and whatever they do not know stays as it was. Parsing refuses what libvirt
refuses without knowing any host (its errors, its words).

Not here: defaults, addresses and element order, which depend on the machine (`machine.complete`), and what
QEMU is told (`machine.command_line`).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from lxml import etree

from virtsnap.formats import xml_text
from virtsnap.model.errors import ConfigUnsupported, InternalRefused, InvalidArg, XmlDetail, XmlError
from virtsnap.model.frozen import dataclass

DOMAIN_TYPES = ("kvm", "qemu")
"""The types this engine can run."""

_ALL_TYPES = frozenset(
    [
        "qemu",
        "kqemu",
        "kvm",
        "hvf",
        "xen",
        "lxc",
        "uml",
        "openvz",
        "test",
        "vmware",
        "hyperv",
        "vbox",
        "phyp",
        "parallels",
        "bhyve",
        "vz",
    ]
)
_DISK_TYPES = ("file", "block", "dir", "network", "volume", "nvme", "vhostuser", "vhostvdpa")
_DISK_BUSES = ("ide", "fdc", "scsi", "virtio", "xen", "usb", "uml", "sata", "sd", "none")
_DISK_DEVICES = ("disk", "cdrom", "floppy", "lun")
_DISK_FORMATS = frozenset(
    [
        "none",
        "raw",
        "dir",
        "bochs",
        "cloop",
        "dmg",
        "iso",
        "vpc",
        "vdi",
        "fat",
        "vhd",
        "ploop",
        "cow",
        "qcow",
        "qcow2",
        "qed",
        "vmdk",
    ]
)
VNC_ADDRESS = "127.0.0.1"
"""Where a screen listens whose definition does not say."""
_SNAPSHOT_WORDS = ("no", "internal", "external", "manual")
_LIFECYCLE = {
    "on_poweroff": ("destroy", "restart", "rename-restart", "preserve"),
    "on_reboot": ("destroy", "restart", "rename-restart", "preserve"),
    "on_crash": ("destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart"),
}
_LIFECYCLE_DEFAULTS = {"on_poweroff": "destroy", "on_reboot": "restart", "on_crash": "destroy"}
_UNITS = {"b": 1, "bytes": 1}
_UNITS |= {
    key: base**power
    for power, letter in enumerate("kmgtpe", start=1)
    for key, base in ((letter, 1024), (letter + "ib", 1024), (letter + "b", 1000))
}
_UUID = re.compile(r"^\s*(?:[0-9a-fA-F]{2}-?){16}\s*$")


class BackingLayer(Protocol):
    """What `with_backing_chain` needs to know of a layer (`machine.command_line.Layer` fits)."""

    @property
    def path(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def type(self) -> str: ...


@dataclass(frozen=True)
class TpmEmulator:
    """A `<tpm>` with a backend of type emulator, completed."""

    version: str
    """'1.2' or '2.0'."""
    persistent: bool
    """Its state outlives a transient domain, and an undefine that does not say otherwise."""
    debug: int | None
    """How much swtpm's log tells."""
    banks: tuple[str, ...]
    """PCR banks that are active, if the definition says."""


@dataclass(frozen=True)
class DomainDisk:
    """One `<disk>`. `source` is a path (file, block, dir), or None for an empty drive and for other types."""

    target: str
    bus: str
    device: str = "disk"
    type: str = "file"
    source: str | None = None
    format: str = "raw"
    readonly: bool = False
    shareable: bool = False
    transient: bool = False
    snapshot: str | None = None
    """The attribute `snapshot`; read-only and vhost-user disks default to 'no'."""
    protocol: str | None = None
    """How a network disk is reached."""
    export: str | None = None
    """What a network disk is called there."""
    alias: str | None = None
    serial: str | None = None
    cache: str | None = None
    io: str | None = None
    discard: str | None = None
    detect_zeroes: str | None = None

    @property
    def empty(self) -> bool:
        """A drive without a medium."""
        return self.source is None and self.type in ("file", "block")


@dataclass(frozen=True)
class DiskLayer:
    """One image of a disk, as a definition tells it."""

    index: int | None
    """The N of its node name, while it is open."""
    path: str
    format: str


def bus_of_target(target: str) -> str | None:
    """The bus that a disk's name stands for, as libvirt guesses it; None where it means nothing."""
    for prefix, bus in (
        ("hd", "ide"),
        ("fd", "fdc"),
        ("sd", "scsi"),
        ("vd", "virtio"),
        ("xvd", "xen"),
        ("ubd", "uml"),
    ):
        if re.fullmatch(prefix + r"[a-z]+\d*", target):
            return bus
    return None


def scaled_bytes(text: str, unit: str | None, default: str, where: str) -> int:
    """A size with libvirt's units (KiB, MB, G ...), in bytes.

    Raises XmlError when `text` is no number and InvalidArg for an unknown unit.
    """
    if not re.fullmatch(r"\s*\+?\d+\s*", text):
        raise XmlError(f"Invalid value '{text}' for element or attribute '{where}'")
    scale = _UNITS.get((unit or default).lower())
    if scale is None:
        raise InvalidArg(f"unknown suffix '{unit}'")
    return int(text) * scale


class DomainDefinition:
    """An immutable `<domain>`. Two are equal when their XML is."""

    __slots__ = ("_root",)

    def __init__(self, root: etree._Element) -> None:
        """Take over `root`, which nobody may change any more. Use `parse` for text."""
        self._root = root

    @classmethod
    def parse(cls, text: str) -> DomainDefinition:
        """Read and check a domain's XML.

        Raises XmlDetail, XmlError, ConfigUnsupported, InternalRefused or InvalidArg, as libvirt does for
        the same text at virDomainDefineXML.
        """
        definition = cls(xml_text.parse(text, "domain"))
        definition._check()
        return definition

    @classmethod
    def from_element(cls, element: etree._Element) -> DomainDefinition:
        """A definition embedded in another document (`<domain>`, `<inactiveDomain>`), copied out."""
        root = copy.deepcopy(element)
        root.tag = "domain"
        root.tail = None
        return cls(root)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DomainDefinition) and self.to_xml() == other.to_xml()

    def __hash__(self) -> int:
        return hash(self.to_xml())

    def __repr__(self) -> str:
        return f"<DomainDefinition {self._text('name')!r}>"

    def to_xml(self) -> str:
        """The whole document in libvirt's layout."""
        return xml_text.render(self._root)

    def to_inactive_xml(self) -> str:
        """`to_xml` without what only a running domain has: id, aliases but the user's own (ua-), the
        backing chain found at start, generated paths, ports and states."""
        root = self.tree()
        _strip_live(root)
        return xml_text.render(root)

    def tree(self) -> etree._Element:
        """A copy of the whole tree, to be changed and given to `DomainDefinition`."""
        return copy.deepcopy(self._root)

    @property
    def element(self) -> etree._Element:
        """The tree itself, for reading only."""
        return self._root

    # --- what the engine uses -------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The domain's name."""
        return self._text("name") or ""

    @property
    def uuid(self) -> str | None:
        """Lower case with dashes; None before the domain has been completed."""
        text = self._text("uuid")
        if text is None:
            return None
        digits = re.sub(r"[\s-]", "", text).lower()
        return "-".join(
            (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]),
        )

    @property
    def id(self) -> int | None:
        """The id of a running domain."""
        text = self._root.get("id")
        return int(text) if text is not None and text.isdigit() else None

    @property
    def title(self) -> str | None:
        """The short title, if any."""
        return self._text("title")

    @property
    def type(self) -> str:
        """'kvm' or 'qemu'."""
        return self._root.get("type", "")

    @property
    def os_type(self) -> str:
        """'hvm'."""
        return self._text("os/type") or "hvm"

    @property
    def arch(self) -> str:
        """The guest's architecture."""
        return self._attribute("os/type", "arch") or "x86_64"

    @property
    def machine(self) -> str:
        """The machine type; an alias such as 'q35' before completion."""
        return self._attribute("os/type", "machine") or ""

    @property
    def vcpus(self) -> int:
        """How many virtual CPUs are present at boot."""
        current = self._attribute("vcpu", "current")
        return int(current) if current else self.max_vcpus

    @property
    def max_vcpus(self) -> int:
        """How many virtual CPUs there can be."""
        return int(self._text("vcpu") or "1")

    @property
    def memory_kib(self) -> int:
        """Memory of the guest at boot, KiB."""
        return self._kib("memory") or 0

    @property
    def current_memory_kib(self) -> int:
        """What the balloon leaves to the guest, KiB."""
        return self._kib("currentMemory") or self.memory_kib

    @property
    def on_poweroff(self) -> str:
        """What follows when the guest powers off."""
        return self._lifecycle("on_poweroff")

    @property
    def on_reboot(self) -> str:
        """What follows when the guest reboots."""
        return self._lifecycle("on_reboot")

    @property
    def on_crash(self) -> str:
        """What follows when the guest panics."""
        return self._lifecycle("on_crash")

    @property
    def emulator(self) -> str | None:
        """Path of the QEMU binary."""
        return self._text("devices/emulator")

    @property
    def nvram_path(self) -> str | None:
        """The UEFI variable store's file."""
        text = self._text("os/nvram")
        if text:
            return text
        return self._attribute("os/nvram/source", "file")

    @property
    def loader_path(self) -> str | None:
        """The UEFI code's file."""
        return self._text("os/loader")

    @property
    def nvram_template(self) -> str | None:
        """What a variable store that is not there yet is copied from."""
        return self._attribute("os/nvram", "template")

    @property
    def tpm(self) -> TpmEmulator | None:
        """The TPM that is a program beside QEMU; None without one, and for those of the host's own."""
        backend = self._root.find("devices/tpm/backend[@type='emulator']")
        if backend is None:
            return None
        return TpmEmulator(
            version=backend.get("version", "2.0"),
            persistent=backend.get("persistent_state") == "yes",
            debug=None if (level := backend.get("debug")) is None else int(level),
            banks=tuple(str(bank.tag) for bank in backend.iterfind("active_pcr_banks/*")),
        )

    @property
    def disks(self) -> tuple[DomainDisk, ...]:
        """The disks in the order of the document."""
        return tuple(read_disk(element) for element in self._root.iterfind("devices/disk"))

    def disk(self, target: str) -> DomainDisk | None:
        """The disk of a target name."""
        return next((disk for disk in self.disks if disk.target == target), None)

    # --- changed copies -------------------------------------------------------------------------------

    def with_name(self, name: str) -> DomainDefinition:
        """The same domain under another name."""
        root = self.tree()
        _set_text(root, "name", name, first=True)
        return DomainDefinition(root)

    def with_uuid(self, uuid: str) -> DomainDefinition:
        """The same domain with another uuid."""
        root = self.tree()
        element = root.find("uuid")
        if element is None:
            element = etree.Element("uuid")
            name = root.find("name")
            root.insert(0 if name is None else root.index(name) + 1, element)
        element.text = uuid
        return DomainDefinition(root)

    def with_id(self, id: int | None) -> DomainDefinition:
        """The running form (an id), or with None the form without one."""
        root = self.tree()
        if id is None:
            _drop(root, "id")
        else:
            root.set("id", str(id))
        return DomainDefinition(root)

    def with_memory(self, memory_kib: int, current_kib: int | None = None) -> DomainDefinition:
        """Other memory sizes, KiB."""
        root = self.tree()
        for tag, value in (("memory", memory_kib), ("currentMemory", current_kib or memory_kib)):
            element = root.find(tag)
            if element is not None:
                element.set("unit", "KiB")
                element.text = str(value)
        return DomainDefinition(root)

    def with_vcpus(self, maximum: int, current: int) -> DomainDefinition:
        """Other numbers of virtual CPUs."""
        root = self.tree()
        _set_text(root, "vcpu", str(maximum), first=False)
        element = root.find("vcpu")
        assert element is not None
        _drop(element, "current")
        if current != maximum:
            element.set("current", str(current))
        return DomainDefinition(root)

    @property
    def interface_count(self) -> int:
        """How many network interfaces it has."""
        return len(self._root.findall("devices/interface"))

    @property
    def balloon_alias(self) -> str | None:
        """The memory balloon of a running domain; None where there is none."""
        model, alias = (self._attribute("devices/memballoon", "model"), "devices/memballoon/alias")
        return None if model in (None, "none") else self._attribute(alias, "name") or "balloon0"

    def with_balloon_period(self, seconds: int) -> DomainDefinition:
        """How often the guest is asked for its memory's figures; 0: never."""
        root = self.tree()
        balloon = root.find("devices/memballoon")
        assert balloon is not None
        stats = balloon.find("stats")
        if stats is not None:
            balloon.remove(stats)
        if seconds:
            stats = etree.Element("stats")
            stats.set("period", str(seconds))
            balloon.insert(0, stats)
        return DomainDefinition(root)

    def without_secrets(self) -> DomainDefinition:
        """Without the passwords of graphics, which are shown only to those who may (XML_SECURE)."""
        root = self.tree()
        for graphics in root.iterfind("devices/graphics"):
            _drop(graphics, "passwd")
        return DomainDefinition(root)

    def with_disk_source(
        self, target: str, path: str | None, format: str, type: str = "file"
    ) -> DomainDefinition:
        """The disk `target` on another image; what was known of its backing chain is dropped.

        `path` None empties the drive. Raises InvalidArg when there is no such disk.
        """
        root = self.tree()
        disk = _find_disk(root, target)
        disk.set("type", type)
        for stale in disk.findall("backingStore") + disk.findall("source"):
            disk.remove(stale)
        driver = disk.find("driver")
        if driver is None:
            driver = etree.Element("driver", name="qemu")
            disk.insert(0, driver)
        driver.set("type", format)
        if path is not None:
            source = etree.Element("source")
            source.set("file" if type == "file" else "dev", path)
            disk.insert(disk.index(driver) + 1, source)
        return DomainDefinition(root)

    def with_backing_chain(
        self, target: str, layers: Sequence[BackingLayer], first_index: int = 1
    ) -> DomainDefinition:
        """The live form of a disk: `layers` top first, the top being the disk's own source.

        `first_index` is the N of the top's node name libvirt-N-format; each layer below counts one up.
        Raises InvalidArg when there is no such disk.
        """
        root = self.tree()
        disk = _find_disk(root, target)
        for stale in disk.findall("backingStore"):
            disk.remove(stale)
        source = disk.find("source")
        if source is None:
            return DomainDefinition(root)
        source.set("index", str(first_index))
        parent, position = disk, disk.index(source) + 1
        for number, layer in enumerate(layers[1:], start=first_index + 1):
            backing = etree.Element("backingStore", type=layer.type, index=str(number))
            etree.SubElement(backing, "format", type=layer.format)
            below = etree.SubElement(backing, "source")
            below.set("file" if layer.type == "file" else "dev", layer.path)
            parent.insert(position, backing)
            parent, position = backing, 2
        parent.insert(position, etree.Element("backingStore"))
        return DomainDefinition(root)

    def with_layer(self, target: str, path: str, format: str, type: str, index: int) -> DomainDefinition:
        """The live form of a disk with one more layer on top: what it stood on is the first backing layer.

        `index` is the N of the new layer's node name. Raises InvalidArg when there is no such disk.
        """
        disk = _find_disk(self._root, target)
        below, driver = copy.deepcopy(disk.find("source")), disk.find("driver")
        stands_on = [copy.deepcopy(element) for element in disk.findall("backingStore")]
        backing = etree.Element("backingStore", type=disk.get("type", "file"))
        changed = self.with_disk_source(target, path, format, type)
        if below is None or driver is None:
            return changed
        if (number := below.get("index")) is not None:
            backing.set("index", number)
            _drop(below, "index")
        etree.SubElement(backing, "format", type=driver.get("type", "raw"))
        backing.append(below)
        backing.extend(stands_on)
        disk = _find_disk(changed._root, target)
        source = disk.find("source")
        assert source is not None
        source.set("index", str(index))
        source.addnext(backing)
        return changed

    def without_layer(self, target: str, path: str) -> DomainDefinition:
        """The live form of a disk without one of its layers; the same when it has no such layer, or no other.

        Raises InvalidArg when there is no such disk.
        """
        root = self.tree()
        disk = _find_disk(root, target)
        above: etree._Element | None = None
        layer: etree._Element | None = disk
        while layer is not None and _source_path(layer) != path:
            above, layer = layer, layer.find("backingStore")
        below = layer.find("backingStore") if layer is not None else None
        if layer is None or below is None:
            return self
        if above is not None:
            above.replace(layer, below)
            return DomainDefinition(root)
        source, format, driver = below.find("source"), below.find("format"), disk.find("driver")
        old = disk.find("source")
        if source is None or format is None or driver is None or old is None:
            return self
        disk.set("type", below.get("type", "file"))
        driver.set("type", format.get("type", "raw"))
        if (number := below.get("index")) is not None:
            source.set("index", number)
        disk.replace(old, source)
        disk.remove(below)
        source.tail = None
        position = disk.index(source) + 1
        for element in reversed(below.findall("backingStore")):
            disk.insert(position, element)
        return DomainDefinition(root)

    def with_mirror(
        self, target: str, job: str, path: str, format: str, type: str, index: int | None
    ) -> DomainDefinition:
        """The live form of a disk whose content a job keeps equal in another image. Raises InvalidArg.

        `job`: 'copy' or 'active-commit'; `index`: the N of that image's node name.
        """
        definition = self.without_mirror(target)
        disk = _find_disk(definition._root, target)
        attribute = "file" if type == "file" else "dev"
        mirror = etree.Element("mirror", type=type)
        if job == "copy" and type == "file":
            mirror.set("file", path)
            mirror.set("format", format)
        mirror.set("job", job)
        etree.SubElement(mirror, "format", type=format)
        source = etree.SubElement(mirror, "source")
        source.set(attribute, path)
        if index is not None:
            source.set("index", str(index))
        if job == "copy":
            etree.SubElement(mirror, "backingStore")
        place = disk.find("target")
        assert place is not None
        disk.insert(disk.index(place), mirror)
        return definition

    def with_ready_mirror(self, target: str) -> DomainDefinition:
        """The same once that image is equal; unchanged when the disk has no mirror. Raises InvalidArg."""
        root = self.tree()
        mirror = _find_disk(root, target).find("mirror")
        if mirror is None:
            return self
        mirror.set("ready", "yes")
        return DomainDefinition(root)

    def without_mirror(self, target: str) -> DomainDefinition:
        """The live form of a disk that no such job works on. Raises InvalidArg."""
        root = self.tree()
        disk = _find_disk(root, target)
        for mirror in disk.findall("mirror"):
            disk.remove(mirror)
        return DomainDefinition(root)

    def layer_index(self, target: str, path: str) -> int | None:
        """The N of the node name of one of a live disk's layers. Raises InvalidArg."""
        return next((number for number, at in self.layer_paths(target) if at == path), None)

    def layer_paths(self, target: str) -> tuple[tuple[int | None, str], ...]:
        """The layers of a disk as far as they are told, top first, with the N of their node names.

        Raises InvalidArg.
        """
        return tuple((layer.index, layer.path) for layer in self.layers(target))

    def layers(self, target: str) -> tuple[DiskLayer, ...]:
        """The same with their formats."""
        found = []
        layer: etree._Element | None = _find_disk(self._root, target)
        while layer is not None:
            source, path = layer.find("source"), _source_path(layer)
            if source is not None and path is not None:
                number = source.get("index") or layer.get("index")
                named = layer.find("driver" if layer.tag == "disk" else "format")
                format = named.get("type", "raw") if named is not None else "raw"
                found.append(DiskLayer(int(number) if number else None, path, format))
            layer = layer.find("backingStore")
        return tuple(found)

    def with_console_paths(self, paths: Mapping[str, str]) -> DomainDefinition:
        """The live form of character devices: alias -> pseudo-terminal or socket path.

        A console that doubles the first serial port shows its path too.
        """
        root = self.tree()
        for element in root.iterfind("devices/*"):
            alias = element.find("alias")
            path = paths.get(alias.get("name", "")) if alias is not None else None
            if path is None or element.tag not in ("serial", "parallel", "console", "channel"):
                continue
            source = element.find("source")
            if source is None:
                source = etree.Element("source")
                element.insert(0, source)
            source.set("path", path)
            if element.get("type") == "unix" and source.get("mode") is None:
                source.attrib.clear()
                source.set("mode", "bind")
                source.set("path", path)
            if element.tag == "console" and element.get("type") == "pty":
                element.set("tty", path)
        return DomainDefinition(root)

    def with_vnc(self, port: int, address: str = VNC_ADDRESS) -> DomainDefinition:
        """The live form of the VNC display: where it really listens."""
        root = self.tree()
        for graphics in root.iterfind("devices/graphics[@type='vnc']"):
            listen = graphics.find("listen")
            if listen is not None and listen.get("type") != "address":
                continue
            graphics.set("port", str(port))
            if graphics.get("listen") is None:
                graphics.set("listen", address)
            if listen is not None and listen.get("address") is None:
                listen.set("address", address)
        return DomainDefinition(root)

    # --- reading helpers ------------------------------------------------------------------------------

    def _text(self, path: str) -> str | None:
        element = self._root.find(path)
        return None if element is None else element.text

    def _attribute(self, path: str, name: str) -> str | None:
        element = self._root.find(path)
        return None if element is None else element.get(name)

    def _kib(self, tag: str) -> int | None:
        element = self._root.find(tag)
        if element is None:
            return None
        size = scaled_bytes(element.text or "", element.get("unit"), "KiB", f"./{tag}[1]")
        return -(-size // 1024)

    def _lifecycle(self, tag: str) -> str:
        return self._text(tag) or _LIFECYCLE_DEFAULTS[tag]

    # --- checks, in libvirt's order -------------------------------------------------------------------

    def _check(self) -> None:
        if self._root.get("type") is None and self._text("name"):
            raise InternalRefused("missing domain type attribute")
        if not self._text("name"):
            raise XmlDetail("missing name information")
        if self.type not in DOMAIN_TYPES:
            if self.type in _ALL_TYPES:
                raise ConfigUnsupported(f"domain type '{self.type}' is not supported by this engine")
            raise ConfigUnsupported(f"invalid domain type {self.type}")
        uuid = self._text("uuid")
        if uuid is not None and not _UUID.match(uuid):
            raise InternalRefused("malformed uuid element")
        if "/" in self.name:
            raise XmlError(f"name {self.name} cannot contain '/'")
        if not self._text("os/type"):
            raise XmlError("an os <type> must be specified")
        if self._kib("memory") is None:
            raise XmlError("Memory size must be specified via <memory> or in the <numa> configuration")
        self._kib("currentMemory")
        vcpus = self._text("vcpu")
        if vcpus is not None and not re.fullmatch(r"\d+", vcpus.strip()):
            raise XmlError("maximum vcpus count must be an integer")
        if self.max_vcpus == 0:
            raise XmlError("invalid maximum number of vCPUs '0'")
        if self.vcpus > self.max_vcpus:
            raise XmlError(f"maxvcpus must not be less than current vcpus ({self.max_vcpus} < {self.vcpus})")
        for tag, words in _LIFECYCLE.items():
            action = self._text(tag)
            if action is not None and action not in words:
                if any(action in others for others in _LIFECYCLE.values()):
                    event = tag.removeprefix("on_")
                    raise ConfigUnsupported(f"Lifecycle event '{event}' doesn't support '{action}' action")
                raise ConfigUnsupported(f"unknown {tag} action: {action}")
        self._check_disks()

    def _check_disks(self) -> None:
        seen: dict[str, str | None] = {}
        for element in self._root.iterfind("devices/disk"):
            disk = read_disk(element)
            if disk.target in seen:
                raise XmlError(
                    f"target '{disk.target}' duplicated for disk sources"
                    f" '{seen[disk.target] or '(null)'}' and '{disk.source or '(null)'}'"
                )
            seen[disk.target] = disk.source


def read_disk(element: etree._Element) -> DomainDisk:
    """The typed view of one `<disk>`; raises XmlError, XmlDetail or ConfigUnsupported in libvirt's words."""
    type_ = _word(element, "type", _DISK_TYPES, "file")
    device = _word(element, "device", _DISK_DEVICES, "disk")
    source = element.find("source")
    path = None if source is None else source.get({"block": "dev", "dir": "dir"}.get(type_, "file"))
    target = element.find("target")
    name = None if target is None else target.get("dev")
    if target is None or not name:
        if path:
            raise XmlDetail(f"missing target information for device {path}")
        raise XmlDetail("missing target information for device (null)")
    if type_ in ("file", "block") and not path and device not in ("cdrom", "floppy"):
        raise XmlDetail(f"missing source information for device {name}")
    bus = _word(target, "bus", _DISK_BUSES, None)
    if bus is None:
        bus = "fdc" if device == "floppy" else bus_of_target(name)
    if bus is None:
        raise XmlError(f"Unknown disk name '{name}' and no address specified")
    driver = element.find("driver")
    format_ = "raw" if driver is None else driver.get("type", "raw")
    if format_ == "aio":
        format_ = "raw"
    if format_ not in _DISK_FORMATS:
        raise ConfigUnsupported(f"unknown driver format value '{format_}'")
    readonly = element.find("readonly") is not None or device == "cdrom"
    snapshot = element.get("snapshot")
    if snapshot is not None and snapshot not in _SNAPSHOT_WORDS:
        raise XmlError(f"Invalid value for attribute 'snapshot' in element 'disk': '{snapshot}'.")
    if type_ == "vhostuser" and snapshot not in (None, "no"):
        raise ConfigUnsupported("only snapshot=no is supported with vhostuser disk")
    alias = element.find("alias")
    serial = element.find("serial")
    return DomainDisk(
        target=name,
        bus=bus,
        device=device,
        type=type_,
        source=path or None,
        format=format_,
        readonly=readonly,
        shareable=element.find("shareable") is not None,
        transient=element.find("transient") is not None,
        snapshot=snapshot or ("no" if readonly or type_ == "vhostuser" else None),
        protocol=None if source is None else source.get("protocol"),
        export=None if source is None else source.get("name"),
        alias=None if alias is None else alias.get("name"),
        serial=None if serial is None else serial.text,
        cache=None if driver is None else driver.get("cache"),
        io=None if driver is None else driver.get("io"),
        discard=None if driver is None else driver.get("discard"),
        detect_zeroes=None if driver is None else driver.get("detect_zeroes"),
    )


def _word(element: etree._Element, name: str, words: Sequence[str], default: str | None) -> str:
    value = element.get(name)
    if value is None:
        return default  # type: ignore[return-value]
    if value not in words:
        raise XmlError(f"Invalid value for attribute '{name}' in element '{element.tag}': '{value}'.")
    return value


def _find_disk(root: etree._Element, target: str) -> etree._Element:
    for disk in root.iterfind("devices/disk"):
        element = disk.find("target")
        if element is not None and element.get("dev") == target:
            return disk
    raise InvalidArg(f"no such disk in the domain: '{target}'")


def _set_text(root: etree._Element, tag: str, text: str, *, first: bool) -> None:
    element = root.find(tag)
    if element is None:
        element = etree.Element(tag)
        root.insert(0 if first else len(root), element)
    element.text = text


def _drop(element: etree._Element, name: str) -> bool:
    """Remove an attribute; whether it was there."""
    if name not in element.attrib:
        return False
    del element.attrib[name]
    return True


def _source_path(element: etree._Element) -> str | None:
    source = element.find("source")
    return None if source is None else source.get("file") or source.get("dev")


def _strip_live(root: etree._Element) -> None:
    lives = _drop(root, "id")
    devices = root.find("devices")
    if devices is None:
        return
    for element in devices.iter("serial", "parallel", "console", "channel"):
        _strip_generated_socket(element)
    for alias in devices.findall(".//alias"):
        parent = alias.getparent()
        if parent is not None and not alias.get("name", "").startswith("ua-"):
            parent.remove(alias)
            if len(parent) == 0:
                # What was between the elements is no text of its own.
                parent.text = None
    for disk in devices.findall("disk"):
        _strip_disk(disk)
    for element in devices:
        if element.tag in ("serial", "parallel", "console", "channel"):
            _strip_character_device(element)
        elif element.tag == "graphics":
            if element.get("autoport") == "yes":
                element.set("port", "-1")
            if lives:
                _strip_default_address(element)
        elif element.tag == "interface":
            target = element.find("target")
            if target is not None and target.get("dev", "").startswith(("vnet", "macvtap", "macvlan")):
                element.remove(target)


def _strip_default_address(graphics: etree._Element) -> None:
    """What `with_vnc` adds. Whoever has written the same gets no other screen by it."""
    for element in (graphics, *graphics.findall("listen")):
        for name in ("listen", "address"):
            if element.get(name) == VNC_ADDRESS:
                _drop(element, name)


def _strip_disk(disk: etree._Element) -> None:
    source = disk.find("source")
    live = source is not None and _drop(source, "index")
    for mirror in disk.findall("mirror"):
        disk.remove(mirror)
    # A chain that the user wrote into the definition carries no index and stays.
    for backing in disk.findall("backingStore"):
        if live or backing.get("index") is not None:
            disk.remove(backing)


def _strip_generated_socket(element: etree._Element) -> None:
    """The socket of a device that was given none lies in one QEMU's run folder, under the device's alias."""
    source, alias = element.find("source"), element.find("alias")
    if source is None or alias is None or element.get("type") != "unix":
        return
    if re.search(rf"/run/\d+/{re.escape(alias.get('name', ''))}\.sock$", source.get("path", "")):
        _drop(source, "path")
        _drop(source, "mode")
        if not source.attrib and len(source) == 0:
            element.remove(source)


def _strip_character_device(element: etree._Element) -> None:
    _drop(element, "tty")
    source = element.find("source")
    if element.get("type") == "pty" and source is not None:
        _drop(source, "path")
        if not source.attrib and len(source) == 0:
            element.remove(source)
    target = element.find("target")
    if element.tag == "channel" and target is not None:
        _drop(target, "state")
