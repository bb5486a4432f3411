"""QEMU's options for the machine as a whole: board, CPU, memory, clock, boot, and what ends the process."""

from __future__ import annotations

from datetime import UTC, datetime

from lxml import etree

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine import options, tree
from virtsnap.machine.launch import Launch
from virtsnap.model.errors import ConfigUnsupported
from virtsnap.model.facts import MappedMemory

_MIB = 1024


def head(definition: DomainDefinition, launch: Launch) -> list[str]:
    """From -name to -smp and the I/O threads."""
    root = definition.element
    memory = boot_memory_kib(definition)
    argv = ["-name", f"guest={options.escape(definition.name)},debug-threads=on", "-S"]
    argv += _firmware(root)
    argv += ["-machine", _machine(root), "-accel", "kvm" if definition.type == "kvm" else "tcg"]
    argv += ["-cpu", _cpu(root), *_loader(root), "-m", f"size={memory}k"]
    argv += _memory(memory * 1024, launch.memory)
    locked = root.find("memoryBacking/locked") is not None
    argv += ["-overcommit", f"mem-lock={'on' if locked else 'off'}"]
    argv += ["-smp", _smp(definition, launch)]
    for number in iothreads(root):
        argv += options.backend("iothread", {"id": f"iothread{number}"})
    argv += ["-uuid", definition.uuid or ""]
    argv += _smbios(root)
    genid = tree.text(root, "genid")
    if root.find("genid") is not None:
        argv += options.device(
            {"driver": "vmgenid", "guid": launch.gen_id or genid or "auto", "id": "vmgenid0"}
        )
    return argv


def _memory(size: int, mapped: MappedMemory | None) -> list[str]:
    if mapped is None:
        return options.backend("memory-backend-ram", {"id": "pc.ram", "size": size})
    return options.backend(
        "memory-backend-file",
        {
            "id": "pc.ram",
            "size": size,
            "mem-path": mapped.path,
            "offset": mapped.offset,
            "share": False,
            "readonly": True,
            "rom": "off",
        },
    )


def tail(definition: DomainDefinition, launch: Launch) -> list[str]:
    """Clock, end of the process, power management, boot order and direct kernel boot."""
    root = definition.element
    argv = ["-rtc", _rtc(root, launch)]
    argv += _timers(root)
    argv += ["-action", _actions(definition)]
    argv += _power_management(root)
    argv += ["-boot", _boot(root)]
    for tag, option in (
        ("kernel", "-kernel"),
        ("initrd", "-initrd"),
        ("cmdline", "-append"),
        ("dtb", "-dtb"),
    ):
        value = tree.text(root, f"os/{tag}")
        if value:
            argv += [option, value]
    return argv


def iothreads(root: etree._Element) -> list[int]:
    """Numbers of the I/O threads: those listed first, then the lowest free ones up to the count."""
    listed = [int(e.get("id", "0")) for e in root.iterfind("iothreadids/iothread")]
    count = int(tree.text(root, "iothreads") or len(listed))
    number = 0
    while len(listed) < count:
        number += 1
        if number not in listed:
            listed.append(number)
    return listed


