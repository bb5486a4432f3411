"""libvirt XML for the lab guest: plain enough for virtsnap and for a real libvirtd alike.

Only what a test asks for is in it, because every device costs boot time in an emulated guest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from lab.guest import GuestImage

_PREFIX = {"virtio": "vd", "scsi": "sd", "sata": "sd", "ide": "hd"}


def disk_targets(count: int, bus: str = "virtio") -> list[str]:
    """The target names of the disks, as `domain_xml` gives them: vda, vdb ..."""
    return [_PREFIX[bus] + "abcdefghijklmnop"[number] for number in range(count)]


def domain_xml(
    name: str,
    guest: GuestImage,
    disks: Sequence[Path] = (),
    *,
    memory_mib: int = 256,
    vcpus: int = 1,
    machine: str = "q35",
    bus: str = "virtio",
    serial: Path | None = None,
    tick: Path | None = None,
    tick_socket: Path | None = None,
    uuid: str | None = None,
    emulator: Path | None = None,
    cmdline: str = "",
    devices: str = "",
) -> str:
    """XML of a domain of type qemu (emulated) that boots the guest.

    `disks`: images; `.raw` and `.img` are raw, everything else is qcow2. Their targets are `disk_targets`.
    `serial`: unix socket that QEMU listens on for the agent's console; without it the console is a pty.
    `tick`, `tick_socket`: file or socket for the guest's pulse (`rootfs/lib/tick.sh`); neither: no pulse.
    `cmdline` is put after the guest's own; `devices` is XML put at the end of the devices.
    """
    ticking = tick or tick_socket
    words = " ".join(
        part for part in (guest.cmdline, "virtsnap.tick=ttyS1" if ticking else "", cmdline) if part
    )
    parts = [f"<emulator>{escape(str(emulator))}</emulator>"] if emulator else []
    parts += [
        _disk(path, target, bus) for path, target in zip(disks, disk_targets(len(disks), bus), strict=True)
    ]
    if bus == "scsi" and disks:
        parts.append("<controller type='scsi' index='0' model='virtio-scsi'/>")
    parts.append("<controller type='usb' model='none'/>")
    parts.append(_serial(0, serial, "unix" if serial else "pty"))
    if ticking:
        parts.append(_serial(1, ticking, "file" if tick else "unix"))
    parts.append("<console type='pty'><target type='serial' port='0'/></console>" if not serial else "")
    parts.append("<memballoon model='none'/>")
    parts.append(devices)
    body = "\n    ".join(part for part in parts if part)
    return f"""<domain type='qemu'>
  <name>{escape(name)}</name>
  {f"<uuid>{uuid}</uuid>" if uuid else ""}
  <memory unit='MiB'>{memory_mib}</memory>
  <vcpu>{vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='{machine}'>hvm</type>
    <kernel>{escape(str(guest.kernel))}</kernel>
    <initrd>{escape(str(guest.initrd))}</initrd>
    <cmdline>{escape(words)}</cmdline>
  </os>
  <features>
    <acpi/>
    <apic/>
  </features>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    {body}
  </devices>
</domain>
"""


def _disk(path: Path, target: str, bus: str) -> str:
    kind = "raw" if path.suffix in (".raw", ".img") else "qcow2"
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='{kind}'/>"
        f"<source file={quoteattr(str(path))}/><target dev='{target}' bus='{bus}'/></disk>"
    )


def _serial(port: int, path: Path | None, kind: str) -> str:
    mode = "mode='bind' " if kind == "unix" else ""
    source = f"<source {mode}path={quoteattr(str(path))}/>" if path else ""
    return f"<serial type='{kind}'>{source}<target port='{port}'/></serial>"
