"""Decide whether and how a block job begins: commit, pull and copy of a running domain's disk.

The rules and their words are libvirt's, and one more: a commit writes into an image below the top, so it is
refused where that image, or one that stands on it, holds content that a snapshot or somebody else needs.
What the end of a job means is `plan.block_job_end`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace

from virtsnap.formats.domain_xml import DomainDefinition, DomainDisk
from virtsnap.model.block_job import BlockJob, BlockJobType, BlockLayer
from virtsnap.model.errors import (
    BlockCopyActive,
    ConfigUnsupported,
    InvalidArg,
    OperationInvalid,
    OperationUnsupported,
    Refused,
    SystemRefused,
)
from virtsnap.model.facts import DomainFacts, ImageFacts
from virtsnap.model.flags import BlockCommit, BlockCopy
from virtsnap.model.frozen import dataclass
from virtsnap.model.steps import (
    AttachOverlay,
    CreateImage,
    CreateOverlay,
    Plan,
    StartCommit,
    StartCopy,
    StartPull,
    Step,
    StoreWrite,
)
from virtsnap.plan.images import disks_of, frozen_images

_INDEX = re.compile(r"(.+)\[(\d+)\]")
_COPY_FORMATS = ("raw", "qcow2")


@dataclass(frozen=True)
class CommitRequest:
    """`path`: target or source of the disk; `base` and `top`: a path or TARGET[N]; `speed`: bytes/s.

    `flags`: BlockCommit.
    """

    path: str
    base: str | None = None
    top: str | None = None
    speed: int = 0
    flags: int = 0


@dataclass(frozen=True)
class PullRequest:
    """`relative`: the header keeps a relative name of the base."""

    path: str
    base: str | None = None
    speed: int = 0
    relative: bool = False


@dataclass(frozen=True)
class CopyRequest:
    """`format` None: the disk's own. Sizes in bytes. `flags`: BlockCopy."""

    path: str
    destination: str
    type: str = "file"
    format: str | None = None
    speed: int = 0
    granularity: int = 0
    buf_size: int = 0
    flags: int = 0


def find_disk(definition: DomainDefinition, path: str) -> DomainDisk:
    """The disk that a caller names by target or source. Raises InvalidArg."""
    for disk in definition.disks:
        if path == disk.target or (disk.source is not None and path == disk.source):
            return disk
    raise InvalidArg(f"disk '{path}' not found in domain")


def find_format(facts: DomainFacts, request: CopyRequest) -> str | None:
    """The format that the destination of a copy will have; None where there is no such disk."""
    if request.format is not None:
        return request.format
    definition = DomainDefinition.parse(facts.record.live_xml or facts.record.config_xml)
    disks = [disk for disk in definition.disks if request.path in (disk.target, disk.source)]
    return disks[0].format if disks else None


def plan_commit(facts: DomainFacts, request: CommitRequest, number: int) -> Plan:
    """The steps that begin a commit. Raises Refused and its kinds. `number`: one that no job has had."""
    definition = DomainDefinition.parse(facts.record.live_xml or facts.record.config_xml)
    disk = find_disk(definition, request.path)
    if disk.empty:
        raise ConfigUnsupported(f"disk {disk.target} has no source file to be committed")
    chain = _chain(facts, definition, disk)
    flags = request.flags
    place = 0 if request.top is None else _lookup(definition, disk, chain, request.top)
    if flags & BlockCommit.SHALLOW and request.base is None:
        below = place + 1
    elif request.base is None:
        below = len(chain) - 1
    else:
        below = _lookup(definition, disk, chain, request.base, place)
    if below <= place or below >= len(chain):
        raise InvalidArg(f"could not find base image in chain for '{disk.target}'")
    top, base = chain[place], chain[below]
    if flags & BlockCommit.SHALLOW and below != place + 1:
        raise InvalidArg(
            f"base '{base.path}' is not immediately below '{top.path}' in chain for '{chain[0].path}'"
        )
    run_dir = _run_dir(facts)
    _check_disk(facts, disk)
    active = place == 0
    if active and not flags & BlockCommit.ACTIVE:
        raise InvalidArg(f"commit of '{disk.target}' active layer requires active flag")
    if not active and flags & BlockCommit.ACTIVE:
        raise InvalidArg(f"active commit requested but '{top.path}' is not active")
    name = None
    if not active:
        name = _relative(chain, place - 1, below) if flags & BlockCommit.RELATIVE else base.path
    gone = chain[place:below]
    keeps_top = not active and not flags & BlockCommit.DELETE
    _check_commit(facts, disk, gone, base, above=None if active else chain[place - 1], keeps_top=keeps_top)
    job = _name("commit", disk, number)
    layer = BlockLayer(base.path, base.format, "block" if base.block_device else "file")
    record = BlockJob(
        name=job,
        type=BlockJobType.ACTIVE_COMMIT if active else BlockJobType.COMMIT,
        target=disk.target,
        run_dir=run_dir,
        source=chain[0].path,
        gone=tuple(image.path for image in gone),
        writes=base.path,
        result=layer if active else None,
        delete=bool(flags & BlockCommit.DELETE),
        begun=facts.now,
    )
    live = definition
    if active:
        index = definition.layer_index(disk.target, base.path)
        live = definition.with_mirror(
            disk.target, "active-commit", layer.path, layer.format, layer.type, index
        )
    start = StartCommit(job, disk.target, top.path, base.path, active, name, request.speed)
    return _plan(facts, "blockcommit", (start,), record, live)


