"""TPMs: libvirt's words for what cannot be, and where a state is. What can be: tests/machine/corpus."""

from __future__ import annotations

import pytest

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.command_line import Launch, command_line
from virtsnap.machine.complete import complete
from virtsnap.machine.host import Host
from virtsnap.machine.tpm import tpm_state
from virtsnap.model.errors import ConfigUnsupported, InternalRefused, VirtsnapError, XmlError

UUID = "11111111-2222-3333-4444-555555555555"


def with_tpm(tpm: str) -> DomainDefinition:
    text = (
        f"<domain type='qemu'><name>x</name><uuid>{UUID}</uuid><memory>65536</memory>"
        f"<os><type machine='q35'>hvm</type></os><devices>{tpm}</devices></domain>"
    )
    return complete(DomainDefinition.parse(text), Host(emulator="/usr/bin/qemu-system-x86_64"))


def emulator(rest: str = "", inside: str = "", model: str = "tpm-crb") -> str:
    return f"<tpm model='{model}'><backend type='emulator' {rest}>{inside}</backend></tpm>"


@pytest.mark.parametrize(
    ("tpm", "error", "words"),
    [
        ("<tpm/>", XmlError, "missing TPM device backend"),
        ("<tpm><backend/></tpm>", XmlError, "Missing required attribute 'type' in element 'backend'"),
        (
            "<tpm><backend type='wrong'/></tpm>",
            XmlError,
            "Invalid value for attribute 'type' in element 'backend': 'wrong'.",
        ),
        (
            emulator(model="tpm-foo"),
            XmlError,
            "Invalid value for attribute 'model' in element 'tpm': 'tpm-foo'.",
        ),
        (
            emulator(model="tpm-spapr"),
            ConfigUnsupported,
            "The QEMU executable /usr/bin/qemu-system-x86_64 does not support TPM model tpm-spapr",
        ),
        (
            emulator("version='3.0'"),
            XmlError,
            "Invalid value for attribute 'version' in element 'backend': '3.0'.",
        ),
        (
            emulator("version='1.2'"),
            ConfigUnsupported,
            "TPM 1.2 is not supported for model 'tpm-crb'",
        ),
        (
            emulator("persistent_state='maybe'"),
            InternalRefused,
            "Invalid persistent_state value, either 'yes' or 'no'",
        ),
        (
            emulator("debug='x'"),
            XmlError,
            "Invalid value for attribute 'debug' in element 'backend': 'x'. "
            "Expected non-negative integer value",
        ),
        (
            emulator(inside="<active_pcr_banks><shafoo/></active_pcr_banks>"),
            ConfigUnsupported,
            "Unsupported PCR banks 'shafoo'",
        ),
        (
            emulator("version='1.2'", "<active_pcr_banks><sha256/></active_pcr_banks>"),
            XmlError,
            "<active_pcr_banks/> requires TPM version '2.0'",
        ),
        ("<tpm><backend type='external'/></tpm>", XmlError, "missing external TPM backend source type"),
        (emulator() * 2, ConfigUnsupported, "only a single TPM non-proxy device is supported"),
    ],
)
def test_what_cannot_be(tpm: str, error: type[VirtsnapError], words: str) -> None:
    with pytest.raises(error) as caught:
        with_tpm(tpm)
    assert str(caught.value).partition(": ")[2] == words


@pytest.mark.parametrize(
    "inside",
    [
        "<encryption secret='6dd3e4a5-1d76-44ce-961f-f119f5aad935'/>",
        "<profile name='x'/>",
        "<source type='dir' path='/x'/>",
    ],
)
def test_what_is_not_there_yet_is_refused_by_name(inside: str) -> None:
    name = inside[1:].partition(" ")[0]
    with pytest.raises(ConfigUnsupported, match=f"element <devices/tpm/backend/{name}> is not supported"):
        command_line(with_tpm(emulator(inside=inside)), Launch("/run/x"))


def test_its_control_channel_is_a_descriptor() -> None:
    argv = command_line(with_tpm(emulator()), Launch("/run/x", tpm_fd=7)).argv
    at = argv.index("socket,id=chrtpm,fd=7")
    assert argv[at + 1 : at + 3] == ("-tpmdev", "emulator,id=tpm-tpm0,chardev=chrtpm")


@pytest.mark.parametrize(
    ("tpm", "path"),
    [
        (emulator(), f"/r/swtpm/{UUID}/tpm2/tpm2-00.permall"),
        (emulator(model="tpm-tis"), f"/r/swtpm/{UUID}/tpm1.2/tpm-00.permall"),
        ("<tpm><backend type='passthrough'/></tpm>", None),
        ("", None),
    ],
)
def test_where_its_state_is(tpm: str, path: str | None) -> None:
    assert tpm_state("/r", with_tpm(tpm).to_xml()) == path
