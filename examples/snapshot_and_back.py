"""Take a snapshot of a domain, let it go on, and bring it back. The synchronous API.

    python examples/snapshot_and_back.py 'qemu:///embed?root=/srv/vm' demo /srv/vm/demo.mem

The third word is where the memory goes; without it the snapshot holds the disks only.
"""

from __future__ import annotations

import sys
from xml.sax.saxutils import quoteattr

import virtsnap
from virtsnap import SnapshotCreate, SnapshotDelete


def main(uri: str, name: str, memory_file: str | None = None) -> int:
    with virtsnap.open(uri) as connection:
        domain = connection.lookupByName(name)
        memory = f"<memory snapshot='external' file={quoteattr(memory_file)}/>" if memory_file else ""
        xml = f"<domainsnapshot><name>example</name>{memory}</domainsnapshot>"
        flags = 0 if memory_file else SnapshotCreate.DISK_ONLY

        # What would it do? Nothing is touched by asking.
        plan = domain.snapshotCreateXML(xml, flags, dry_run=True)
        print("will make:", *plan.makes, sep="\n  ")
        print("guest pause:", plan.pause)

        snapshot = domain.snapshotCreateXML(xml, flags, progress=show)
        print("taken:", snapshot.getName(), "of", [one.getName() for one in domain.listAllSnapshots()])

        input("The domain goes on. Change something in it, then press Enter to go back: ")
        domain.revertToSnapshot(snapshot)
        state, reason = domain.state()
        print("reverted: state", state, "reason", reason)

        snapshot.delete(SnapshotDelete.CHILDREN)
        print("deleted; left:", domain.snapshotListNames())
    return 0


def show(progress: virtsnap.Progress) -> None:
    if progress.total:
        print(f"  {progress.label}: {100 * progress.done / progress.total:.0f} %")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except virtsnap.VirtsnapError as error:
        sys.exit(f"error: {error}")