def plan_pull(facts: DomainFacts, request: PullRequest, number: int) -> Plan:
    """The steps that begin a pull. Raises Refused and its kinds."""
    run_dir = _run_dir(facts)
    definition, disk = _disk(facts, request.path, "pulled")
    chain = _chain(facts, definition, disk)
    if request.relative and request.base is None:
        raise InvalidArg("flag VIR_DOMAIN_BLOCK_REBASE_RELATIVE is valid only with non-null base")
    below = len(chain) if request.base is None else _lookup(definition, disk, chain, request.base, 0)
    top, base = chain[0], chain[below] if below < len(chain) else None
    if disk.readonly:
        raise OperationInvalid(f"disk '{disk.target}' is read-only")
    if top.tags and below > 1:
        raise OperationUnsupported(
            f"'{top.path}' of disk '{disk.target}' holds internal snapshot '{top.tags[0].name}', which needs "
            "what is below"
        )
    name = None
    if base is not None:
        name = _relative(chain, 0, below) if request.relative else base.path
    job = _name("pull", disk, number)
    record = BlockJob(
        name=job,
        type=BlockJobType.PULL,
        target=disk.target,
        run_dir=run_dir,
        source=top.path,
        gone=tuple(image.path for image in chain[1:below]),
        begun=facts.now,
    )
    start = StartPull(job, disk.target, base.path if base is not None else None, name, request.speed)
    return _plan(facts, "blockpull", (start,), record, definition)


def plan_copy(
    facts: DomainFacts, request: CopyRequest, number: int, reused: ImageFacts | None = None
) -> Plan:
    """The steps that begin a copy. Raises Refused and its kinds. `facts.files` knows the destination.

    `reused`: the image that is there already, where it shall be taken.
    """
    flags = request.flags
    run_dir = _run_dir(facts)
    definition, disk = _disk(facts, request.path, "copied")
    if facts.record.persistent and not flags & BlockCopy.TRANSIENT_JOB:
        raise OperationInvalid("domain is not transient")
    chain = _chain(facts, definition, disk)
    top, shallow = chain[0], bool(flags & BlockCopy.SHALLOW) and len(chain) > 1
    format = request.format or top.format
    if format not in _COPY_FORMATS:
        raise ConfigUnsupported(f"disk format '{format}' is not supported for a copy")
    if shallow and format == "raw":
        raise InvalidArg(f"cannot create shallow copy of disk '{disk.target}' into raw file")
    _check_power_of_2(request)
    existed = _check_destination(facts, request, disk)
    job = _name("copy", disk, number)
    layer = BlockLayer(request.destination, format, request.type)
    if reused is not None:
        _check_reused(reused, chain[1].path if shallow else None)
    prepare: list[Step] = []
    if not flags & BlockCopy.REUSE_EXT:
        if request.type == "block" and format == "raw":
            pass  # nothing of a device is to be made
        elif shallow:
            prepare.append(
                CreateOverlay(
                    path=layer.path,
                    format=format,
                    size=top.virtual_size,
                    backing=chain[1].path,
                    backing_format=chain[1].format,
                    cluster_size=top.cluster_size if top.format == format else None,
                    extended_l2=top.extended_l2 and top.format == format,
                    existed=existed,
                )
            )
        else:
            prepare.append(CreateImage(layer.path, format, top.virtual_size, existed))
    node = facts.next_node
    prepare.append(
        AttachOverlay(
            *(disk.target, layer.path, format, layer.type, node), backing=chain[1].path if shallow else None
        )
    )
    prepare.append(
        StartCopy(
            job,
            disk.target,
            node,
            shallow,
            request.speed,
            request.granularity,
            request.buf_size,
            bool(flags & BlockCopy.SYNCHRONOUS_WRITES),
        )
    )
    record = BlockJob(
        name=job,
        type=BlockJobType.COPY,
        target=disk.target,
        run_dir=run_dir,
        source=top.path,
        gone=tuple(image.path for image in (chain[:1] if shallow else chain)),
        result=layer,
        node=node,
        begun=facts.now,
    )
    live = definition.with_mirror(disk.target, "copy", layer.path, format, layer.type, node)
    return _plan(facts, "blockcopy", tuple(prepare), record, live)


