"""Libvirt's own questions on two definitions: do they show the guest the same machine?

Their order and their words are those of virDomainDefCheckABIStability, 11.3. Both definitions must be
complete (`machine.complete`). Not here: the host's side of a device, which may change, and what libvirt has
no words for (`machine.abi`).
"""

from __future__ import annotations

from collections.abc import Callable

from lxml import etree

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.errors import ConfigUnsupported
from virtsnap.model.frozen import dataclass


@dataclass(frozen=True)
class _Question:
    """`path`: a child and, behind '@', its attribute (none: its text); without '@': is there such a child?

    `text` has two places: what the new definition says, and the old one.
    """

    text: str
    path: str
    default: str = ""

    def ask(self, old: etree._Element, new: etree._Element) -> None:
        now, before = (_value(element, self.path, self.default) for element in (new, old))
        if now != before:
            raise ConfigUnsupported(self.text.format(now, before))


_DOES_NOT_MATCH = " {} does not match source {}"
_NOTHING = "<null>"
"""C's printf for a string that is not there."""

_QUESTIONS: dict[str, tuple[_Question, ...]] = {
    "disk": (
        _Question("Target disk device" + _DOES_NOT_MATCH, "@device", "disk"),
        _Question("Target disk bus" + _DOES_NOT_MATCH, "target@bus"),
        _Question("Target disk" + _DOES_NOT_MATCH, "target@dev"),
        _Question("Target disk serial" + _DOES_NOT_MATCH, "serial@", _NOTHING),
        _Question("Target disk wwn '{}' does not match source '{}'", "wwn@", _NOTHING),
        _Question("Target disk access mode does not match source", "readonly"),
    ),
    "controller": (
        _Question("Target controller type" + _DOES_NOT_MATCH, "@type"),
        _Question("Target controller index" + _DOES_NOT_MATCH, "@index"),
        _Question("Target controller model" + _DOES_NOT_MATCH, "@model"),
    ),
    "interface": (
        _Question("Target network card mac" + _DOES_NOT_MATCH, "mac@address"),
        _Question("Target network card model" + _DOES_NOT_MATCH, "model@type"),
    ),
    "input": (
        _Question("Target input device type" + _DOES_NOT_MATCH, "@type"),
        _Question("Target input device bus" + _DOES_NOT_MATCH, "@bus"),
    ),
    "sound": (_Question("Target sound card model" + _DOES_NOT_MATCH, "@model"),),
    "video": (
        _Question("Target video card model" + _DOES_NOT_MATCH, "model@type"),
        _Question("Target video card vram" + _DOES_NOT_MATCH, "model@vram"),
        _Question("Target video card heads" + _DOES_NOT_MATCH, "model@heads"),
    ),
    "watchdog": (_Question("Target watchdog model" + _DOES_NOT_MATCH, "@model"),),
    "memballoon": (_Question("Target balloon model" + _DOES_NOT_MATCH, "@model"),),
    "rng": (_Question("Target RNG model '{}' does not match source '{}'", "@model"),),
}

_COUNTED = (
    ("disk", "disk"),
    ("controller", "controller"),
    ("filesystem", "filesystem"),
    ("interface", "net card"),
    ("input", "input device"),
    ("sound", "sound card"),
    ("video", "video card"),
    ("hostdev", "host device"),
    ("smartcard", "smartcard"),
    ("serial", "serial port"),
    ("parallel", "parallel port"),
    ("channel", "channel"),
    ("console", "console"),
    ("hub", "hub device"),
    ("redirdev", "redirected devices"),
    ("watchdog", "watchdog device"),
    ("memballoon", "memory balloon"),
    ("rng", "RNG device"),
    ("tpm", "TPM device"),
    ("panic", "panic device"),
    ("shmem", "shared memory device"),
    ("memory", "memory device"),
)
"""Element and libvirt's word for it, in its order."""


def check_words(source: DomainDefinition, target: DomainDefinition) -> None:
    """Return when a guest of `source` finds itself at home in `target`.

    Raises ConfigUnsupported with the first difference.
    """
    _same("virt type {} does not match source {}", source, target, lambda one: one.type)
    _same("uuid {} does not match source {}", source, target, lambda one: one.uuid)
    _same("name '{}' does not match source '{}'", source, target, lambda one: one.name)
    _same("max memory {} does not match source {}", source, target, lambda one: one.memory_kib)
    _same("current memory {} does not match source {}", source, target, lambda one: one.current_memory_kib)
    _same("vCPU max {} does not match source {}", source, target, lambda one: one.max_vcpus)
    _same("vCPU count {} does not match source {}", source, target, lambda one: one.vcpus)
    _same("OS type {} does not match source {}", source, target, lambda one: one.os_type)
    _same("architecture {} does not match source {}", source, target, lambda one: one.arch)
    _same("machine type {} does not match source {}", source, target, lambda one: one.machine)
    for feature in ("acpi", "pae", "apic"):
        before, now = (_feature(one.element, feature) for one in (source, target))
        if before != now:
            raise ConfigUnsupported(
                f"State of feature '{feature}' differs: source: '{before}', destination: '{now}'"
            )
    _Question("Target CPU model" + _DOES_NOT_MATCH, "cpu/model@", _NOTHING).ask(
        source.element, target.element
    )
    for tag, called in _COUNTED:
        _check_devices(source.element, target.element, tag, called)


def _same(
    text: str, source: DomainDefinition, target: DomainDefinition, value: Callable[[DomainDefinition], object]
) -> None:
    if value(target) != value(source):
        raise ConfigUnsupported("Target domain " + text.format(value(target), value(source)))


def _feature(root: etree._Element, name: str) -> str:
    element = root.find(f"features/{name}")
    state = "default" if element is None else "on"
    if name != "apic":
        return state
    eoi = "default" if element is None else element.get("eoi", "default")
    return f"{state},eoi={eoi}"


def _check_devices(source: etree._Element, target: etree._Element, tag: str, called: str) -> None:
    before, now = source.findall(f"devices/{tag}"), target.findall(f"devices/{tag}")
    if len(before) != len(now):
        raise ConfigUnsupported(
            f"Target domain {called} count {len(now)} does not match source {len(before)}"
        )
    for one, other in zip(before, now, strict=True):
        for question in _QUESTIONS.get(tag, ()):
            question.ask(one, other)
        _check_address(one, other)


def _check_address(source: etree._Element, target: etree._Element) -> None:
    before, now = source.find("address"), target.find("address")
    if before is None or now is None:
        return
    _Question("Target device address type" + _DOES_NOT_MATCH, "@type").ask(before, now)
    if now.get("type") == "pci" and _pci(before) != _pci(now):
        raise ConfigUnsupported(f"Target device PCI address {_pci(now)} does not match source {_pci(before)}")


def _value(element: etree._Element, path: str, default: str) -> str:
    child, at, attribute = path.partition("@")
    found = element if not child else element.find(child)
    if not at:
        return "yes" if found is not None else "no"
    if found is None:
        return default
    return found.get(attribute, default) if attribute else (found.text or "").strip()


def _pci(address: etree._Element) -> str:
    domain, bus, slot, function = (
        int(address.get(name, "0"), 0) for name in ("domain", "bus", "slot", "function")
    )
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"
