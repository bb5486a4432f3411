"""What this engine can run, as a list of everything that is allowed.

`check_supported` walks a completed definition and refuses, by name, every element, attribute and value that
is not on the list: what would change the guest and is not known here must not slip through in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from lxml import etree

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine import tree
from virtsnap.model.errors import ConfigUnsupported
from virtsnap.model.frozen import dataclass

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
COMMANDLINE = f"{{{QEMU_NAMESPACE}}}commandline"
"""Arguments and variables that the user adds on their own account; passed on as they are."""


@dataclass(frozen=True)
class _Node:
    attributes: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    """Attribute -> values allowed, None for any."""
    children: Mapping[str, _Node] = field(default_factory=dict)
    opaque: bool = False
    """Allowed with whatever is in it."""


def _node(attributes: str = "", **children: _Node) -> _Node:
    """`attributes`: names, or name=value|value. Children's names have '_' for '-' where needed."""
    allowed: dict[str, frozenset[str] | None] = {}
    for word in attributes.split():
        name, _, values = word.partition("=")
        allowed[name] = frozenset(values.split("|")) if values else None
    return _Node(allowed, {name.replace("__", "-"): child for name, child in children.items()})


_ANY = _Node(opaque=True)
_TEXT = _node()
_STATE = _node("state")
_BASE = {
    "alias": _node("name"),
    "boot": _node("order"),
    "address": _node(
        "type=pci|drive|usb|virtio-serial domain controller bus slot target unit function multifunction port"
    ),
}


def _chain() -> _Node:
    """`backingStore` holds another one."""
    children: dict[str, _Node] = {
        "format": _node("type=raw|qcow2"),
        "source": _node("file dev index"),
    }
    node = _Node({"type": frozenset({"file", "block"}), "index": None}, children)
    children["backingStore"] = node
    return node


_LOG = _node("file append")
_CHARACTER = {
    "source": _node("path mode=bind|connect host service append", reconnect=_node("enabled timeout")),
    "protocol": _node("type=raw|telnet"),
    "log": _LOG,
    **_BASE,
}
_CHARACTER_TYPES = "type=pty|file|unix|tcp|null"

_DISK = _node(
    "type=file|block device=disk|cdrom|floppy snapshot",
    driver=_node(
        "name=qemu type=raw|qcow2 cache=default|none|writeback|writethrough|directsync|unsafe"
        " io=native|threads|io_uring discard=ignore|unmap detect_zeroes=off|on|unmap"
        " error_policy=stop|report|ignore|enospace rerror_policy=stop|report|ignore"
        " iothread queues queue_size"
    ),
    source=_node("file dev index"),
    backingStore=_chain(),
    target=_node("dev bus=virtio|ide|sata|scsi|usb|fdc rotation_rate"),
    blockio=_node("logical_block_size physical_block_size"),
    readonly=_TEXT,
    shareable=_TEXT,
    serial=_TEXT,
    wwn=_TEXT,
    vendor=_TEXT,
    product=_TEXT,
    **_BASE,
)

_CONTROLLER = _node(
    "type=pci|usb|ide|sata|scsi|virtio-serial|fdc index ports vectors"
    " model=pci-root|pcie-root|pcie-root-port|pci-bridge|pcie-to-pci-bridge|dmi-to-pci-bridge|none|piix3-uhci"
    "|piix4-uhci|ehci|ich9-ehci1|ich9-uhci1|ich9-uhci2|ich9-uhci3|nec-xhci|qemu-xhci|lsilogic|virtio-scsi"
    "|virtio",
    model=_node("name=pcie-root-port|pcie-pci-bridge|pci-bridge|i82801b11-bridge|ioh3420"),
    target=_node("chassis chassisNr port"),
    driver=_node("queues iothread"),
    master=_node("startport"),
    **_BASE,
)

_INTERFACE = _node(
    "type=user",
    mac=_node("address"),
    ip=_node("address family=ipv4|ipv6 prefix"),
    model=_node("type=virtio|virtio-net|e1000|e1000e|rtl8139|ne2k_pci|pcnet|igb|vmxnet3"),
    link=_node("state=up|down"),
    **_BASE,
)

