"""Another name for a domain: its snapshots, its variables and its place stay."""

from __future__ import annotations

import pytest

from tests.service.conftest import Define
from tests.service.local_domain import BareDomain
from virtsnap.cli.event_text import text
from virtsnap.model.domain import DomainState
from virtsnap.model.errors import OperationDenied, OperationInvalid, XmlError
from virtsnap.model.flags import DomainXml
from virtsnap.qemu.firmware import installed_firmwares
from virtsnap.service.local import open_local

pytestmark = pytest.mark.real

UEFI = (
    "<os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type></os>"
    "<features><acpi/><smm state='on'/></features>"
)


async def test_the_tree_stays(bare: BareDomain) -> None:
    await bare.put(1)
    await bare.disk_only("one")
    await bare.put(2)
    async with bare.service.events() as events:
        assert (await bare.service.rename(bare.uuid, "new")).name == "new"
        told = [text(await anext(events)) for _ in range(2)]
    assert told == [
        "event 'lifecycle' for domain 'bare': Undefined Renamed\n",
        "event 'lifecycle' for domain 'new': Defined Renamed\n",
    ]
    assert (await bare.service.lookup_by_name("new")).uuid == bare.uuid
    assert await bare.names() == {"one"}
    await bare.service.snapshot_revert(bare.uuid, "one")
    assert await bare.got() == [1, 1]
    assert "<name>new</name>" in await bare.service.domain_xml(bare.uuid, DomainXml.INACTIVE)
    await bare.service.snapshot_delete(bare.uuid, "one")
    await bare.start()
    assert await bare.state() is DomainState.RUNNING


async def test_refusals(bare: BareDomain) -> None:
    service = bare.service
    for name, error in (("bare", OperationInvalid), ("a/b", XmlError), ("a\nb", XmlError)):
        with pytest.raises(error):
            await service.rename(bare.uuid, name)
    await bare.start()
    with pytest.raises(OperationInvalid, match="cannot rename active domain"):
        await service.rename(bare.uuid, "new")
    await service.managed_save(bare.uuid)
    with pytest.raises(OperationInvalid, match="domain with a managed saved state can't be renamed"):
        await service.rename(bare.uuid, "new")
    watching = await open_local(bare.folder / "root", readonly=True)
    with pytest.raises(OperationDenied):
        await watching.rename(bare.uuid, "new")
    await watching.close()
    assert (await service.lookup_by_uuid(bare.uuid)).name == "bare"


async def test_whoever_gets_the_old_name_gets_no_variables_with_it(define: Define) -> None:
    if not installed_firmwares():
        pytest.skip("no UEFI firmware here")

    def uefi(xml: str) -> str:
        return xml.replace("<os><type arch='x86_64' machine='q35'>hvm</type></os>", UEFI)

    first = await define(edit=uefi)
    xml = await first.service.domain_xml(first.uuid)
    path = f"{first.folder}/root/nvram/bare_VARS"
    assert path in xml
    await first.service.rename(first.uuid, "new")
    assert path in await first.service.domain_xml(first.uuid)
    other = "8a5b6c1e-0000-4000-8000-000000000001"
    lines = [line for line in xml.replace(first.uuid, other).splitlines() if "<nvram" not in line]
    handle = await first.service.define_xml("\n".join(lines))
    assert handle.name == "bare"
    assert f"{first.folder}/root/nvram/{other}/bare_VARS" in await first.service.domain_xml(handle.uuid)
