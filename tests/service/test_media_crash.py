"""SIGKILL at points of a change of a medium: the drive, the record and the definition have the same one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.conftest import Define
from tests.service.crash import Crasher
from tests.service.local_domain import BareDomain, create_disk
from tests.service.sweep import Call, sweep
from virtsnap.service.questions import ask

pytestmark = pytest.mark.real
LIVE, CONFIG = 1, 2


def drive(medium: Path | None) -> str:
    source = "" if medium is None else f"<source file='{medium}'/>"
    return (
        f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>{source}"
        "<target dev='sda' bus='scsi'/><readonly/></disk>"
    )


async def test_change_of_a_medium(crasher: Crasher, define: Define, tmp_path: Path) -> None:
    one, two = (create_disk(tmp_path / f"{name}.iso", "1M", "raw") for name in ("one", "two"))
    domains: list[BareDomain] = []

    async def ready(number: int) -> Call:
        for domain in domains:
            await domain.end()
        domain = await define(f"vm-{number}")
        domains[:] = [domain]
        await domain.service.attach_device(domain.uuid, drive(None), CONFIG)
        await domain.start()
        await domain.service.update_device(domain.uuid, drive(one), LIVE | CONFIG)
        return domain, "update_device", drive(two), LIVE | CONFIG

    async def is_new(number: int) -> bool:
        return (await domains[0].sources())["sda"] == str(two)

    async def check(number: int, new: bool) -> None:
        domain = domains[0]
        record = domain.service.store.domain(domain.uuid)
        assert record is not None
        [found] = [entry for entry in await ask(record, "query-block") if "tray_open" in entry]
        assert found["inserted"]["file"] == str(two if new else one)
        assert not found["tray_open"]

    await sweep(crasher, ready, is_new, check, stride=2)
