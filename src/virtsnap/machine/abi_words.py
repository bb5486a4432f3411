"""Do two definitions show the guest the same machine? Asked when a snapshot's record replaces another.

The questions, their order and their words are libvirt's (virDomainDefCheckABIStability), about the devices
that this engine runs. Both definitions must be complete (`machine.complete`). Not here: the host's side of a
device, which may change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lxml import etree

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.errors import ConfigUnsupported


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
_FEATURES = ("acpi", "apic", "pae")

_DEVICES: tuple[tuple[str, str, tuple[_Question, ...]], ...] = (
    (
        "disk",
        "disk",
        (
            _Question("Target disk device" + _DOES_NOT_MATCH, "@device", "disk"),
            _Question("Target disk bus" + _DOES_NOT_MATCH, "target@bus"),
            _Question("Target disk" + _DOES_NOT_MATCH, "target@dev"),
            _Question("Target disk serial" + _DOES_NOT_MATCH, "serial@"),
            _Question("Target disk wwn '{}' does not match source '{}'", "wwn@"),
            _Question("Target disk access mode does not match source", "readonly"),
        ),
    ),
    (
        "controller",
        "controller",
        (
            _Question("Target controller type" + _DOES_NOT_MATCH, "@type"),
            _Question("Target controller index" + _DOES_NOT_MATCH, "@index"),
            _Question("Target controller model" + _DOES_NOT_MATCH, "@model"),
        ),
    ),
    (
        "interface",
        "net card",
        (
            _Question("Target network card mac" + _DOES_NOT_MATCH, "mac@address"),
            _Question("Target network card model" + _DOES_NOT_MATCH, "model@type"),
        ),
    ),
    (
        "input",
        "input device",
        (
            _Question("Target input device type" + _DOES_NOT_MATCH, "@type"),
            _Question("Target input device bus" + _DOES_NOT_MATCH, "@bus"),
        ),
    ),
    ("sound", "sound card", (_Question("Target sound card model" + _DOES_NOT_MATCH, "@model"),)),
    (
        "video",
        "video card",
        (
            _Question("Target video card model" + _DOES_NOT_MATCH, "model@type"),
            _Question("Target video card vram" + _DOES_NOT_MATCH, "model@vram"),
            _Question("Target video card heads" + _DOES_NOT_MATCH, "model@heads"),
        ),
    ),
    ("serial", "serial port", ()),
    ("parallel", "parallel port", ()),
    ("channel", "channel", ()),
    ("console", "console", ()),
    ("watchdog", "watchdog", (_Question("Target watchdog model" + _DOES_NOT_MATCH, "@model"),)),
    ("memballoon", "memory balloon", (_Question("Target balloon model" + _DOES_NOT_MATCH, "@model"),)),
    ("rng", "RNG device", (_Question("Target RNG model '{}' does not match source '{}'", "@model"),)),
)
"""Element, how it is called when counted, questions."""


def check_same_machine(old: DomainDefinition, new: DomainDefinition) -> None:
    """`new` must fit a guest of `old`. Raises ConfigUnsupported with the first difference."""
    _same("Target domain virt type {} does not match source {}", old, new, lambda one: one.type)
    _same("Target domain name '{}' does not match source '{}'", old, new, lambda one: one.name)
    _same("Target domain max memory {} does not match source {}", old, new, lambda one: one.memory_kib)
    _same(
        "Target domain current memory {} does not match source {}",
        old,
        new,
        lambda one: one.current_memory_kib,
    )
    _same("Target domain vCPU max {} does not match source {}", old, new, lambda one: one.max_vcpus)
    _same("Target domain vCPU count {} does not match source {}", old, new, lambda one: one.vcpus)
    _same("Target domain OS type {} does not match source {}", old, new, lambda one: one.os_type)
    _same("Target domain architecture {} does not match source {}", old, new, lambda one: one.arch)
    _same("Target domain machine type {} does not match source {}", old, new, lambda one: one.machine)
    for feature in _FEATURES:
        before, now = (_state(one.element, feature) for one in (old, new))
        if before != now:
            raise ConfigUnsupported(
                f"State of feature '{feature}' differs: source: '{before}', destination: '{now}'"
            )
    _Question("Target CPU model" + _DOES_NOT_MATCH, "cpu/model@").ask(old.element, new.element)
    for tag, called, questions in _DEVICES:
        _check_devices(old.element, new.element, tag, called, questions)


def _check_devices(
    old: etree._Element, new: etree._Element, tag: str, called: str, questions: tuple[_Question, ...]
) -> None:
    before, now = old.findall(f"devices/{tag}"), new.findall(f"devices/{tag}")
    if len(before) != len(now):
        raise ConfigUnsupported(
            f"Target domain {called} count {len(now)} does not match source {len(before)}"
        )
    for one, other in zip(before, now, strict=True):
        for question in questions:
            question.ask(one, other)
        _check_address(one, other)


def _check_address(old: etree._Element, new: etree._Element) -> None:
    before, now = old.find("address"), new.find("address")
    _Question("Target device address type" + _DOES_NOT_MATCH, "address@type", "none").ask(old, new)
    if before is None or now is None or sorted(before.attrib.items()) == sorted(now.attrib.items()):
        return
    if now.get("type") == "pci":
        raise ConfigUnsupported(f"Target device PCI address {_pci(now)} does not match source {_pci(before)}")
    # libvirt has a text for every kind of address; they differ in what they call it.
    raise ConfigUnsupported(
        f"Target device {now.get('type')} address {_plain(now)} does not match source {_plain(before)}"
    )


def _same(
    text: str, old: DomainDefinition, new: DomainDefinition, value: Callable[[DomainDefinition], object]
) -> None:
    if value(new) != value(old):
        raise ConfigUnsupported(text.format(value(new), value(old)))


def _state(root: etree._Element, feature: str) -> str:
    element = root.find(f"features/{feature}")
    return "default" if element is None else element.get("state", "on")


def _value(element: etree._Element, path: str, default: str) -> str:
    child, at, attribute = path.partition("@")
    found = element if not child else element.find(child)
    if not at:
        return "yes" if found is not None else "no"
    if found is None:
        return default
    return found.get(attribute, default) if attribute else (found.text or "").strip()


def _pci(address: etree._Element) -> str:
    parts = (int(address.get(key, "0"), 16) for key in ("domain", "bus", "slot", "function"))
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)


def _plain(address: etree._Element) -> str:
    return ":".join(str(value) for key, value in address.attrib.items() if key != "type")
