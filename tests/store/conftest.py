from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from virtsnap.model.domain import DomainRecord
from virtsnap.store.database import Store, open_store

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "root")
    yield store
    store.close()


@pytest.fixture
def uuid(store: Store) -> str:
    """A domain that is in the store."""
    with store.transaction() as tx:
        tx.put_domain(DomainRecord(uuid=UUID, name="guest", config_xml="<domain/>"))
    return UUID
