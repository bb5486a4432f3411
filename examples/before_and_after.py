"""Run a command between two snapshots, and go back to the first when it fails. The API for asyncio.

    python examples/before_and_after.py 'qemu:///embed?root=/srv/vm' demo ssh demo apt-get -y upgrade

Disk-only snapshots: quick to take while the domain runs; going back starts it again from its disks.
"""

from __future__ import annotations

import asyncio
import sys
import time

import virtsnap
from virtsnap import SnapshotCreate, SnapshotRevert, aio


async def main(uri: str, name: str, *command: str) -> int:
    async with await aio.open(uri) as connection:
        domain = await connection.lookupByName(name)
        xml = f"<domainsnapshot><name>before-{int(time.time())}</name></domainsnapshot>"
        before = await domain.snapshotCreateXML(xml, SnapshotCreate.DISK_ONLY)
        print("taken:", before.getName())
        process = await asyncio.create_subprocess_exec(*command)
        status = await process.wait()
        if status == 0:
            print("the command succeeded; the way back is kept:", before.getName())
        else:
            print("the command failed with status", status, "- going back")
            was_active = await domain.isActive()
            await domain.revertToSnapshot(before, SnapshotRevert.RUNNING if was_active else 0)
        return status


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    try:
        sys.exit(asyncio.run(main(*sys.argv[1:])))
    except virtsnap.VirtsnapError as error:
        sys.exit(f"error: {error}")
