"""Draw the snapshot trees of all domains of a connection. The API for asyncio.

python examples/tree.py 'qemu:///embed?root=/srv/vm'
"""

from __future__ import annotations

import asyncio
import sys

import virtsnap
from virtsnap import SnapshotList, aio


async def draw(snapshot: aio.DomainSnapshot, indent: str) -> None:
    mark = " <- the domain stands on this one" if await snapshot.isCurrent() else ""
    print(f"{indent}{snapshot.getName()}{mark}")
    for child in await snapshot.listAllChildren():
        await draw(child, indent + "  ")


async def main(uri: str) -> None:
    async with await aio.open(uri, readonly=True) as connection:
        for domain in await connection.listAllDomains():
            print(domain.name(), "(running)" if await domain.isActive() else "(shut off)")
            for root in await domain.listAllSnapshots(SnapshotList.ROOTS):
                await draw(root, "  ")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        asyncio.run(main(sys.argv[1]))
    except virtsnap.VirtsnapError as error:
        sys.exit(f"error: {error}")