def _plan(
    facts: DomainFacts, operation: str, prepare: tuple[Step, ...], job: BlockJob, live: DomainDefinition
) -> Plan:
    return Plan(
        operation=operation,
        subject=job.target,
        prepare=prepare,
        commit=StoreWrite(record=replace(facts.record, live_xml=live.to_xml()), put_block_jobs=(job,)),
    )


def _name(kind: str, disk: DomainDisk, number: int) -> str:
    """A name that no job has had, and that says which disk it is about."""
    return f"virtsnap-{kind}-{disk.target}-{number}"


def _run_dir(facts: DomainFacts) -> str:
    if facts.record.instance is None:
        raise OperationInvalid("domain is not running")
    return facts.record.instance.run_dir


def _disk(facts: DomainFacts, path: str, what: str) -> tuple[DomainDefinition, DomainDisk]:
    definition = DomainDefinition.parse(facts.record.live_xml or facts.record.config_xml)
    disk = find_disk(definition, path)
    if disk.empty:
        raise ConfigUnsupported(f"disk {disk.target} has no source file to be {what}")
    _check_disk(facts, disk)
    return definition, disk


def _check_disk(facts: DomainFacts, disk: DomainDisk) -> None:
    """Refuse a disk that has a job, or that no job can be done on."""
    for running in facts.jobs:
        target, _, kind = running.partition(": ")
        if target == disk.target:
            refusal = BlockCopyActive if kind in ("mirror", "copy") else OperationUnsupported
            raise refusal(f"disk '{disk.target}' already in active block job")
    if disk.transient:
        raise OperationUnsupported("block jobs are not supported on transient disk '" + disk.target + "'")
    if disk.source is None:
        raise ConfigUnsupported(f"block jobs on disk '{disk.target}' of type '{disk.type}' are not supported")


def _chain(facts: DomainFacts, definition: DomainDefinition, disk: DomainDisk) -> tuple[ImageFacts, ...]:
    """The disk's layers, top first. Raises SystemRefused when one is missing."""
    if disk.source is None:
        raise ConfigUnsupported(f"block jobs on disk '{disk.target}' of type '{disk.type}' are not supported")
    chain = facts.chain(disk.source)
    for image in chain:
        if image.missing:
            raise SystemRefused(f"Cannot access storage file '{image.path}': No such file or directory")
    return chain if facts.record.active else chain[:1]


def _lookup(
    definition: DomainDefinition,
    disk: DomainDisk,
    chain: tuple[ImageFacts, ...],
    name: str,
    above: int | None = None,
) -> int:
    """Where in the chain the image is that a caller names, below `above` if given. Raises InvalidArg."""
    found = _INDEX.fullmatch(name)
    if found is not None and int(found[2]) > 0:
        target, number = found[1], int(found[2])
        if target != disk.target:
            raise InvalidArg(f"requested target '{target}' does not match target '{disk.target}'")
        paths = {path for index, path in definition.layer_paths(disk.target) if index == number}
        for place in range(0 if above is None else above + 1, len(chain)):
            if chain[place].path in paths:
                return place
        raise InvalidArg(f"could not find backing store index '{number}' in chain for '{disk.target}'")
    for place in range(0 if above is None else above + 1, len(chain)):
        folder = posixpath.dirname(chain[max(place - 1, 0)].path)
        if chain[place].path in (name, posixpath.normpath(posixpath.join(folder, name))):
            return place
    if above is not None:
        where = f"beneath '{chain[above].path}' in chain for '{disk.target}'"
    else:
        where = f"in chain for '{disk.target}'"
    raise InvalidArg(f"could not find image '{name}' {where}")


