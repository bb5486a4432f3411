"""Flag words: what goes with what, in libvirt's order and words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from virtsnap.model.errors import BareInvalidArg
from virtsnap.plan import create, delete, revert

C, R, D = "VIR_DOMAIN_SNAPSHOT_CREATE_", "VIR_DOMAIN_SNAPSHOT_REVERT_", "VIR_DOMAIN_SNAPSHOT_DELETE_"


@pytest.mark.parametrize(
    ("check", "flags", "text"),
    [
        (create.check_flags, 2, f"Flag '{C}REDEFINE' is required by flag '{C}CURRENT'"),
        (create.check_flags, 1 | 4, f"Flags '{C}REDEFINE' and '{C}NO_METADATA' are mutually exclusive"),
        (create.check_flags, 1 | 8, f"Flags '{C}REDEFINE' and '{C}HALT' are mutually exclusive"),
        (create.check_flags, 1024, "unsupported flags (0x400) in function qemuSnapshotCreateXML"),
        (create.check_flags, 0x80000010, "unsupported flags (0x80000000) in function qemuSnapshotCreateXML"),
        (create.check_flags, 64, f"Flag '{C}DISK_ONLY' is required by flag '{C}QUIESCE'"),
        (create.check_flags, 256 | 1, f"Flags '{C}LIVE' and '{C}REDEFINE' are mutually exclusive"),
        # libvirt's order: the library's rules before unknown bits, those before the driver's
        (create.check_flags, 2 | 1024, f"Flag '{C}REDEFINE' is required by flag '{C}CURRENT'"),
        (create.check_flags, 64 | 1024, "unsupported flags (0x400) in function qemuSnapshotCreateXML"),
        (revert.check_flags, 1 | 2, f"Flags '{R}RUNNING' and '{R}PAUSED' are mutually exclusive"),
        (revert.check_flags, 16, "unsupported flags (0x10) in function qemuDomainRevertToSnapshot"),
        (delete.check_flags, 1 | 4, f"Flags '{D}CHILDREN' and '{D}CHILDREN_ONLY' are mutually exclusive"),
        (delete.check_flags, 8, "unsupported flags (0x8) in function qemuDomainSnapshotDelete"),
    ],
)
def test_refused(check: Callable[[int], int], flags: int, text: str) -> None:
    with pytest.raises(BareInvalidArg) as caught:
        check(flags)
    assert str(caught.value) == text
    assert caught.value.code.number == 8


@pytest.mark.parametrize(
    ("check", "flags"),
    [
        (create.check_flags, 0),
        (create.check_flags, 1 | 2),
        (create.check_flags, 16 | 64 | 128 | 32 | 8 | 4),
        (create.check_flags, 256 | 8),
        (create.check_flags, 512 | 1),
        (revert.check_flags, 1 | 4 | 8),
        (revert.check_flags, 2 | 4),
        (delete.check_flags, 1 | 2),
        (delete.check_flags, 2 | 4),
    ],
)
def test_accepted(check: Callable[[int], int], flags: int) -> None:
    assert check(flags) == flags
