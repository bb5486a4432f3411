"""UEFI: which firmware image and which variable store a definition gets.

QEMU's firmware descriptors (docs/interop/firmware.json) say what is installed; `from_json` reads one, the
`qemu` package finds them. `choose` follows libvirt: an explicit loader is looked up, `firmware='efi'` takes
the first descriptor that fits, and either way the definition then names the files, so that it never changes.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

from lxml import etree

from virtsnap.machine import tree
from virtsnap.model.errors import ConfigUnsupported, OperationFailed
from virtsnap.model.frozen import dataclass

_SHOWN = ("enrolled-keys", "secure-boot")
"""Features that libvirt writes into the definition."""


@dataclass(frozen=True)
class Firmware:
    """One UEFI image in flash, with the template of its variable store."""

    executable: str
    executable_format: str
    template: str
    template_format: str
    machines: tuple[str, ...]
    """Patterns of machine types."""
    features: frozenset[str]

    @property
    def needs_smm(self) -> bool:
        """Only runs where system management mode is on, which is also what makes it secure."""
        return "requires-smm" in self.features


def from_json(text: str, arch: str = "x86_64") -> Firmware | None:
    """A firmware from its descriptor; None for one that is no UEFI image in flash for `arch`.

    Raises ValueError when the text is not a descriptor.
    """
    described = json.loads(text)
    try:
        mapping = described["mapping"]
        machines = tuple(
            pattern
            for target in described["targets"]
            if target["architecture"] == arch
            for pattern in target["machines"]
        )
        split = mapping.get("mode", "split") == "split" and "nvram-template" in mapping
        if "uefi" not in described["interface-types"] or mapping["device"] != "flash" or not split:
            return None
        return Firmware(
            executable=mapping["executable"]["filename"],
            executable_format=mapping["executable"]["format"],
            template=mapping["nvram-template"]["filename"],
            template_format=mapping["nvram-template"]["format"],
            machines=machines,
            features=frozenset(described["features"]),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a firmware descriptor: {error!r} is missing or odd") from error


def choose(root: etree._Element, firmwares: tuple[Firmware, ...], nvram_dir: str) -> None:
    """Fill in loader, variable store and what they imply, in place.

    Raises OperationFailed when no firmware fits, ConfigUnsupported when the rest does not go with UEFI.
    """
    os_ = root.find("os")
    if os_ is None:
        return
    kind = os_.get("firmware")
    loader = os_.find("loader")
    path = None if loader is None else loader.text
    if path and loader is not None:
        _default_loader(loader)
        if loader.get("type") == "pflash":
            found = next((f for f in firmwares if f.executable == path and _fits_machine(root, f)), None)
            _fill(root, os_, found, nvram_dir)
    elif kind == "efi":
        found = next((f for f in firmwares if _fits(root, os_, f)), None)
        if found is None:
            raise OperationFailed(
                "Unable to find 'efi' firmware that is compatible with the current configuration"
            )
        _fill(root, os_, found, nvram_dir)
    elif kind is not None:
        raise OperationFailed(
            f"Unable to find '{kind}' firmware that is compatible with the current configuration"
        )
    if os_.get("firmware") == "efi" and root.find("features/acpi") is None:
        raise ConfigUnsupported("UEFI requires ACPI on this architecture")


def _default_loader(loader: etree._Element) -> None:
    if loader.get("type") is None:
        loader.set("type", "rom")
        tree.default(loader, "format", "raw")


def _fits_machine(root: etree._Element, firmware: Firmware) -> bool:
    machine = tree.attribute(root, "os/type", "machine") or ""
    return any(fnmatchcase(machine, pattern) for pattern in firmware.machines)


def _fits(root: etree._Element, os_: etree._Element, firmware: Firmware) -> bool:
    if not _fits_machine(root, firmware):
        return False
    for feature in os_.iterfind("firmware/feature"):
        if (feature.get("enabled") == "yes") != (feature.get("name") in firmware.features):
            return False
    secure = tree.attribute(os_, "loader", "secure")
    if secure is not None and (secure == "yes") != firmware.needs_smm:
        return False
    if tree.attribute(os_, "loader", "stateless") == "yes":
        return False
    if firmware.needs_smm and tree.attribute(root, "features/smm", "state") == "off":
        return False
    template = tree.attribute(os_, "nvram", "template")
    return template is None or template == firmware.template


def _fill(root: etree._Element, os_: etree._Element, firmware: Firmware | None, nvram_dir: str) -> None:
    loader, nvram = tree.ensure(os_, "loader"), tree.ensure(os_, "nvram")
    if firmware is not None:
        os_.set("firmware", "efi")
        _show_features(os_, firmware)
        tree.default(loader, "readonly", "yes")
        tree.default(loader, "type", "pflash")
        tree.default(loader, "format", firmware.executable_format)
        loader.text = firmware.executable
        tree.default(nvram, "template", firmware.template)
        if nvram.get("template") == firmware.template:
            tree.default(nvram, "templateFormat", firmware.template_format)
        tree.default(nvram, "format", firmware.template_format)
        if firmware.needs_smm:
            tree.default(loader, "secure", "yes")
            features = tree.ensure(root, "features")
            tree.default(tree.ensure(features, "smm"), "state", "on")
    tree.default(loader, "format", "raw")
    tree.default(nvram, "format", "raw")
    if not nvram.text:
        suffix = ".qcow2" if nvram.get("format") == "qcow2" else ".fd"
        nvram.text = f"{nvram_dir}/{tree.text(root, 'name')}_VARS{suffix}"


def _show_features(os_: etree._Element, firmware: Firmware) -> None:
    shown = tree.ensure(os_, "firmware")
    for stale in shown.findall("feature"):
        shown.remove(stale)
    for name in _SHOWN:
        enabled = "yes" if name in firmware.features else "no"
        etree.SubElement(shown, "feature", enabled=enabled, name=name)
