"""undefine: forget a domain's definition."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, Command, alias, flag, string
from virtsnap.model.flags import DomainUndefine
from virtsnap.service.interface import DomainHandle

_FLAGS: dict[str, int] = {
    "managed-save": DomainUndefine.MANAGED_SAVE,
    "snapshots-metadata": DomainUndefine.SNAPSHOTS_METADATA,
    "checkpoints-metadata": DomainUndefine.CHECKPOINTS_METADATA,
    "nvram": DomainUndefine.NVRAM,
    "keep-nvram": DomainUndefine.KEEP_NVRAM,
    "tpm": DomainUndefine.TPM,
    "keep-tpm": DomainUndefine.KEEP_TPM,
}


async def _undefine(session: Session, args: Args) -> None:
    args.require("delete-storage-volume-snapshots", "remove-all-storage")
    args.exclusive("nvram", "keep-nvram")
    args.exclusive("tpm", "keep-tpm")
    if args.has("storage") and args.has("remove-all-storage"):
        raise CliError("Specified both --storage and --remove-all-storage")
    if args.has("wipe-storage") and not (args.has("storage") or args.has("remove-all-storage")):
        raise CliError("'--wipe-storage' requires '--storage <string>' or '--remove-all-storage'")
    domain = await session.domain(args)
    service = await session.service()
    flags = args.flags(_FLAGS)
    effective = DomainUndefine(flags) & ~DomainUndefine.CHECKPOINTS_METADATA
    if effective == DomainUndefine.SNAPSHOTS_METADATA and not len(await service.snapshot_tree(domain.uuid)):
        effective = DomainUndefine(0)
    # With a flag that means something virsh leaves the refusal to the library.
    if not effective and domain.id is None and (await service.domain_info(domain.uuid)).managed_save:
        raise CliError("Refusing to undefine while domain managed save image exists")
    if args.has("storage") or args.has("remove-all-storage"):
        await _check_storage(session, args, domain)
    with session.explaining(f"Failed to undefine domain '{domain.name}'"):
        await service.undefine(domain.uuid, flags)
    session.extra(f"Domain '{domain.name}' has been undefined\n")


async def _check_storage(session: Session, args: Args, domain: DomainHandle) -> None:
    """As virsh where there are no storage pools: every image is left, and named. Raises CliError."""
    if domain.id is not None:
        raise CliError("Storage volume deletion is supported only on stopped domains")
    service = await session.service()
    given = args.string("storage")
    wanted = None if given is None else given.split(",")
    for device in await service.block_devices(domain.uuid, inactive=True):
        if wanted is not None:
            if device.target not in wanted and device.source not in wanted:
                continue
            wanted = [word for word in wanted if word not in (device.target, device.source)]
        if device.source is not None:
            session.complain(
                f"Storage volume '{device.target}'({device.source}) is not managed by libvirt. "
                "Remove it manually."
            )
    if wanted:
        raise CliError(*(f"Volume '{word}' was not found in domain's definition." for word in wanted))


COMMANDS = {
    "undefine": Command(
        _undefine,
        (
            DOMAIN,
            flag("managed-save", "remove domain managed state file"),
            string(
                "storage",
                "remove associated storage volumes (comma separated list of targets or source paths) "
                "(see domblklist)",
                tolerated=True,
            ),
            flag("remove-all-storage", "remove all associated storage volumes (use with caution)"),
            flag(
                "delete-storage-volume-snapshots",
                "delete snapshots associated with volume(s), requires --remove-all-storage "
                "(must be supported by storage driver)",
            ),
            alias("delete-snapshots", "delete-storage-volume-snapshots"),
            flag("wipe-storage", "wipe data on the removed volumes"),
            flag("snapshots-metadata", "remove all domain snapshot metadata (vm must be inactive)"),
            flag("checkpoints-metadata", "remove all domain checkpoint metadata (vm must be inactive)"),
            flag("nvram", "remove nvram file"),
            flag("keep-nvram", "keep nvram file"),
            flag("tpm", "remove TPM state"),
            flag("keep-tpm", "keep TPM state"),
        ),
        "Undefine an inactive domain, or convert persistent to transient.",
        ("undefine demo", "undefine demo --snapshots-metadata"),
    )
}
