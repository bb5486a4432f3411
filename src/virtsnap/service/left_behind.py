"""What a new definition of a domain leaves to the user: a disk that is taken out keeps what is on it.

Snapshots may still stand on the same images. What is decided of them is `plan.images`.
"""

from __future__ import annotations

from virtsnap.model.domain import DomainRecord
from virtsnap.model.facts import MemoryWay
from virtsnap.plan import images
from virtsnap.qemu import facts as reader
from virtsnap.store.database import Store


async def left_behind(store: Store, record: DomainRecord, config_xml: str) -> tuple[str, ...]:
    """The images that are the domain's no longer once `config_xml` is its definition."""
    owned = dict(store.images(record.uuid))
    named = images.definition_images
    if not owned.keys() & named(record.config_xml).keys() - named(config_xml).keys():
        return ()
    facts = await reader.gather(
        root="",
        record=record,
        tree=store.tree(record.uuid),
        owned=owned,
        others=(),
        monitor=None,
        memory_way=MemoryWay.STREAM,
        qemu_version=(),
        next_id=0,
    )
    return images.left_behind(facts, config_xml)
