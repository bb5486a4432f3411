"""The calls on the host: what it is, and what may be defined on it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from virtsnap.model.errors import ConfigUnsupported
from virtsnap.model.host import Emulator, NodeInfo
from virtsnap.service.context import Context

_CPUS = Path("/sys/devices/system/cpu")
_DMI = Path("/sys/class/dmi/id")
_SMBIOS = {
    "bios": {
        "vendor": "bios_vendor",
        "version": "bios_version",
        "date": "bios_date",
        "release": "bios_release",
    },
    "system": {
        "manufacturer": "sys_vendor",
        "product": "product_name",
        "version": "product_version",
        "serial": "product_serial",
        "uuid": "product_uuid",
        "sku": "product_sku",
        "family": "product_family",
    },
    "baseBoard": {
        "manufacturer": "board_vendor",
        "product": "board_name",
        "version": "board_version",
        "serial": "board_serial",
        "asset": "board_asset_tag",
    },
    "chassis": {
        "manufacturer": "chassis_vendor",
        "version": "chassis_version",
        "serial": "chassis_serial",
        "asset": "chassis_asset_tag",
    },
}
"""libvirt's entries and the kernel's files."""


class HostCalls(Context):
    """See `service.interface.Service`."""

    async def node_info(self) -> NodeInfo:
        """virNodeGetInfo."""
        return read_node()

    async def capabilities_xml(self) -> str:
        """virConnectGetCapabilities."""
        from virtsnap.formats.capabilities_xml import capabilities

        return capabilities(_host_uuid(), read_node(), await self._emulator(None))

    async def domain_capabilities_xml(
        self,
        emulator: str | None = None,
        arch: str | None = None,
        machine: str | None = None,
        virttype: str | None = None,
    ) -> str:
        """virConnectGetDomainCapabilities. Raises ConfigUnsupported for what cannot be run here."""
        from virtsnap.formats.capabilities_xml import domain_capabilities

        if arch not in (None, "x86_64"):
            raise ConfigUnsupported(f"architecture '{arch}' is not supported")
        caps = await self._emulator(emulator)
        kind = virttype or ("kvm" if caps.kvm else "qemu")
        if kind not in ("qemu", "kvm"):
            raise ConfigUnsupported(f"unknown virttype: {kind}")
        if kind == "kvm" and not caps.kvm:
            raise ConfigUnsupported("KVM is not supported by this host")
        name = machine or "pc"
        full = caps.aliases.get(name, name)
        if full not in caps.machines:
            raise ConfigUnsupported(f"the machine '{name}' is not supported by emulator '{caps.path}'")
        return domain_capabilities(caps, full, kind)

    async def _emulator(self, path: str | None) -> Emulator:
        from virtsnap.engine import swtpm
        from virtsnap.qemu.capabilities import kvm_usable
        from virtsnap.qemu.firmware import installed_firmwares

        caps = await self.capabilities(path)
        found = installed_firmwares()
        loaders = {one.executable: "secure-boot" in one.features for one in found}
        return Emulator(
            path=caps.emulator,
            version=caps.version,
            machines=tuple(one for one in caps.machines if one.startswith(("pc-q35", "pc-i440fx"))),
            aliases=caps.machine_aliases,
            max_cpus=caps.machine_cpus,
            kvm=kvm_usable(),
            firmwares=tuple(loaders),
            secure=any(loaders.values()),
            tpm_versions=await swtpm.versions(),
        )


def read_node() -> NodeInfo:
    """The host that this process runs on."""
    cpus = len(online_cpus())
    cores = {(_number(cpu, "physical_package_id"), _number(cpu, "core_id")) for cpu in online_cpus()}
    sockets = {package for package, _ in cores}
    speed = re.search(r"^cpu MHz\s*: (\d+)", Path("/proc/cpuinfo").read_text(errors="replace"), re.M)
    return NodeInfo(
        model=os.uname().machine,
        memory_kib=memory_stats()["total"],
        cpus=cpus,
        mhz=int(speed[1]) if speed else 0,
        nodes=1,
        sockets=len(sockets),
        cores=max(len(cores) // len(sockets), 1),
        threads=max(cpus // len(cores), 1),
    )


def online_cpus() -> list[int]:
    """Numbers of the processors that run."""
    found: list[int] = []
    for part in (_CPUS / "online").read_text().strip().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def cpu_times(cpu: int | None = None) -> dict[str, int]:
    """virNodeGetCPUStats: nanoseconds by use, of one processor or of all. Raises KeyError."""
    name = "cpu" if cpu is None else f"cpu{cpu}"
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    for line in Path("/proc/stat").read_text().splitlines():
        word, *numbers = line.split()
        if word == name:
            user, nice, system, idle, iowait, irq, softirq = (int(number) * tick for number in numbers[:7])
            return {
                "kernel": system + irq + softirq,
                "user": user + nice,
                "idle": idle,
                "iowait": iowait,
            }
    raise KeyError(name)


def memory_stats() -> dict[str, int]:
    """virNodeGetMemoryStats: KiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    figures = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return {
        "total": figures["MemTotal"],
        "free": figures["MemFree"],
        "buffers": figures["Buffers"],
        "cached": figures["Cached"],
    }


def sysinfo_xml() -> str:
    """What the firmware says of the host, as far as the kernel shows it to us. Raises ConfigUnsupported."""
    from lxml import etree

    root = etree.Element("sysinfo", type="smbios")
    for tag, entries in _SMBIOS.items():
        part = etree.Element(tag)
        for name, file in entries.items():
            try:
                said = (_DMI / file).read_text(errors="replace").strip()
            except OSError:
                continue  # not there, or root's alone
            if said:
                etree.SubElement(part, "entry", name=name).text = _xml_chars(said)
        if len(part):
            root.append(part)
    if not len(root):
        raise ConfigUnsupported("Host SMBIOS information is not available")
    return etree.tostring(root, encoding="unicode", pretty_print=True)


def _xml_chars(text: str) -> str:
    """Without what XML cannot hold: firmware says anything."""
    return "".join(one for one in text if one.isprintable())


def _number(cpu: int, name: str) -> int:
    try:
        return int((_CPUS / f"cpu{cpu}/topology" / name).read_text())
    except (OSError, ValueError):
        return 0  # a kernel that does not say


def _host_uuid() -> str:
    """The machine's own, from what the system was installed with."""
    import uuid as uuids

    try:
        return str(uuids.UUID(Path("/etc/machine-id").read_text().strip()))
    except (OSError, ValueError):
        return str(uuids.uuid5(uuids.NAMESPACE_DNS, os.uname().nodename))