def boot_memory_kib(definition: DomainDefinition) -> int:
    """What the guest gets: libvirt rounds up to whole MiB before it starts a PC."""
    return -(-definition.memory_kib // _MIB) * _MIB


def _state(root: etree._Element, feature: str) -> str | None:
    element = root.find(f"features/{feature}")
    return None if element is None else element.get("state", "on")


def _machine(root: etree._Element) -> str:
    parts = [tree.attribute(root, "os/type", "machine") or "", "usb=off"]
    for feature, name in (("vmport", "vmport"), ("smm", "smm")):
        state = _state(root, feature)
        if state is not None:
            parts.append(f"{name}={state}")
    if _state(root, "ps2") == "off":
        parts.append("i8042=off")
    parts += ["dump-guest-core=" + (tree.attribute(root, "memory", "dumpCore") or "off")]
    parts += ["memory-backend=pc.ram"]
    for unit, node in _pflash_nodes(root):
        parts.append(f"{unit}={node}")
    hpet = root.find("clock/timer[@name='hpet']")
    if hpet is not None and hpet.get("present") is not None:
        parts.append(f"hpet={'on' if hpet.get('present') == 'yes' else 'off'}")
    parts.append("acpi=on" if root.find("features/acpi") is not None else "acpi=off")
    return ",".join(parts)


# --- firmware ---------------------------------------------------------------------------------------------


def _pflash_nodes(root: etree._Element) -> list[tuple[str, str]]:
    loader = root.find("os/loader")
    if loader is None or loader.get("type") != "pflash":
        return []
    nodes = [("pflash0", "libvirt-pflash0-format")]
    if root.find("os/nvram") is not None:
        nodes.append(("pflash1", "libvirt-pflash1-format"))
    return nodes


def _firmware(root: etree._Element) -> list[str]:
    loader = root.find("os/loader")
    if loader is None or not loader.text or loader.get("type") != "pflash":
        return []
    argv = _pflash(0, loader.text, loader.get("format", "raw"), read_only=loader.get("readonly") != "no")
    nvram = root.find("os/nvram")
    if nvram is not None:
        if not nvram.text:
            raise ConfigUnsupported("<os/nvram> without a path is not supported")
        argv += _pflash(1, nvram.text, nvram.get("format", "raw"), read_only=False)
    return argv


def _loader(root: etree._Element) -> list[str]:
    """What a firmware takes besides flash: plain ROM, or flash that only SMM may write."""
    loader = root.find("os/loader")
    if loader is None:
        return []
    if loader.get("type") == "rom" and loader.text:
        return ["-bios", loader.text]
    if loader.get("secure") == "yes":
        return ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    return []


def _pflash(unit: int, path: str, format_: str, *, read_only: bool) -> list[str]:
    storage = {
        "driver": "file",
        "filename": path,
        "node-name": f"libvirt-pflash{unit}-storage",
        "auto-read-only": True,
        "discard": "unmap",
    }
    node = {
        "node-name": f"libvirt-pflash{unit}-format",
        "read-only": read_only,
        "driver": format_,
        "file": f"libvirt-pflash{unit}-storage",
    }
    return ["-blockdev", options.to_json(storage), "-blockdev", options.to_json(node)]


# --- CPU --------------------------------------------------------------------------------------------------

_HYPERV_NAMES = {
    "emsr_bitmap": "hv-emsr-bitmap",
    "xmm_input": "hv-xmm-input",
    "vendor_id": "hv-vendor-id",
}


def _cpu(root: etree._Element) -> str:
    cpu = root.find("cpu")
    mode = None if cpu is None else cpu.get("mode")
    if cpu is None or mode == "custom":
        parts = [(tree.text(root, "cpu/model") or "qemu64").strip()]
    else:
        parts = ["host" if mode == "host-passthrough" else "max"]
        migratable = cpu.get("migratable")
        if migratable is not None:
            parts.append(f"migratable={migratable}")
    for feature in root.iterfind("cpu/feature"):
        on = feature.get("policy", "require") in ("require", "force")
        parts.append(f"{feature.get('name')}={'on' if on else 'off'}")
    parts += _cpu_timers(root)
    eoi = tree.attribute(root, "features/apic", "eoi")
    if eoi is not None:
        parts.append(f"kvm-pv-eoi={eoi}")
    if _state(root, "pvspinlock") is not None:
        parts.append(f"kvm-pv-unhalt={_state(root, 'pvspinlock')}")
    parts += _hyperv(root)
    if tree.attribute(root, "features/kvm/hidden", "state") == "on":
        parts.append("kvm=off")
    if _state(root, "pmu") is not None:
        parts.append(f"pmu={_state(root, 'pmu')}")
    return ",".join(parts)


def _cpu_timers(root: etree._Element) -> list[str]:
    parts = []
    for timer in root.iterfind("clock/timer"):
        name, present = timer.get("name"), timer.get("present")
        state = "on" if present == "yes" else "off"
        if name == "kvmclock" and present is not None:
            parts.append(f"kvmclock={state}")
        elif name == "hypervclock" and present == "yes":
            parts.append("hv-time=on")
        elif name == "tsc" and timer.get("frequency") is not None:
            parts.append(f"tsc-frequency={timer.get('frequency')}")
    return parts


def _hyperv(root: etree._Element) -> list[str]:
    parts = []
    for feature in root.iterfind("features/hyperv/*"):
        if feature.get("state") != "on":
            continue
        tag = str(feature.tag)
        name = _HYPERV_NAMES.get(tag, f"hv-{tag}")
        if tag == "spinlocks":
            parts.append(f"{name}=0x{int(feature.get('retries', '4095')):x}")
        elif tag == "vendor_id":
            parts.append(f"{name}={options.escape(feature.get('value', ''))}")
        else:
            parts.append(f"{name}=on")
        if tag == "stimer" and tree.attribute(feature, "direct", "state") == "on":
            parts.append("hv-stimer-direct=on")
    return parts


def _smp(definition: DomainDefinition, launch: Launch) -> str:
    topology = definition.element.find("cpu/topology")
    maximum = definition.max_vcpus
    parts = [str(definition.vcpus)]
    if definition.vcpus != maximum:
        parts.append(f"maxcpus={maximum}")
    if topology is None:
        parts += [f"sockets={maximum}", "cores=1", "threads=1"]
    else:
        for name in ("sockets", "dies", "clusters", "cores", "threads"):
            count = topology.get(name, "1")
            # QEMU before 9.0 knows no clusters on a PC, not even one
            if name != "clusters" or launch.qemu_version >= (9, 0, 0) or count != "1":
                parts.append(f"{name}={count}")
    return ",".join(parts)


# --- SMBIOS -----------------------------------------------------------------------------------------------

_SMBIOS = {
    "bios": (0, {"vendor": "vendor", "version": "version", "date": "date", "release": "release"}),
    "system": (
        1,
        {
            "manufacturer": "manufacturer",
            "product": "product",
            "version": "version",
            "serial": "serial",
            "uuid": "uuid",
            "sku": "sku",
            "family": "family",
        },
    ),
    "baseBoard": (
        2,
        {
            "manufacturer": "manufacturer",
            "product": "product",
            "version": "version",
            "serial": "serial",
            "asset": "asset",
            "location": "location",
        },
    ),
    "chassis": (
        3,
        {
            "manufacturer": "manufacturer",
            "version": "version",
            "serial": "serial",
            "asset": "asset",
            "sku": "sku",
        },
    ),
}


def _smbios(root: etree._Element) -> list[str]:
    if tree.attribute(root, "os/smbios", "mode") != "sysinfo":
        return []
    argv: list[str] = []
    for part, (number, names) in _SMBIOS.items():
        for table in root.iterfind(f"sysinfo/{part}"):
            given = {entry.get("name", ""): entry.text or "" for entry in table.iterfind("entry")}
            for name in given:
                if name not in names:
                    raise ConfigUnsupported(f"entry '{name}' of <sysinfo/{part}> is not supported")
            words = [f"{option}={options.escape(given[n])}" for n, option in names.items() if n in given]
            argv += ["-smbios", ",".join([f"type={number}", *words])]
    return argv


# --- clock, power, boot -----------------------------------------------------------------------------------


def _rtc(root: etree._Element, launch: Launch) -> str:
    clock = root.find("clock")
    offset = "utc" if clock is None else clock.get("offset", "utc")
    if clock is None or offset in ("utc", "localtime"):
        base = offset
    else:
        seconds = launch.now
        if offset == "absolute":
            seconds = int(clock.get("start", "0"))
        elif offset == "timezone":
            seconds += launch.timezone_offset
        else:
            seconds += int(clock.get("adjustment", "0"))
            if clock.get("basis") == "localtime":
                seconds += launch.timezone_offset
        base = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    timer = root.find("clock/timer[@name='rtc']")
    if timer is None:
        return f"base={base}"
    clock_of = ",clock=vm" if timer.get("track") == "guest" else ""
    drift = ",driftfix=slew" if timer.get("tickpolicy") == "catchup" else ""
    return f"base={base}{clock_of}{drift}"


def _timers(root: etree._Element) -> list[str]:
    pit = root.find("clock/timer[@name='pit']")
    if pit is not None and pit.get("tickpolicy") == "delay":
        return ["-global", "kvm-pit.lost_tick_policy=delay"]
    return []


def _actions(definition: DomainDefinition) -> str:
    """What ends or stops the process. Nothing of ours need be running to watch over it.

    libvirt holds QEMU with -no-shutdown and decides in its daemon; the guest sees no difference.
    """
    reboot = "shutdown" if definition.on_reboot == "destroy" else "reset"
    panic = "pause" if definition.on_crash == "preserve" else "shutdown"
    return f"reboot={reboot},shutdown=poweroff,panic={panic}"


def _power_management(root: etree._Element) -> list[str]:
    q35 = any(c.get("model") == "pcie-root" for c in tree.controllers(root, "pci"))
    chip = "ICH9-LPC" if q35 else "PIIX4_PM"
    argv: list[str] = []
    for tag, name in (("suspend-to-mem", "disable_s3"), ("suspend-to-disk", "disable_s4")):
        enabled = tree.attribute(root, f"pm/{tag}", "enabled")
        if enabled is not None:
            argv += ["-global", f"{chip}.{name}={0 if enabled == 'yes' else 1}"]
    return argv


def _boot(root: etree._Element) -> str:
    parts = []
    menu = root.find("os/bootmenu")
    if menu is not None:
        parts.append(f"menu={'on' if menu.get('enable') == 'yes' else 'off'}")
        if menu.get("timeout") is not None and menu.get("enable") == "yes":
            parts.append(f"splash-time={menu.get('timeout')}")
    timeout = tree.attribute(root, "os/bios", "rebootTimeout")
    if timeout is not None:
        parts.append(f"reboot-timeout={timeout}")
    return ",".join([*parts, "strict=on"])
