"""Decide how a running domain's state goes into a file, and how one comes back out of it.

A save is given up without a trace until the file is whole and durable: then the domain is shut off, by the
store's transaction, and its QEMU ended. An existing file is replaced by a rename after that, never written
into. A restore brings a new QEMU to the saved state first; only then does the domain run.
The refusals are libvirt's (qemuDomainSaveFlags, qemuDomainRestoreFlags and below, 11.3), in its order.

Not here: reading a saved file's head (`formats.save_image`), and whether another definition describes the
same hardware (`machine.abi`).
"""

from __future__ import annotations

import posixpath
from dataclasses import replace

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.domain import DomainRecord, DomainState, Reason
from virtsnap.model.errors import (
    BareInvalidArg,
    ConfigUnsupported,
    InvalidArg,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    SystemRefused,
)
from virtsnap.model.event import Detail
from virtsnap.model.facts import DomainFacts, FileFacts, MappedMemory, MemoryWay
from virtsnap.model.flags import DomainSaveRestore as Flag
from virtsnap.model.frozen import dataclass
from virtsnap.model.steps import (
    KillQemu,
    LoadMemory,
    MoveFile,
    NoteDisks,
    PauseGuest,
    Plan,
    RemoveFile,
    ResumeGuest,
    SaveMemory,
    SealMemory,
    SettleGuest,
    StartQemu,
    Step,
    StoreWrite,
)
from virtsnap.plan.announce import agent_awaited, stopped, told
from virtsnap.plan.memory_way import check_migratable
from virtsnap.plan.nvram import keep_tpm, reset_nvram

FORMATS = ("raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse")
"""libvirt's image formats."""
_MAPPED_RAM = (9, 0)
_DIRECT_IO = (9, 1)


@dataclass(frozen=True)
class SaveRequest:
    """Save into `path`. `xml`: what the image says of the domain. `channels` None: not asked for."""

    path: str
    flags: Flag
    xml: str
    format: str = "raw"
    channels: int | None = None
    note: str | None = None
    """A managed save: where the note of its disks goes."""


@dataclass(frozen=True)
class RestoreRequest:
    """Bring back what `path` holds. `xml`: the definition, completed. `runs`: the guest goes on."""

    path: str
    flags: Flag
    xml: str
    runs: bool
    sparse: bool
    channels: int | None = None
    reason_paused: Reason = Reason.PAUSED_MIGRATION
    mapped: MappedMemory | None = None
    """The guest's pages in `path`, for a QEMU that maps them instead of reading."""
    removes: tuple[str, ...] = ()
    """Files that are used up by it: the managed save and its note."""
    paused_by_user: bool = False
    """The guest stands still since its start was asked for so, not since it was saved so."""


def check_flags(flags: int, function: str, *, allowed: Flag | None = None) -> Flag:
    """The flag rules, in libvirt's order. Raises BareInvalidArg."""
    known = int(Flag.BYPASS_CACHE | Flag.RUNNING | Flag.PAUSED if allowed is None else allowed)
    if flags & ~known:
        raise BareInvalidArg(f"unsupported flags (0x{flags & ~known:x}) in function {function}")
    if flags & Flag.RUNNING and flags & Flag.PAUSED:
        raise BareInvalidArg(
            "Flags 'VIR_DOMAIN_SAVE_RUNNING' and 'VIR_DOMAIN_SAVE_PAUSED' are mutually exclusive"
        )
    return Flag(flags)


def check_format(format: str | None, channels: int | None) -> str:
    """The image format asked for. Raises OperationFailed, InvalidArg in libvirt's words."""
    if format is not None and format not in FORMATS:
        raise OperationFailed(f"Invalid image_format '{format}'")
    if channels is not None and format != "sparse":
        raise InvalidArg("Parallel save is only supported with the 'sparse' save image format")
    if channels is not None and channels < 1:
        raise InvalidArg("number of parallel save channels cannot be less than 1")
    return format or "raw"


def managed_format(version: tuple[int, ...]) -> str:
    """The format of a managed save: one that the next start can map, if this QEMU has it."""
    return "sparse" if version >= _MAPPED_RAM else "raw"


def paths_of(record: DomainRecord, request: SaveRequest) -> tuple[str, ...]:
    """The paths that `plan_save` needs the facts of."""
    return (request.path, _beside(record, request))


def _beside(record: DomainRecord, request: SaveRequest) -> str:
    """Where the image is written while the file that it replaces is still there."""
    return posixpath.join(posixpath.dirname(request.path), f".virtsnap-{record.uuid}.save")


