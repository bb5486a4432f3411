"""The API for asyncio: `conn = await virtsnap.aio.open(uri)`, then libvirt-python's names, awaitable.

Objects are as libvirt's: a Connection, its Domains, their DomainSnapshots. What libvirt-python returns
as a status (0) is returned here too; what it reports by -1 or None is an exception. Names, ids and uuids
that an object already holds are plain calls. `virtsnap.api.sync` is the same without await, generated
from this.
"""

from __future__ import annotations

from virtsnap.api.aio.cloning import Cloning
from virtsnap.api.aio.connection import Connection
from virtsnap.api.aio.domain import Domain
from virtsnap.api.aio.snapshot import DomainSnapshot
from virtsnap.api.connect import open_service

__all__ = ["Cloning", "Connection", "Domain", "DomainSnapshot", "open"]


async def open(uri: str | None = None, readonly: bool = False) -> Connection:
    """Open a connection. `uri` None: $VIRTSNAP_DEFAULT_URI, else embedded in the user's data directory.

    Raises InvalidArg for a URI that is not understood (see `virtsnap.api.uri`).
    """
    return Connection(await open_service(uri, readonly))
