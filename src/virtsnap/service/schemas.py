"""The schemas that libvirt's packages install, for --validate. There is none of our own."""

from __future__ import annotations

from pathlib import Path

from virtsnap.model.errors import InternalRefused, NoSupport

FOLDERS = (Path("/usr/share/libvirt/schemas"), Path("/usr/local/share/libvirt/schemas"))
"""Where they are looked for, in this order."""


def validate(text: str, root: str) -> None:
    """Return when a `<domain>` or `<domainsnapshot>` matches the schema of its name.

    Raises XmlInvalidSchema for a document that does not match, NoSupport where no schema is installed, and
    XmlError and XmlDetail for what is no such document at all.
    """
    from lxml import etree

    from virtsnap.formats import schema

    path = next((folder / f"{root}.rng" for folder in FOLDERS if (folder / f"{root}.rng").exists()), None)
    if path is None:
        raise NoSupport(
            f"validating needs libvirt's schema {FOLDERS[0]}/{root}.rng, which is not installed here "
            "(package libvirt-common on Debian and Ubuntu, libvirt-libs on Fedora)"
        )
    try:
        rules = etree.RelaxNG(file=str(path))
    except etree.LxmlError as error:
        raise InternalRefused(f"Unable to parse RNG {path}: {error}") from error
    schema.check(text, root, rules, str(path))