def plan_save(facts: DomainFacts, request: SaveRequest) -> Plan:
    """The steps that save the domain and end it. Raises Refused and its kinds."""
    record, flags = facts.record, request.flags
    if record.instance is None:
        raise OperationInvalid("domain is not running")
    if request.note is not None and not record.persistent:
        raise OperationInvalid("cannot do managed save for transient domain")
    check_migratable(facts)
    if request.format == "sparse" and facts.qemu_version < _MAPPED_RAM:
        raise OperationUnsupported("save image format sparse is not supported by this QEMU binary")
    direct = _direct(flags, request.format == "sparse", facts.qemu_version)
    place = _place(facts, request)
    running = record.state is DomainState.RUNNING
    prepare: list[Step] = [PauseGuest(given_up=Reason.RUNNING_SAVE_CANCELED)] if running else []
    prepare += [
        SaveMemory(
            path=place,
            way=MemoryWay.SPARSE if request.format == "sparse" else MemoryWay.STREAM,
            live=False,
            was_running=running,
            domain_xml=request.xml,
            resumes=bool(flags & Flag.RUNNING) or (running and not flags & Flag.PAUSED),
            compression=None if request.format in ("raw", "sparse") else request.format,
            channels=(request.channels or 1) if direct else request.channels or 0,
            direct=direct,
            job="save",
            label="Save" if request.note is None else "Managedsave",
        ),
        SealMemory(place),
    ]
    finish: list[Step] = [] if place == request.path else [MoveFile(place, request.path)]
    finish.append(KillQemu(record.instance.run_dir))
    finish.append(stopped(record.instance.run_dir, Reason.SHUTOFF_SAVED))
    if request.note is not None:
        finish.append(NoteDisks(request.note, noted(request.xml, record.config_xml)))
    return Plan(
        operation="save",
        subject=record.name,
        prepare=tuple(prepare),
        commit=StoreWrite(record=replace(record, live_xml=None, instance=None, reason=Reason.SHUTOFF_SAVED)),
        finish=tuple(finish),
        pause="for good: the domain is shut off until it is restored",
        result_reason=Reason.SHUTOFF_SAVED,
    )


def noted(saved_xml: str, config_xml: str) -> tuple[tuple[str, str, str, str], ...]:
    """The disks whose content must stay as it is: (target, source saved, source now, format)."""
    config = {disk.target: disk for disk in DomainDefinition.parse(config_xml).disks}
    found = []
    for disk in DomainDefinition.parse(saved_xml).disks:
        if disk.source is None or disk.readonly:
            continue
        now = config.get(disk.target, disk)
        if now.source is None or now.source == disk.source:
            now = disk
        found.append((disk.target, disk.source, now.source or disk.source, now.format))
    return tuple(found)


def _direct(flags: Flag, sparse: bool, version: tuple[int, ...]) -> bool:
    if not flags & Flag.BYPASS_CACHE:
        return False
    if not sparse:
        raise OperationUnsupported(
            "bypassing the file system cache needs an image of format sparse: QEMU writes a stream in pieces "
            "of any size, which direct I/O does not take"
        )
    if version < _DIRECT_IO:
        raise OperationUnsupported("bypassing the file system cache needs QEMU 9.1")
    return True


def _place(facts: DomainFacts, request: SaveRequest) -> str:
    """Where the image is written: its own path, or beside the file that it replaces."""
    path = request.path
    if path in facts.images or path in facts.owned or path in facts.named_elsewhere:
        raise ConfigUnsupported(f"'{path}' is in use as an image of a domain or a snapshot")
    file = facts.files.get(path, FileFacts(exists=False))
    if file.error is not None:
        raise SystemRefused(f"Failed to create file '{path}': {file.error}")
    if not file.exists:
        return path
    if not file.regular:
        raise ConfigUnsupported(f"'{path}' is not a regular file: saving into it is not supported")
    beside = _beside(facts.record, request)
    if facts.files.get(beside, FileFacts(exists=False)).exists:
        raise SystemRefused(f"Failed to create file '{beside}': File exists")
    return beside


def plan_restore(
    record: DomainRecord, request: RestoreRequest, *, id: int, root: str, version: tuple[int, ...]
) -> Plan:
    """The steps that bring a saved domain back. Raises Refused and its kinds."""
    if record.active:
        raise OperationInvalid(f"domain '{record.name}' is already active")
    direct = _direct(request.flags, request.sparse, version)
    run_dir = f"{root}/run/{id}"
    channels = (request.channels or 1) if direct else request.channels or 0
    finish: list[Step] = [*keep_tpm(root, request.xml, run_dir)]
    finish += [RemoveFile(path) for path in request.removes]
    finish += agent_awaited(request.xml)
    if request.runs:
        finish += [told(Detail.STARTED_RESTORED), ResumeGuest()]
    else:
        why = Detail.SUSPENDED_PAUSED if request.paused_by_user else Detail.SUSPENDED_RESTORED
        finish += [SettleGuest(), told(Detail.STARTED_RESTORED, why)]
    reason = Reason.RUNNING_RESTORED if request.runs else request.reason_paused
    return Plan(
        operation="restore",
        subject=record.name,
        prepare=(
            *(reset_nvram(request.xml) if request.flags & Flag.RESET_NVRAM else ()),
            StartQemu(id, run_dir, request.xml, incoming=True, memory=request.mapped, own_tpm=True),
            LoadMemory(
                run_dir,
                request.path,
                channels=channels,
                direct=direct,
                mapped=request.mapped is not None,
                job="restore",
                label="Restore",
            ),
        ),
        commit=StoreWrite(record=replace(record, live_xml=request.xml, reason=reason), started=run_dir),
        finish=tuple(finish),
        result_reason=reason,
    )
