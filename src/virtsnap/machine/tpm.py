"""The TPM of a definition: what libvirt makes of it, what QEMU is told, and where its state is kept.

A TPM is a program of its own (swtpm), one for each QEMU; `qemu.swtpm` runs it. All that it remembers while
it is off is one file.
"""

from __future__ import annotations

from lxml import etree

from virtsnap.formats.domain_xml import DomainDefinition, TpmEmulator
from virtsnap.machine import options, tree
from virtsnap.machine.aliases import alias_of
from virtsnap.machine.launch import Launch
from virtsnap.model.errors import ConfigUnsupported, InternalRefused, XmlError

_MODELS = ("tpm-tis", "tpm-crb", "tpm-spapr", "spapr-tpm-proxy")
_NOT_OF_A_PC = ("tpm-spapr", "spapr-tpm-proxy")
_BACKENDS = ("passthrough", "emulator", "external")
_VERSIONS = ("1.2", "2.0")
BANKS = ("sha1", "sha256", "sha384", "sha512")
_OF_AN_EMULATOR = ("version", "persistent_state", "debug")
_FILES = {"1.2": ("tpm1.2", "tpm-00.permall"), "2.0": ("tpm2", "tpm2-00.permall")}
"""libvirt's folder and swtpm's file in it."""


def domain_folder(root: str, uuid: str) -> str:
    """All that is kept of a domain's TPM, its snapshots' copies too. `root`: of all that is ours."""
    return f"{_states(root)}/{uuid}"


def state_folder(root: str, uuid: str, tpm: TpmEmulator) -> str:
    """Where a domain's TPM keeps its state."""
    return f"{domain_folder(root, uuid)}/{_FILES[tpm.version][0]}"


def _states(root: str) -> str:
    return f"{root}/swtpm"


def state_name(tpm: TpmEmulator) -> str:
    """The one file in that folder that outlives the program."""
    return _FILES[tpm.version][1]


def tpm_state(root: str, domain_xml: str) -> str | None:
    """The file with the state of the TPM of a definition; None where it has none of ours."""
    return state_in(_states(root), domain_xml)


def state_in(states: str, domain_xml: str) -> str | None:
    """The same in a folder of all states, such as libvirt's, which looks like ours."""
    definition = DomainDefinition.parse(domain_xml)
    tpm = definition.tpm
    if tpm is None or definition.uuid is None:
        return None
    return f"{states}/{definition.uuid}/{_FILES[tpm.version][0]}/{state_name(tpm)}"


def defaults(root: etree._Element) -> None:
    """Model, version and backend as libvirt reads them. Raises XmlError and its kin in its words."""
    for tpm in tree.children(root, "tpm"):
        model = tpm.get("model")
        if model is not None and model not in _MODELS:
            raise _invalid("model", "tpm", model)
        backend = tpm.find("backend")
        if backend is None:
            raise XmlError("missing TPM device backend")
        kind = backend.get("type")
        if kind is None:
            raise XmlError("Missing required attribute 'type' in element 'backend'")
        if kind not in _BACKENDS:
            raise _invalid("type", "backend", kind)
        tree.default(tpm, "model", "tpm-tis")
        if kind == "emulator":
            _emulator(tpm.get("model", ""), backend)
            continue
        for name in _OF_AN_EMULATOR:
            if name in backend.attrib:
                del backend.attrib[name]
        if kind == "passthrough":
            tree.default(tree.ensure(backend, "device"), "path", "/dev/tpm0")
        elif tree.attribute(backend, "source", "type") is None:
            raise XmlError("missing external TPM backend source type")


def _emulator(model: str, backend: etree._Element) -> None:
    version = backend.get("version")
    if version is not None and version not in _VERSIONS:
        raise _invalid("version", "backend", version)
    tree.default(backend, "version", "2.0" if model == "tpm-crb" else "1.2")
    persistent = backend.get("persistent_state")
    if persistent not in (None, "yes", "no"):
        raise InternalRefused("Invalid persistent_state value, either 'yes' or 'no'")
    if persistent == "no":
        del backend.attrib["persistent_state"]
    debug = backend.get("debug")
    if debug is not None and not (debug.isascii() and debug.isdigit()):
        raise XmlError(
            f"Invalid value for attribute 'debug' in element 'backend': '{debug}'. "
            "Expected non-negative integer value"
        )
    banks = backend.find("active_pcr_banks")
    if banks is None:
        return
    for bank in banks:
        if bank.tag not in BANKS:
            raise ConfigUnsupported(f"Unsupported PCR banks '{bank.tag}'")
    if not len(banks):
        backend.remove(banks)
    elif backend.get("version") != "2.0":
        raise XmlError("<active_pcr_banks/> requires TPM version '2.0'")


def _invalid(attribute: str, element: str, value: str) -> XmlError:
    return XmlError(f"Invalid value for attribute '{attribute}' in element '{element}': '{value}'.")


def validate(root: etree._Element) -> None:
    """Refuse what no QEMU for a PC has. Raises ConfigUnsupported."""
    tpms = list(tree.children(root, "tpm"))
    if len(tpms) > 1:
        raise ConfigUnsupported("only a single TPM non-proxy device is supported")
    for tpm in tpms:
        model = tpm.get("model")
        if model in _NOT_OF_A_PC:
            emulator = tree.text(root, "devices/emulator")
            raise ConfigUnsupported(f"The QEMU executable {emulator} does not support TPM model {model}")
        if model == "tpm-crb" and tree.attribute(tpm, "backend", "version") == "1.2":
            raise ConfigUnsupported("TPM 1.2 is not supported for model 'tpm-crb'")


def tpm_args(root: etree._Element, launch: Launch) -> list[str]:
    """The device, its backend, and the way to the program."""
    argv: list[str] = []
    for tpm in tree.children(root, "tpm"):
        alias = alias_of(tpm)
        # libvirt: where nothing is started, as `domxml-to-native` does not, there is nobody to talk to.
        way = "null,id=chrtpm" if launch.tpm_fd is None else f"socket,id=chrtpm,fd={launch.tpm_fd}"
        argv += ["-chardev", way, "-tpmdev", f"emulator,id=tpm-{alias},chardev=chrtpm"]
        argv += options.device({"driver": tpm.get("model"), "tpmdev": f"tpm-{alias}", "id": alias})
    return argv
