"""The domains of the scenarios: small, the same on both sides, every name in them given.

Without `guest` there is no operating system: the firmware finds nothing to boot and stands still, which is
enough for everything that is not asked from inside. With it the lab's guest is booted, its
console on DIR/console.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from lab.domain import domain_xml
from lab.guest import GuestImage

_BUS = {"vd": "virtio", "hd": "ide", "sd": "scsi", "fd": "fdc"}
DISK_SIZE = "16M"


@dataclass(frozen=True)
class Image:
    """An image that has to be made."""

    path: Path
    format: str


@dataclass(frozen=True)
class Built:
    xml: str
    images: tuple[Image, ...]


def build(words: list[str], folder: Path, guest: GuestImage | None) -> Built:
    """From the words after `domain:`; `target=FILE[,snapshot=MODE][,readonly][,cdrom][,shareable]`.

    An empty FILE is an empty drive.
    """
    name, *rest = words
    with_guest = "guest" in rest
    disks, images = [], []
    for word in rest:
        if word == "guest":
            continue
        target, _, value = word.partition("=")
        file, *options = value.split(",")
        disk, image = _disk(target, file, options, folder)
        disks.append(disk)
        images += [image] if image else []
    id = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
    if with_guest:
        assert guest is not None
        xml = domain_xml(
            name, guest, serial=folder / "console", uuid=id, memory_mib=128, devices="\n    ".join(disks)
        )
    else:
        xml = _bare(name, id, disks)
    return Built(xml, tuple(images))


def _disk(target: str, file: str, options: list[str], folder: Path) -> tuple[str, Image | None]:
    device = "cdrom" if "cdrom" in options else "disk"
    raw = file.endswith((".raw", ".img", ".iso")) or not file
    kind = "raw" if raw else "qcow2"
    mode = next(
        (f" snapshot='{o.removeprefix('snapshot=')}'" for o in options if o.startswith("snapshot=")), ""
    )
    xml = f"<disk type='file' device='{device}'{mode}><driver name='qemu' type='{kind}'/>"
    xml += f"<source file='{folder}/{file}'/>" if file else ""
    xml += f"<target dev='{target}' bus='{_BUS[target[:2]]}'/>"
    xml += "".join(f"<{flag}/>" for flag in ("readonly", "shareable") if flag in options)
    return xml + "</disk>", Image(folder / file, kind) if file else None


def _bare(name: str, id: str, disks: list[str]) -> str:
    lines = "\n    ".join(disks)
    return f"""<domain type='qemu'>
  <name>{name}</name>
  <uuid>{id}</uuid>
  <memory unit='MiB'>16</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
  </os>
  <features>
    <acpi/>
  </features>
  <devices>
    {lines}
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""