_DEVICES = _node(
    "",
    emulator=_TEXT,
    disk=_DISK,
    controller=_CONTROLLER,
    interface=_INTERFACE,
    serial=_node(
        _CHARACTER_TYPES + " tty",
        target=_node(
            "type=isa-serial|pci-serial|usb-serial port",
            model=_node("name=isa-serial|pci-serial|usb-serial"),
        ),
        **_CHARACTER,
    ),
    parallel=_node(_CHARACTER_TYPES + " tty", target=_node("port"), **_CHARACTER),
    console=_node(_CHARACTER_TYPES + " tty", target=_node("type=serial|virtio port"), **_CHARACTER),
    channel=_node(_CHARACTER_TYPES, target=_node("type=virtio name state"), **_CHARACTER),
    input=_node("type=tablet|mouse|keyboard bus=usb|ps2|virtio", **_BASE),
    tpm=_node(
        "model=tpm-tis|tpm-crb",
        backend=_node(
            "type=emulator version=1.2|2.0 persistent_state=yes debug",
            active_pcr_banks=_node("", sha1=_TEXT, sha256=_TEXT, sha384=_TEXT, sha512=_TEXT),
        ),
        alias=_BASE["alias"],
    ),
    graphics=_node(
        "type=vnc port autoport listen keymap socket passwd passwdValidTo",
        listen=_node("type=address|socket address socket"),
    ),
    sound=_node("model=ich6|ich9|ac97|es1370", **_BASE),
    audio=_node("id type=none"),
    video=_node("", model=_node("type=vga|cirrus|virtio|vmvga|bochs|ramfb|none vram heads primary"), **_BASE),
    hub=_node("type=usb", **_BASE),
    watchdog=_node("model=i6300esb|ib700|itco action=reset|shutdown|poweroff|pause|none|inject-nmi", **_BASE),
    memballoon=_node("model=virtio|none autodeflate freePageReporting", stats=_node("period"), **_BASE),
    rng=_node("model=virtio", rate=_node("bytes period"), backend=_node("model=random|builtin"), **_BASE),
    panic=_node("model=isa", **_BASE),
)

_HYPERV = dict.fromkeys(
    (
        *("relaxed", "vapic", "vpindex", "runtime", "synic", "reset", "frequencies", "reenlightenment"),
        *("tlbflush", "ipi", "avic", "evmcs", "emsr_bitmap", "xmm_input"),
    ),
    _STATE,
)

_OS = _node(
    "firmware",
    type=_node("arch=x86_64 machine"),
    firmware=_ANY,
    loader=_node("readonly secure stateless=no type=pflash|rom format=raw|qcow2"),
    nvram=_node("template templateFormat format=raw|qcow2"),
    kernel=_TEXT,
    initrd=_TEXT,
    cmdline=_TEXT,
    dtb=_TEXT,
    boot=_node("dev=hd|cdrom|fd|network"),
    bootmenu=_node("enable timeout"),
    bios=_node("useserial=no rebootTimeout"),
    smbios=_node("mode=emulate|sysinfo"),
)

_DOMAIN = _node(
    "type id",
    name=_TEXT,
    uuid=_TEXT,
    genid=_TEXT,
    title=_TEXT,
    description=_TEXT,
    metadata=_ANY,
    memory=_node("unit dumpCore"),
    currentMemory=_node("unit"),
    memoryBacking=_node("", locked=_TEXT),
    vcpu=_node("placement=static current"),
    iothreads=_TEXT,
    iothreadids=_node("", iothread=_node("id")),
    resource=_node("", partition=_TEXT),
    sysinfo=_node(
        "type=smbios",
        **{part: _node("", entry=_node("name")) for part in ("bios", "system", "baseBoard", "chassis")},
    ),
    os=_OS,
    features=_node(
        "",
        acpi=_TEXT,
        apic=_node("eoi"),
        pae=_TEXT,
        hyperv=_node(
            "mode=custom",
            spinlocks=_node("state retries"),
            stimer=_node("state", direct=_STATE),
            vendor_id=_node("state value"),
            **_HYPERV,
        ),
        kvm=_node("", hidden=_STATE),
        pvspinlock=_STATE,
        pmu=_STATE,
        vmport=_STATE,
        smm=_STATE,
        ps2=_STATE,
    ),
    cpu=_node(
        "mode=custom|host-passthrough|maximum match=exact|strict check migratable",
        model=_node("fallback"),
        topology=_node("sockets dies clusters cores threads"),
        feature=_node("policy=force|require|disable|forbid name"),
    ),
    clock=_node(
        "offset=utc|localtime|variable|absolute|timezone adjustment basis start timezone",
        timer=_node(
            "name=rtc|pit|hpet|kvmclock|hypervclock|tsc present"
            " tickpolicy=catchup|delay track=guest frequency"
        ),
    ),
    on_poweroff=_TEXT,
    on_reboot=_TEXT,
    on_crash=_TEXT,
    pm=_node("", suspend__to__mem=_node("enabled"), suspend__to__disk=_node("enabled")),
    devices=_DEVICES,
    seclabel=_node("type=none|dynamic model relabel", label=_TEXT, imagelabel=_TEXT, baselabel=_TEXT),
)


