"""A display's password: who connects is asked for it, and it goes through a snapshot and back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.service.conftest import Define
from virtsnap.model.errors import ConfigUnsupported, InternalRefused
from virtsnap.model.flags import DomainStart

pytestmark = pytest.mark.real

HELLO = b"RFB 003.008\n"
ASKS = b"\1\2"
"""One way of authentication: by password."""


async def says(path: Path) -> bytes:
    """What a VNC server on a socket wants, after the greeting."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        assert await reader.readexactly(len(HELLO)) == HELLO
        writer.write(HELLO)
        count = await reader.readexactly(1)
        return count + await reader.readexactly(count[0])
    finally:
        writer.close()
        await writer.wait_closed()


def display(folder: Path, more: str) -> str:
    return f"<devices><graphics type='vnc' socket='{folder}/vnc' {more}/>"


async def test_it_is_asked_for(define: Define, tmp_path: Path) -> None:
    domain = await define(
        edit=lambda xml: xml.replace("<devices>", display(tmp_path / "vm", "passwd='sesame'"))
    )
    await domain.service.create(domain.uuid, DomainStart.PAUSED)
    assert await says(domain.folder / "vnc") == ASKS
    await domain.service.snapshot_create_xml(domain.uuid, "<domainsnapshot><name>s1</name></domainsnapshot>")
    await domain.service.snapshot_revert(domain.uuid, "s1")
    assert await says(domain.folder / "vnc") == ASKS
    assert "sesame" not in await domain.service.snapshot_xml(domain.uuid, "s1")
    assert "sesame" in await domain.service.snapshot_xml(domain.uuid, "s1", 1)


@pytest.mark.parametrize(
    ("more", "refusal", "words"),
    [
        ("passwd='ninechars'", ConfigUnsupported, "VNC password is 9 characters long, only 8 permitted"),
        ("passwd='x' passwdValidTo='soon'", InternalRefused, "cannot parse password validity time 'soon'"),
    ],
)
async def test_what_cannot_be(
    define: Define, tmp_path: Path, more: str, refusal: type[Exception], words: str
) -> None:
    with pytest.raises(refusal, match=words):
        await define(edit=lambda xml: xml.replace("<devices>", display(tmp_path / "vm", more)))