def _relative(chain: tuple[ImageFacts, ...], above: int, below: int) -> str:
    """The name of `below` in the header of `above`, by relative names. Raises OperationInvalid."""
    path = ""
    for image in chain[above:below]:
        name = image.backing_name
        if name is None or name.startswith("/") or re.match(r"[^/]*:", name):
            raise OperationInvalid("can't keep relative backing relationship")
        path = posixpath.join(posixpath.dirname(path), name)
    return path


def _check_commit(
    facts: DomainFacts,
    disk: DomainDisk,
    gone: tuple[ImageFacts, ...],
    base: ImageFacts,
    *,
    above: ImageFacts | None,
    keeps_top: bool,
) -> None:
    """Refuse what would change content that is not this disk's alone.

    Below the top, `above` and what stands on it, and `top` as long as its file stays, read the same content
    as before: `base` has what `top` had. Nobody writes to it afterwards.
    """
    for image in gone:
        if image.tags:
            raise OperationUnsupported(
                f"'{image.path}' holds internal snapshot '{image.tags[0].name}', which needs what is below"
            )
    if base.path in facts.named_elsewhere:
        raise OperationUnsupported(
            f"'{base.path}' is used by another domain, whose disk would change with a commit into it"
        )
    unchanged = {image.path for image in (above, gone[0] if keeps_top else None) if image is not None}
    for who, path in _names(facts, disk):
        below = {image.path for image in facts.chain(path)}
        if base.path in below and not below & unchanged:
            raise OperationUnsupported(
                f"commit into '{base.path}' would change what {who} needs of disk '{disk.target}' ('{path}')"
            )


def _names(facts: DomainFacts, disk: DomainDisk) -> Iterator[tuple[str, str]]:
    """Who else names an image, and which one."""
    for snapshot in facts.tree:
        for path in frozen_images(snapshot).values():
            yield f"snapshot '{snapshot.name}'", path
    for xml in (facts.record.live_xml, facts.record.config_xml):
        for other in disks_of(xml) if xml is not None else ():
            if other.target != disk.target and other.source is not None:
                yield f"disk '{other.target}'", other.source


def _check_power_of_2(request: CopyRequest) -> None:
    if request.granularity & (request.granularity - 1):
        raise InvalidArg("granularity must be power of 2")


def _check_destination(facts: DomainFacts, request: CopyRequest, disk: DomainDisk) -> bool:
    """Whether the destination is there already. Raises Refused."""
    path, reuse = request.destination, bool(request.flags & BlockCopy.REUSE_EXT)
    found = facts.files[path]
    if found.exists and not found.block_device and found.size and not reuse:
        raise _exists(disk, path)
    if path in facts.images or path in facts.owned or path in facts.named_elsewhere:
        raise ConfigUnsupported(f"destination '{path}' is an image of a domain already")
    if found.error is not None:
        raise SystemRefused(f"failed to create copy target: {found.error}")
    if request.type == "block" and not found.block_device:
        raise InvalidArg(f"copy destination '{path}' of disk '{disk.target}' is not a block device")
    if reuse and not found.exists:
        raise SystemRefused(
            f"missing destination file for disk {disk.target}: {path}: No such file or directory"
        )
    return found.exists


def _check_reused(reused: ImageFacts, below: str | None) -> None:
    if reused.missing:
        raise ConfigUnsupported(f"destination '{reused.path}' is no image of format '{reused.format}'")
    if reused.backing != below:
        on = f"stands on '{reused.backing}'" if reused.backing is not None else "stands on nothing"
        wanted = f"'{below}'" if below is not None else "nothing"
        raise ConfigUnsupported(f"destination '{reused.path}' {on}; this copy has to stand on {wanted}")


def _exists(disk: DomainDisk, path: str) -> Refused:
    return ConfigUnsupported(
        f"external destination file for disk {disk.target} already exists and is not a block device: {path}"
    )