def check_supported(definition: DomainDefinition) -> None:
    """Refuse what this engine cannot run. The definition must be completed.

    Raises ConfigUnsupported naming the first element, attribute or value that is not supported.
    """
    root = definition.element
    _walk(root, _DOMAIN, "")
    _check_lifecycle(root)
    _check_cpu(root)
    _check_devices(root)


def _refusal(what: str) -> ConfigUnsupported:
    return ConfigUnsupported(f"{what} is not supported")


def _walk(element: etree._Element, node: _Node, path: str) -> None:
    """`path` names the element from below the root; it is empty for the root."""
    if node.opaque:
        return
    shown = path or "domain"
    for key, content in element.attrib.items():
        name, value = str(key), str(content)
        allowed = node.attributes.get(name, frozenset())
        if allowed is None or value in allowed:
            continue
        if name not in node.attributes:
            raise _refusal(f"attribute '{name}' of <{shown}>")
        raise _refusal(f"{name}='{value}' of <{shown}>")
    for child in element:
        if not isinstance(child.tag, str) or (child.tag == COMMANDLINE and not path):
            continue
        inside = f"{path}/{child.tag}" if path else child.tag
        known = node.children.get(child.tag)
        if known is None:
            raise _refusal(f"element <{inside}>")
        _walk(child, known, inside)


def _check_lifecycle(root: etree._Element) -> None:
    if tree.text(root, "on_poweroff") == "restart":
        raise _refusal("on_poweroff 'restart'")
    panic = next(tree.children(root, "panic"), None) is not None
    on_crash = tree.text(root, "on_crash") or "destroy"
    if panic and on_crash not in ("destroy", "preserve"):
        raise _refusal(f"on_crash '{on_crash}' together with a panic device")
    if tree.text(root, "on_reboot") not in (None, "restart", "destroy"):
        raise _refusal(f"on_reboot '{tree.text(root, 'on_reboot')}'")


def _check_cpu(root: etree._Element) -> None:
    cpu = root.find("cpu")
    if cpu is None:
        return
    if cpu.get("mode") == "host-passthrough" and root.get("type") != "kvm":
        raise ConfigUnsupported(
            "CPU mode 'host-passthrough' for x86_64 qemu domain on x86_64 host is not supported by hypervisor"
        )
    for timer in root.iterfind("clock/timer"):
        _check_timer(timer)


def _check_timer(timer: etree._Element) -> None:
    name, policy = timer.get("name"), timer.get("tickpolicy")
    if policy is not None and (name, policy) not in (
        ("rtc", "catchup"),
        ("rtc", "delay"),
        ("pit", "delay"),
        ("hpet", "delay"),
    ):
        raise _refusal(f"tickpolicy='{policy}' of timer '{name}'")
    if timer.get("present") is not None and name not in ("hpet", "kvmclock", "hypervclock"):
        absent = timer.get("present") == "no"
        if absent:
            raise _refusal(f"present='no' of timer '{name}'")


def _check_devices(root: etree._Element) -> None:
    q35 = any(c.get("model") == "pcie-root" for c in tree.controllers(root, "pci"))
    for controller in tree.controllers(root, "ide"):
        if q35 or controller.get("index") != "0":
            raise _refusal("an IDE controller besides the one of a 'pc' machine")
    if len(list(tree.children(root, "graphics"))) > 1:
        raise _refusal("more than one <graphics>")
    for device in tree.children(root, "graphics"):
        if len(device.findall("listen")) > 1:
            raise _refusal("more than one <listen> of <graphics>")
    for disk in tree.children(root, "disk"):
        _check_disk(disk)


def _check_disk(disk: etree._Element) -> None:
    target = tree.attribute(disk, "target", "dev")
    bus = tree.attribute(disk, "target", "bus")
    if tree.attribute(disk, "driver", "queues") is not None and bus != "virtio":
        raise _refusal(f"attribute 'queues' of disk '{target}' on bus '{bus}'")
