"""What a running domain's disks do: domblkstat and domblkerror, and another size for one: blockresize."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, JSON, Command, Kind, Option, Place, flag, positional
from virtsnap.model.flags import BlockResize

_STATS = (
    ("rd_operations", "rd_req", "number of read operations:"),
    ("rd_bytes", "rd_bytes", "number of bytes read:"),
    ("wr_operations", "wr_req", "number of write operations:"),
    ("wr_bytes", "wr_bytes", "number of bytes written:"),
    ("errs", "errs", "error count:"),
    ("flush_operations", "flush_operations", "number of flush operations:"),
    ("rd_total_times", "rd_total_times", "total duration of reads (ns):"),
    ("wr_total_times", "wr_total_times", "total duration of writes (ns):"),
    ("flush_total_times", "flush_total_times", "total duration of flushes (ns):"),
)
"""libvirt's name of a figure, virsh's, and virsh's for people."""
_ERRORS = {1: "unspecified error", 2: "no space"}


async def _domblkstat(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    device = args.string("device") or ""
    stats = await service.block_stats(domain.uuid, device)
    if session.wants_json(args):
        session.json({"device": device or None, **stats})
        return
    human = args.has("human")
    if human:
        session.print(f"Device: {device}\n")
    for name, short, words in _STATS:
        if name in stats:
            line = f" {words:<31} {stats[name]}\n" if human else f"{device} {short} {stats[name]}\n"
            session.print(line)


async def _domblkerror(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    errors = await service.disk_errors(domain.uuid)
    if session.wants_json(args):
        session.json({target: _ERRORS[error] for target, error in errors.items()})
    elif not errors:
        session.extra("No errors found\n")
    else:
        for target, error in errors.items():
            session.print(f"{target}: {_ERRORS[error]}\n")


async def _blockresize(session: Session, args: Args) -> None:
    args.exclusive("size", "capacity")
    path = args.required("path")
    if not args.has("size") and not args.has("capacity"):
        raise CliError("Either --size or --capacity must be provided")
    flags: int = BlockResize.CAPACITY if args.has("capacity") else 0
    size = args.scaled("size", "KiB") or 0
    # libvirt takes whole KiB unless it is told otherwise.
    if size % 1024:
        flags |= BlockResize.BYTES
    else:
        size //= 1024
    domain = await session.domain(args)
    service = await session.service()
    with session.explaining(f"Failed to resize block device '{path}'"):
        await service.block_resize(domain.uuid, path, size, flags)
    session.extra(f"Block device '{path}' is resized")


COMMANDS = {
    "domblkstat": Command(
        _domblkstat,
        (
            DOMAIN,
            positional("device", "block device"),
            flag("human", "print a more human readable output"),
            JSON,
        ),
        "Get device block stats for a running domain. See man page or use --human for explanation of fields",
        ("domblkstat demo vda --human",),
    ),
    "domblkerror": Command(_domblkerror, (DOMAIN, JSON), "Show block device errors", ("domblkerror demo",)),
    "blockresize": Command(
        _blockresize,
        (
            DOMAIN,
            positional("path", "Fully-qualified path of block device", required=True),
            Option(
                "size",
                "New size of the block device, as scaled integer (default KiB)",
                Kind.NUMBER,
                Place.POSITIONAL,
            ),
            flag("capacity", "resize to capacity of source (block device)"),
        ),
        "Resize block device of domain.",
        ("blockresize demo vda 20GiB",),
    ),
}
