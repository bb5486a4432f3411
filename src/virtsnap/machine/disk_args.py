"""QEMU's options for disks: the block graph of each and the device in front of it.

Every layer of a chain has two nodes, libvirt-N-storage for the file and libvirt-N-format for its content (raw
too: libvirt leaves that one out, the guest cannot tell). Numbers count from the last disk to the first, and
down each chain, as libvirt's do.
"""

from __future__ import annotations

from collections.abc import Mapping

from lxml import etree

from virtsnap.formats.domain_xml import DomainDisk, read_disk
from virtsnap.machine import options, places, tree
from virtsnap.machine.aliases import alias_of, scsi_model
from virtsnap.machine.launch import Json, Launch, Layer

_CACHE = {
    "none": (True, False, "on"),
    "writethrough": (False, False, "off"),
    "writeback": (False, False, "on"),
    "directsync": (True, False, "off"),
    "unsafe": (False, True, "on"),
}
"""Cache mode -> cache.direct, cache.no-flush, the device's write-cache."""


def chain_of(disk: DomainDisk, chains: Mapping[str, tuple[Layer, ...]]) -> tuple[Layer, ...]:
    """The images of a disk, top first: as given, or its source alone; none for an empty drive."""
    if disk.target in chains:
        return chains[disk.target]
    if disk.source is None:
        return ()
    return (Layer(disk.source, disk.format, disk.type),)


def node_indexes(disks: tuple[DomainDisk, ...], chains: Mapping[str, tuple[Layer, ...]]) -> dict[str, int]:
    """Target -> number of its top nodes."""
    indexes: dict[str, int] = {}
    following = 1
    for disk in reversed(disks):
        indexes[disk.target] = following
        # An empty drive keeps a number for the medium to come.
        following += max(1, len(chain_of(disk, chains)))
    return indexes


def blockdevs(disk: DomainDisk, chain: tuple[Layer, ...], index: int) -> list[Json]:
    """The nodes of a disk, lowest layer first; all of it also fits QMP's blockdev-add."""
    nodes: list[Json] = []
    for depth in reversed(range(len(chain))):
        layer, number = chain[depth], index + depth
        below = number + 1 if depth + 1 < len(chain) else None
        nodes.append(storage_node(layer, number, disk))
        nodes.append(format_node(layer, number, disk, top=depth == 0, backing=below))
    return nodes


def storage_node(layer: Layer, index: int, disk: DomainDisk) -> Json:
    """The node of a file or block device."""
    node: Json = {"driver": "host_device" if layer.type == "block" else "file", "filename": layer.path}
    if disk.io is not None:
        node["aio"] = {"io_uring": "io_uring", "native": "native"}.get(disk.io, "threads")
    node |= {"node-name": f"libvirt-{index}-storage", "auto-read-only": True, "discard": "unmap"}
    return node | _cache(disk)


def format_node(layer: Layer, index: int, disk: DomainDisk, *, top: bool, backing: int | None) -> Json:
    """The node of an image's content. `backing`: number of the layer below."""
    node: Json = {"node-name": f"libvirt-{index}-format", "read-only": not top or disk.readonly}
    if top:
        if disk.discard is not None:
            node["discard"] = disk.discard
        if disk.detect_zeroes is not None:
            # unmap without discard would be refused by QEMU; libvirt falls back to on
            unmap = disk.detect_zeroes == "unmap" and disk.discard != "unmap"
            node["detect-zeroes"] = "on" if unmap else disk.detect_zeroes
    node |= _cache(disk)
    node |= {"driver": layer.format, "file": f"libvirt-{index}-storage"}
    if backing is not None:
        node["backing"] = f"libvirt-{backing}-format"
    elif layer.format == "qcow2":
        # Never what the image itself says: the chain is ours to know.
        node["backing"] = None
    return node


def _cache(disk: DomainDisk) -> Json:
    if disk.cache not in _CACHE:
        return {}
    direct, no_flush, _ = _CACHE[disk.cache]
    return {"cache": {"direct": direct, "no-flush": no_flush}}


