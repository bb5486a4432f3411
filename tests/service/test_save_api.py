"""The save family as libvirt-python has it, with and without await."""

from __future__ import annotations

import asyncio

import pytest

import virtsnap
from tests.service.local_domain import BareDomain, skip_without
from virtsnap.api import aio
from virtsnap.api.params import SaveParams
from virtsnap.model.errors import InvalidArg

pytestmark = pytest.mark.real


async def test_awaited(bare: BareDomain) -> None:
    await skip_without("sparse")
    path = str(bare.folder / "state")
    async with await aio.open(bare.uri) as connection:
        domain = await connection.lookupByName("bare")
        await domain.create()
        params: dict[str, str | int] = {"file": path, "image_format": "sparse", "parallel.channels": 2}
        assert await domain.saveParams(params) == 0
        assert (domain.ID(), await domain.isActive()) == (-1, False)
        xml = await connection.saveImageGetXMLDesc(path)
        assert await connection.saveImageDefineXML(path, xml, virtsnap.VIR_DOMAIN_SAVE_PAUSED) == 0
        assert await connection.restoreParams({"file": path, "dxml": xml}) == 0
        assert (await domain.state())[0] == virtsnap.VIR_DOMAIN_PAUSED
        assert await domain.saveParams({}) == 0
        assert await domain.hasManagedSaveImage()
        assert await domain.managedSaveDefineXML(await domain.managedSaveGetXMLDesc()) == 0
        assert await domain.managedSaveRemove() == 0
        for wrong in ({}, {"file": path, "image_format": "raw"}):
            with pytest.raises(InvalidArg):
                await connection.restoreParams(dict(wrong))


async def test_without_await(bare: BareDomain) -> None:
    def script() -> None:
        path = str(bare.folder / "state")
        with virtsnap.open(bare.uri) as connection:
            domain = connection.lookupByName("bare")
            domain.create()
            assert domain.save(path) == 0
            assert connection.restore(path) == 0
            assert domain.managedSave(virtsnap.DomainSaveRestore.RUNNING) == 0
            assert domain.hasManagedSaveImage()

    await asyncio.to_thread(script)


def test_parameters() -> None:
    assert SaveParams.of({"file": "a", "parallel.channels": 2}) == SaveParams("a", None, None, 2)
    for wrong in ({"fiel": "a"}, {"file": 1}, {"parallel.channels": "2"}, {"parallel.channels": True}):
        with pytest.raises(InvalidArg):
            SaveParams.of(wrong)
    with pytest.raises(InvalidArg):
        SaveParams.of({"dxml": "<domain/>"}).refuse_all_but_file()
