"""The service inside the process: everything in one root folder, no daemon.

Guests outlive it; a lock per domain keeps two processes apart; whatever one process leaves unfinished the
next one completes or undoes.
"""

from __future__ import annotations

from pathlib import Path

from virtsnap.service.block_devices import BlockDeviceCalls
from virtsnap.service.block_jobs import BlockJobCalls
from virtsnap.service.chains import ChainCalls
from virtsnap.service.clones import CloneCalls
from virtsnap.service.definitions import DefinitionCalls
from virtsnap.service.devices import DeviceCalls
from virtsnap.service.events import EventCalls
from virtsnap.service.figures import FigureCalls
from virtsnap.service.host import HostCalls
from virtsnap.service.jobs import JobCalls
from virtsnap.service.keys import KeyCalls
from virtsnap.service.libvirt import LibvirtCalls
from virtsnap.service.naming import NamingCalls
from virtsnap.service.passing_on import PassingCalls


class LocalService(
    DefinitionCalls,
    DeviceCalls,
    HostCalls,
    KeyCalls,
    NamingCalls,
    ChainCalls,
    BlockJobCalls,
    BlockDeviceCalls,
    PassingCalls,
    CloneCalls,
    JobCalls,
    EventCalls,
    FigureCalls,
    LibvirtCalls,
):
    """`service.interface.Service` over a root folder."""


async def open_local(root: Path, readonly: bool = False) -> LocalService:
    """Open a root folder, made with mode 0700 if missing. Raises SystemRefused when it cannot be."""
    return LocalService(root, readonly)
