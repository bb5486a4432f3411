"""Domains without a guest, which leave nothing behind."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.service.crash import Crasher
from tests.service.local_domain import BareDomain, kill_all, processes_naming

Define = Callable[..., Awaitable[BareDomain]]


@pytest.fixture
async def define(tmp_path: Path) -> AsyncIterator[Define]:
    """Makes domains, each in a folder of its own; sees to it that nothing of them is left."""
    domains: list[BareDomain] = []

    async def make(name: str = "vm", **options: Any) -> BareDomain:
        domain = await BareDomain.define(tmp_path / name, **options)
        domains.append(domain)
        return domain

    try:
        yield make
        for domain in domains:
            await domain.end()
        assert processes_naming(tmp_path) == []
    finally:
        kill_all(processes_naming(tmp_path))
        shutil.rmtree(tmp_path)


@pytest.fixture
async def bare(define: Define) -> BareDomain:
    """One domain, shut off."""
    return await define()


@pytest.fixture
async def crasher() -> AsyncIterator[Crasher]:
    async with Crasher() as program:
        yield program
