"""UEFI variables: kept by snapshots without memory, brought back, reset; as a guest would see them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.conftest import Define
from tests.service.local_domain import BareDomain
from virtsnap.engine.world import query_path
from virtsnap.model.errors import OperationFailed
from virtsnap.model.flags import DomainSaveRestore, DomainStart, SnapshotRevert
from virtsnap.qemu.monitor import Monitor

pytestmark = pytest.mark.real

SIZE = 256 << 10
NEW, THEN, NOW = b"n", b"t", b"x"
AT = (4 << 30) - 2 * SIZE
"""The store lies below the code, which ends at 4 GiB."""


class Uefi:
    """A domain with flash memory in which there is no firmware."""

    def __init__(self, domain: BareDomain) -> None:
        self.domain, self.service, self.uuid = domain, domain.service, domain.uuid
        self.store = domain.folder / "vars.fd"

    def put(self, byte: bytes) -> None:
        self.store.write_bytes(byte * SIZE)

    async def seen(self) -> bytes:
        """What the guest would read, which must be what the file holds."""
        async with await Monitor.connect(query_path(self.domain.instance.run_dir)) as monitor:
            line = f"xp /1bx {AT:#x}"
            said = await monitor.execute("human-monitor-command", command_line=line)
        byte = bytes([int(str(said).rpartition("0x")[2], 16)])
        assert self.store.read_bytes() == byte * SIZE
        return byte


@pytest.fixture(name="template")
def _template(tmp_path: Path) -> bool:
    return True


@pytest.fixture
async def uefi(define: Define, template: bool, tmp_path: Path) -> Uefi:
    folder = tmp_path / "vm"

    def edit(xml: str) -> str:
        (folder / "code.fd").write_bytes(b"\xf4" * SIZE)  # hlt
        (folder / "new.fd").write_bytes(NEW * SIZE)
        like = f" template='{folder}/new.fd'" if template else ""
        return xml.replace(
            "</os>",
            f"<loader readonly='yes' type='pflash'>{folder}/code.fd</loader>"
            f"<nvram{like}>{folder}/vars.fd</nvram></os>",
        )

    return Uefi(await define("vm", edit=edit))


@pytest.mark.parametrize("running", [True, False], ids=["running", "shut off"])
@pytest.mark.parametrize("flag", [0, SnapshotRevert.RESET_NVRAM])
async def test_a_revert_that_starts_the_domain(uefi: Uefi, running: bool, flag: int) -> None:
    uefi.put(THEN)
    await uefi.domain.disk_only("s1")
    uefi.put(NOW)
    if running:
        await uefi.service.create(uefi.uuid, DomainStart.PAUSED)
        assert await uefi.seen() == NOW
    await uefi.service.snapshot_revert(uefi.uuid, "s1", SnapshotRevert.PAUSED | flag)
    assert await uefi.seen() == (NEW if flag else THEN)


async def test_a_revert_that_starts_nothing_resets_nothing(uefi: Uefi) -> None:
    uefi.put(THEN)
    await uefi.domain.disk_only("s1")
    uefi.put(NOW)
    await uefi.service.snapshot_revert(uefi.uuid, "s1", SnapshotRevert.RESET_NVRAM)
    assert uefi.store.read_bytes() == THEN * SIZE


@pytest.mark.parametrize("memory", ["internal", "external"])
async def test_with_memory_the_variables_are_in_it(uefi: Uefi, memory: str) -> None:
    uefi.put(THEN)
    await uefi.service.create(uefi.uuid, DomainStart.PAUSED)
    if memory == "external":
        await uefi.domain.full("s1")
    else:
        await uefi.service.snapshot_create_xml(uefi.uuid, "<domainsnapshot><name>s1</name></domainsnapshot>")
    await uefi.service.destroy(uefi.uuid)
    uefi.put(NOW)
    await uefi.service.snapshot_revert(uefi.uuid, "s1", SnapshotRevert.RUNNING)
    assert await uefi.seen() == THEN


async def test_start(uefi: Uefi) -> None:
    uefi.put(NOW)
    await uefi.service.create(uefi.uuid, DomainStart.PAUSED | DomainStart.RESET_NVRAM)
    assert await uefi.seen() == NEW


async def test_restore(uefi: Uefi) -> None:
    """What the memory holds of the flash wins once the guest runs; until then the file is as it was made."""
    image = str(uefi.domain.folder / "saved")
    uefi.put(NOW)
    await uefi.service.create(uefi.uuid, DomainStart.PAUSED)
    await uefi.service.save(uefi.uuid, image)
    await uefi.service.restore(image, flags=DomainSaveRestore.RESET_NVRAM)
    assert uefi.store.read_bytes() == NEW * SIZE


@pytest.mark.parametrize("template", [False])
async def test_nobody_knows_what_new_variables_are(uefi: Uefi) -> None:
    uefi.put(NOW)
    with pytest.raises(OperationFailed, match=r"unable to find any master var store for loader: .*/code.fd"):
        await uefi.service.create(uefi.uuid, DomainStart.RESET_NVRAM)
    assert uefi.store.read_bytes() == NOW * SIZE
