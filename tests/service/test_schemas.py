"""--validate with the schemas of libvirt's packages: in real virsh's words where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from virtsnap.model.errors import InternalRefused, NoSupport, VirtsnapError, XmlInvalidSchema
from virtsnap.service import schemas

installed = pytest.mark.skipif(
    not any((folder / "domain.rng").exists() for folder in schemas.FOLDERS),
    reason="libvirt's schemas are not installed",
)

DOMAIN = (
    "<domain type='test'><name>x</name><memory>1024</memory><os><type>hvm</type></os>"
    "<devices>{0}</devices>{1}</domain>"
)
DISK = "<disk type='file' device='disk'><source file='/x'/><target dev='vda'{0}/></disk>"
SNAPSHOT = "<domainsnapshot><name>s</name>{0}</domainsnapshot>"

WRONG = [
    ("domain", DOMAIN.format("", "<bogus/>")),
    ("domain", DOMAIN.format(DISK.format(" bus='none'"), "")),
    ("domain", DOMAIN.format("<disk/>", "")),
    ("domain", DOMAIN.format("", "<uuid>nothing</uuid>")),
    ("domain", "<domain/>"),
    ("domain", "<domain"),
    ("domain", "<domainsnapshot/>"),
    ("domainsnapshot", SNAPSHOT.format("<bogus/>")),
    ("domainsnapshot", SNAPSHOT.format("<disks><disk/></disks>")),
    ("domainsnapshot", SNAPSHOT.format("<disks><disk name='vda' snapshot='maybe'/></disks>")),
    ("domainsnapshot", SNAPSHOT.format("<memory file='relative'/>")),
    ("domainsnapshot", SNAPSHOT.format("<state>happy</state>") + "<!-- -->"),
]
RIGHT = [
    ("domain", DOMAIN.format(DISK.format(""), "")),
    ("domainsnapshot", "<domainsnapshot/>"),
    ("domainsnapshot", SNAPSHOT.format("<disks><disk name='vda' snapshot='external'/></disks>")),
    ("domainsnapshot", SNAPSHOT.format("<memory snapshot='external' file='/a/b'/>")),
]


def said(text: str, root: str) -> str:
    try:
        schemas.validate(text, root)
    except VirtsnapError as error:
        return str(error)
    return ""


@installed
@pytest.mark.parametrize(("root", "text"), RIGHT)
def test_what_matches(root: str, text: str) -> None:
    assert said(text, root) == ""


@installed
@pytest.mark.parametrize(("root", "text"), WRONG)
def test_what_does_not_match(root: str, text: str) -> None:
    assert said(text, root) != ""


@installed
@pytest.mark.parity
@pytest.mark.skipif(shutil.which("virsh") is None, reason="virsh is not installed")
@pytest.mark.parametrize(("root", "text"), WRONG)
def test_the_words_are_those_of_virsh(root: str, text: str, tmp_path: Path) -> None:
    document = tmp_path / "document.xml"
    document.write_text(text)
    words = ["define", str(document)] if root == "domain" else ["snapshot-create", "test", str(document)]
    result = subprocess.run(
        ["virsh", "-c", "test:///default", *words, "--validate"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    first = f"error: Failed to define domain from {document}\n" if root == "domain" else ""
    assert result.stderr == f"{first}error: {said(text, root)}\n"


def test_where_no_schema_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(schemas, "FOLDERS", (tmp_path,))
    with pytest.raises(NoSupport, match=rf"{tmp_path}/domain\.rng, which is not installed.*libvirt-common"):
        schemas.validate("<domain/>", "domain")


def test_a_schema_that_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(schemas, "FOLDERS", (tmp_path,))
    (tmp_path / "domain.rng").write_text("<grammar>")
    with pytest.raises(InternalRefused, match=rf"Unable to parse RNG {tmp_path}/domain\.rng"):
        schemas.validate("<domain/>", "domain")


def test_the_first_folder_that_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(schemas, "FOLDERS", (tmp_path / "none", tmp_path))
    (tmp_path / "domain.rng").write_text(
        "<element name='domain' xmlns='http://relaxng.org/ns/structure/1.0'><empty/></element>"
    )
    schemas.validate("<domain/>", "domain")
    with pytest.raises(XmlInvalidSchema, match=f"{tmp_path}/domain.rng"):
        schemas.validate("<domain><name/></domain>", "domain")
