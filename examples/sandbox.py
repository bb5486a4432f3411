"""Throw-away machines: so many clones of one snapshot at once, a command for each, and nothing left of them.

    python examples/sandbox.py 'qemu:///embed?root=/srv/vm' demo ready 4 ./my-test

The command gets the clone's name in $GUEST; `virtsnap console $GUEST` or its network lead into it.
"""

from __future__ import annotations

import asyncio
import os
import sys

import virtsnap
from virtsnap import aio


async def one(snapshot: aio.DomainSnapshot, command: tuple[str, ...]) -> int:
    async with snapshot.clone() as guest:
        environment = {**os.environ, "GUEST": guest.name()}
        process = await asyncio.create_subprocess_exec(*command, env=environment)
        status = await process.wait()
        print(f"{guest.name()}: status {status}")
        return status


async def main(uri: str, name: str, snapshot_name: str, count: int, *command: str) -> int:
    async with await aio.open(uri) as connection:
        domain = await connection.lookupByName(name)
        snapshot = await domain.snapshotLookupByName(snapshot_name)
        statuses = await asyncio.gather(*(one(snapshot, command) for _ in range(count)))
        return max(statuses, key=abs)


if __name__ == "__main__":
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    try:
        sys.exit(asyncio.run(main(*sys.argv[1:4], int(sys.argv[4]), *sys.argv[5:])))
    except virtsnap.VirtsnapError as error:
        sys.exit(f"error: {error}")
