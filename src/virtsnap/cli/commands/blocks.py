"""The disks of a domain: domblklist and domblkinfo."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from virtsnap.cli.args import Args
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, JSON, Command, flag, positional
from virtsnap.cli.table import info, pretty_bytes, table
from virtsnap.model.errors import VirtsnapError

if TYPE_CHECKING:
    from virtsnap.model.domain import BlockInfo
    from virtsnap.service.interface import ChainLayer


async def _domblklist(session: Session, args: Args) -> None:
    args.exclusive("chain", "details")
    domain = await session.domain(args)
    service = await session.service()
    if args.has("chain"):
        _show_chains(session, args, await service.block_chains(domain.uuid, args.has("inactive")))
        return
    disks = await service.block_devices(domain.uuid, args.has("inactive"))
    if session.wants_json(args):
        session.json(
            [
                {"type": disk.type, "device": disk.device, "target": disk.target, "source": disk.source}
                for disk in disks
            ]
        )
        return
    if args.has("details"):
        header = ["Type", "Device", "Target", "Source"]
        rows = [[disk.type, disk.device, disk.target, disk.source or "-"] for disk in disks]
    else:
        header = ["Target", "Source"]
        rows = [[disk.target, disk.source or "-"] for disk in disks]
    session.print(table(header, rows, quiet=session.settings.quiet))


def _show_chains(session: Session, args: Args, chains: dict[str, tuple[ChainLayer, ...]]) -> None:
    """Layer 0 is written to; the snapshots beside a layer are those whose content it holds."""
    if session.wants_json(args):
        session.json(
            [
                {"target": target, "depth": len(chain), "chain": [asdict(layer) for layer in chain]}
                for target, chain in chains.items()
            ]
        )
        return
    rows = []
    for target, chain in chains.items():
        for number, layer in enumerate(chain):
            size = "missing" if layer.missing else pretty_bytes(layer.allocation)
            rows.append([target, str(number), size, ", ".join(layer.snapshots) or "-", layer.path])
        if not chain:
            rows.append([target, "-", "-", "-", "-"])
    header = ["Target", "Layer", "Allocation", "Snapshot", "Source"]
    session.print(table(header, rows, quiet=session.settings.quiet))


async def _domblkinfo(session: Session, args: Args) -> None:
    args.exclusive("all", "device")
    domain = await session.domain(args)
    service = await session.service()
    if not args.has("all"):
        facts = await service.block_info(domain.uuid, args.required("device"))
        if session.wants_json(args):
            session.json(_facts(facts))
            return
        for label, size in zip(("Capacity:", "Allocation:", "Physical:"), _sizes(facts, args), strict=True):
            session.print(info(label, size))
        return
    found: list[tuple[str, BlockInfo | None]] = []
    for disk in await service.block_devices(domain.uuid):
        sizes = None
        if disk.source is not None:
            # As in virsh: one disk that cannot be asked does not hide the others; its sizes are dashes.
            with suppress(VirtsnapError):
                sizes = await service.block_info(domain.uuid, disk.target)
        found.append((disk.target, sizes))
    if session.wants_json(args):
        session.json([{"target": target, **_facts(sizes)} for target, sizes in found])
        return
    rows = [[target, *_sizes(sizes, args)] for target, sizes in found]
    header = ["Target", "Capacity", "Allocation", "Physical"]
    session.print(table(header, rows, quiet=session.settings.quiet))


def _facts(facts: BlockInfo | None) -> dict[str, int | None]:
    if facts is None:
        return {"capacity": None, "allocation": None, "physical": None}
    return {"capacity": facts.capacity, "allocation": facts.allocation, "physical": facts.physical}


def _sizes(facts: BlockInfo | None, args: Args) -> list[str]:
    if facts is None:
        return ["-", "-", "-"]
    show = pretty_bytes if args.has("human") else str
    return [show(facts.capacity), show(facts.allocation), show(facts.physical)]


COMMANDS = {
    "domblklist": Command(
        _domblklist,
        (
            DOMAIN,
            flag("inactive", "get inactive rather than running configuration"),
            flag("details", "additionally display the type and device value"),
            flag("chain", "display every image that a disk's content is read from"),
            JSON,
        ),
        "Get the summary of block devices for a domain.",
        ("domblklist demo --details", "domblklist demo --chain"),
    ),
    "domblkinfo": Command(
        _domblkinfo,
        (
            DOMAIN,
            positional("device", "block device"),
            flag("human", "Human readable output"),
            flag("all", "display all block devices info"),
            JSON,
        ),
        "Get block device size info for a domain.",
        ("domblkinfo demo vda --human", "domblkinfo demo --all"),
    ),
}