def node_json(node: Json) -> str:
    """A node as JSON text, keeping an explicit null backing."""
    text = options.to_json(node)
    if "backing" in node and node["backing"] is None:
        text = text[:-1] + ',"backing":null}'
    return text


def disk_args(
    root: etree._Element,
    element: etree._Element,
    launch: Launch,
    indexes: Mapping[str, int],
    bootindex: int | None,
) -> list[str]:
    """-blockdev for each node and -device for the drive."""
    disk = read_disk(element)
    chain = chain_of(disk, launch.chains)
    argv: list[str] = []
    for node in blockdevs(disk, chain, indexes[disk.target]):
        argv += ["-blockdev", node_json(node)]
    drive = f"libvirt-{indexes[disk.target]}-format" if chain else None
    return argv + options.device(_device(root, element, disk, drive, bootindex))


def _device(
    root: etree._Element, element: etree._Element, disk: DomainDisk, drive: str | None, bootindex: int | None
) -> Json:
    properties = _front(root, element, disk)
    if disk.shareable:
        properties["share-rw"] = True
    if disk.bus == "scsi":
        properties["device_id"] = f"drive-{alias_of(element)}"
    properties["drive"] = drive
    properties["id"] = alias_of(element)
    properties["bootindex"] = bootindex
    blockio = element.find("blockio")
    if blockio is not None:
        for name in ("logical_block_size", "physical_block_size"):
            value = blockio.get(name)
            properties[name] = None if value is None else int(value)
    rotation = tree.attribute(element, "target", "rotation_rate")
    properties["rotation_rate"] = None if rotation is None else int(rotation)
    wwn = tree.text(element, "wwn")
    properties["wwn"] = None if wwn is None else int(wwn, 16)
    properties["vendor"] = tree.text(element, "vendor")
    properties["product"] = tree.text(element, "product")
    if disk.bus == "usb":
        properties["removable"] = False
    if disk.cache in _CACHE and disk.device != "floppy":
        properties["write-cache"] = _CACHE[disk.cache][2]
    properties["serial"] = disk.serial
    properties["werror"] = tree.attribute(element, "driver", "error_policy")
    properties["rerror"] = tree.attribute(element, "driver", "rerror_policy")
    return properties


def _front(root: etree._Element, element: etree._Element, disk: DomainDisk) -> Json:
    """Driver and place of the device the guest sees."""
    kind = "cd" if disk.device == "cdrom" else "hd"
    address = {
        name: tree.number(tree.attribute(element, "address", name))
        for name in ("controller", "bus", "target", "unit")
    }
    match disk.bus:
        case "virtio":
            return _virtio(root, element)
        case "ide":
            return {"driver": f"ide-{kind}", "bus": f"ide.{address['bus']}", "unit": address["unit"]}
        case "sata":
            names = [
                alias_of(c)
                for c in tree.controllers(root, "sata")
                if tree.number(c.get("index")) == address["controller"]
            ]
            return {"driver": f"ide-{kind}", "bus": f"{names[0]}.{address['unit']}"}
        case "fdc":
            return {"driver": "floppy", "unit": address["unit"]}
        case "usb":
            return {"driver": "usb-storage", **places.usb(root, element)}
    properties: Json = {"driver": f"scsi-{kind}", "bus": f"scsi{address['controller']}.0"}
    if scsi_model(root, address["controller"]) == "lsilogic":
        return properties | {"scsi-id": address["unit"]}
    return properties | {"channel": address["bus"], "scsi-id": address["target"], "lun": address["unit"]}


def _virtio(root: etree._Element, element: etree._Element) -> Json:
    iothread = tree.attribute(element, "driver", "iothread")
    queues = tree.attribute(element, "driver", "queues")
    size = tree.attribute(element, "driver", "queue_size")
    return {
        "driver": "virtio-blk-pci",
        "iothread": None if iothread is None else f"iothread{iothread}",
        "num-queues": None if queues is None else int(queues),
        "queue-size": None if size is None else int(size),
        **places.pci(root, element),
    }
