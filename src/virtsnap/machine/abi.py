"""Do two definitions describe the same hardware? What a guest's memory is loaded into must be what it left.

Two passes. The first is libvirt's (`machine.abi_words`). The second compares what QEMU would be told, but for
what only the host sees (files, caches, ports): it finds what the first has no words for. Both definitions
must be completed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.abi_words import check_words
from virtsnap.machine.command_line import command_line
from virtsnap.machine.launch import Launch
from virtsnap.model.errors import ConfigUnsupported

_HOST_ONLY = frozenset(
    [
        "drive",
        "bootindex",
        "write-cache",
        "rerror",
        "werror",
        "netdev",
        "chardev",
        "audiodev",
        "vhostfd",
        "id",
    ]
)
"""Properties of a device that the guest never sees."""
_GUEST = ("-machine", "-accel", "-cpu", "-m", "-smp", "-device", "-global", "-smbios", "-boot", "-numa")
"""Options that say what the guest sees; -accel since memory of one does not load into the other."""


def check(source: DomainDefinition, target: DomainDefinition, launch: Launch) -> None:
    """Return when a guest saved as `source` can go on as `target`.

    `launch`: what QEMU would be told besides. Raises ConfigUnsupported, naming the first difference.
    """
    check_words(source, target)
    _check_command_lines(source, target, launch)


def _check_command_lines(source: DomainDefinition, target: DomainDefinition, launch: Launch) -> None:
    seen = [_guest_visible(command_line(one, launch).argv) for one in (source, target)]
    for option, value in seen[0]:
        if (option, value) not in seen[1]:
            raise ConfigUnsupported(
                f"Target domain hardware does not match source: {option} {value} is missing"
            )
    for option, value in seen[1]:
        if (option, value) not in seen[0]:
            raise ConfigUnsupported(f"Target domain hardware does not match source: {option} {value} is new")


def _guest_visible(argv: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for option, value in pairwise(argv):
        if option in _GUEST:
            found.append((option, _without_host(value)))
    return found


def _without_host(value: str) -> str:
    if not value.startswith("{"):
        return value
    properties = json.loads(value)
    return json.dumps({k: v for k, v in properties.items() if k not in _HOST_ONLY}, sort_keys=True)
