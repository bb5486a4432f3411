"""Commands about the connection: uri, hostname, version."""

from __future__ import annotations

import os

from virtsnap import __version__
from virtsnap.cli.args import Args
from virtsnap.cli.session import Session
from virtsnap.cli.spec import JSON, Command, flag


async def _uri(session: Session, args: Args) -> None:
    service = await session.service()
    session.print(service.uri + "\n")


async def _hostname(session: Session, args: Args) -> None:
    await session.service()
    session.print(os.uname().nodename + "\n")


async def _version(session: Session, args: Args) -> None:
    service = await session.service()
    number = await service.hypervisor_version()
    qemu = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
    if session.wants_json(args):
        session.json({"library": __version__, "api": "QEMU", "hypervisor": {"type": "QEMU", "version": qemu}})
        return
    session.print(f"Using library: virtsnap {__version__}\n")
    session.print(f"Using API: QEMU {__version__}\n")
    session.print(f"Running hypervisor: QEMU {qemu}\n")
    if args.has("daemon"):
        # There is no daemon in between: what runs is this program.
        session.print(f"Running against daemon: {__version__}\n")


COMMANDS = {
    "uri": Command(_uri),
    "hostname": Command(_hostname),
    "version": Command(
        _version,
        (flag("daemon", "report daemon version too"), JSON),
        "Display the system version information.",
    ),
}
