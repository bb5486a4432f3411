"""The two documents that tell clients what can be defined here: <capabilities> and <domainCapabilities>.

They name what `machine.support` accepts, no more: a tool that offers its user less than libvirt would is
better than a definition that is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import quoteattr

from virtsnap.formats.xml_text import parse, render
from virtsnap.model.host import Emulator, NodeInfo

_MAX_CPUS = 255
_DISK_BUSES = ("fdc", "scsi", "virtio", "usb", "sata")
_VIDEO = ("vga", "cirrus", "vmvga", "virtio", "none", "bochs", "ramfb")


def capabilities(uuid: str, node: NodeInfo, emulator: Emulator) -> str:
    """What the host is, and the machines that its emulator has."""
    text = (
        f"<capabilities><host><uuid>{uuid}</uuid><cpu><arch>x86_64</arch>"
        f"<topology sockets='{node.sockets}' dies='1' clusters='1' cores='{node.cores}'"
        f" threads='{node.threads}'/></cpu><power_management/><iommu support='no'/>"
        f"<topology><cells num='1'><cell id='0'><memory unit='KiB'>{node.memory_kib}</memory>"
        f"<cpus num='{node.cpus}'>{_cpus(node)}</cpus></cell></cells></topology>"
        "<secmodel><model>none</model><doi>0</doi></secmodel></host>"
        "<guest><os_type>hvm</os_type><arch name='x86_64'><wordsize>64</wordsize>"
        f"<emulator>{_text(emulator.path)}</emulator>{_machines(emulator)}"
        f"<domain type='qemu'/>{_kvm(emulator)}</arch>"
        "<features><acpi default='on' toggle='yes'/><apic default='on' toggle='no'/><cpuselection/>"
        "<deviceboot/><disksnapshot default='on' toggle='no'/><externalSnapshot/></features></guest>"
        "</capabilities>"
    )
    return render(parse(text, "capabilities"))


def domain_capabilities(emulator: Emulator, machine: str, virttype: str) -> str:
    """What a domain of that machine (its full name) may have."""
    q35 = "q35" in machine
    buses = _DISK_BUSES if q35 else ("ide", *_DISK_BUSES)
    loaders = "".join(f"<value>{_text(path)}</value>" for path in emulator.firmwares)
    text = (
        f"<domainCapabilities><path>{_text(emulator.path)}</path><domain>{virttype}</domain>"
        f"<machine>{_text(machine)}</machine><arch>x86_64</arch>"
        f"<vcpu max='{emulator.max_cpus.get(machine, _MAX_CPUS)}'/><iothreads supported='yes'/>"
        f"<os supported='yes'>{_enum('firmware', ['efi'] if emulator.firmwares else [])}"
        f"<loader supported='yes'>{loaders}{_enum('type', ['rom', 'pflash'])}"
        f"{_enum('readonly', ['yes', 'no'])}{_enum('secure', _secure(emulator))}</loader></os>"
        f"<cpu>{_mode('host-passthrough', virttype == 'kvm')}{_mode('maximum', True)}"
        f"{_mode('host-model', False)}<mode name='custom' supported='yes'>"
        "<model usable='yes' vendor='unknown'>qemu64</model></mode></cpu>"
        "<memoryBacking supported='yes'><enum name='sourceType'><value>anonymous</value></enum>"
        "</memoryBacking><devices><disk supported='yes'>"
        f"{_enum('diskDevice', ['disk', 'cdrom', 'floppy'])}{_enum('bus', buses)}"
        f"{_enum('model', ['virtio'])}</disk>"
        f"<graphics supported='yes'>{_enum('type', ['vnc'])}</graphics>"
        f"<video supported='yes'>{_enum('modelType', _VIDEO)}</video><hostdev supported='no'/>"
        f"<rng supported='yes'>{_enum('model', ['virtio'])}"
        f"{_enum('backendModel', ['random', 'builtin'])}</rng><filesystem supported='no'/>"
        f"{_tpm(emulator)}<redirdev supported='no'/>"
        f"<channel supported='yes'>{_enum('type', ['pty', 'unix'])}</channel><crypto supported='no'/>"
        f"<interface supported='yes'>{_enum('backendType', ['default'])}</interface>"
        f"<panic supported='yes'>{_enum('model', ['isa'])}</panic></devices>"
        "<features><gic supported='no'/><vmcoreinfo supported='no'/><genid supported='yes'/>"
        "<backingStoreInput supported='no'/><backup supported='no'/><async-teardown supported='no'/>"
        "<ps2 supported='yes'/><sev supported='no'/><sgx supported='no'/>"
        "<launchSecurity supported='no'/></features></domainCapabilities>"
    )
    return render(parse(text, "domainCapabilities"))


def _tpm(emulator: Emulator) -> str:
    if not emulator.tpm_versions:
        return "<tpm supported='no'/>"
    return (
        f"<tpm supported='yes'>{_enum('model', ['tpm-tis', 'tpm-crb'])}{_enum('backendModel', ['emulator'])}"
        f"{_enum('backendVersion', emulator.tpm_versions)}</tpm>"
    )


def _cpus(node: NodeInfo) -> str:
    found = []
    for number in range(node.cpus):
        core = number // node.threads
        first = core * node.threads
        siblings = f"{first}-{first + node.threads - 1}" if node.threads > 1 else str(first)
        place = f"socket_id='{core // node.cores}' die_id='0' core_id='{core % node.cores}'"
        found.append(f"<cpu id='{number}' {place} siblings='{siblings}'/>")
    return "".join(found)


def _machines(emulator: Emulator) -> str:
    """The newest first, each followed by its alias: tools take the first one of a kind."""
    aliases = {full: alias for alias, full in emulator.aliases.items()}
    found = []
    for name in sorted(emulator.machines, key=_age, reverse=True):
        most = emulator.max_cpus.get(name, _MAX_CPUS)
        found.append(f"<machine maxCpus='{most}'>{_text(name)}</machine>")
        if name in aliases:
            full = quoteattr(name)
            found.append(f"<machine canonical={full} maxCpus='{most}'>{_text(aliases[name])}</machine>")
    return "".join(found)


def _age(machine: str) -> tuple[bool, list[int], str]:
    number = machine.rpartition("-")[2]
    # 'pc' before 'q35' of one version, as libvirt's default is.
    versions = [int(part) for part in number.split(".") if part.isdigit()]
    return "i440fx" in machine and bool(versions), versions, machine


def _kvm(emulator: Emulator) -> str:
    return "<domain type='kvm'/>" if emulator.kvm else ""


def _secure(emulator: Emulator) -> list[str]:
    return ["yes", "no"] if emulator.secure else ["no"]


def _mode(name: str, supported: bool) -> str:
    return f"<mode name='{name}' supported='{'yes' if supported else 'no'}'/>"


def _enum(name: str, values: Iterable[str]) -> str:
    return f"<enum name='{name}'>{''.join(f'<value>{value}</value>' for value in values)}</enum>"


def _text(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;")
