"""Take over domains of a real libvirt with all their snapshots: first all are looked at, then all are taken.

python examples/from_libvirt.py 'qemu:///embed?root=/srv/vm' ~/.config/libvirt/qemu DOMAIN...
"""

from __future__ import annotations

import sys

import virtsnap


def main(uri: str, folder: str, names: list[str]) -> int:
    with virtsnap.open(uri) as connection:
        bad = 0
        for name in names:
            report = connection.importLibvirt(name, dir=folder, dry_run=True)
            print(f"{name}: {len(report.snapshots)} snapshots, {len(report.files)} files")
            for problem in report.problems:
                print(f"  {problem}")
            bad += len(report.problems)
        if bad:
            return 1
        for name in names:
            connection.importLibvirt(name, dir=folder)
            print(f"taken over: {name}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    try:
        sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
    except virtsnap.VirtsnapError as error:
        sys.exit(f"error: {error}")
