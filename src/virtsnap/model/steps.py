"""The vocabulary of plans: every kind of step there is, as small frozen records.

A step says what, never how: doing, undoing and probing stand together in `engine.steps`. Steps name images
by path, not by QEMU's node names, since a step may have to be finished after QEMU was started anew.
"""

from __future__ import annotations

from dataclasses import field

from virtsnap.model.block_job import BlockJob
from virtsnap.model.domain import DomainRecord, Reason
from virtsnap.model.event import Detail
from virtsnap.model.facts import ImageRole, MappedMemory, MemoryWay
from virtsnap.model.frozen import dataclass
from virtsnap.model.snapshot import Snapshot


@dataclass(frozen=True)
class CreateOverlay:
    """Make an empty image on top of another one."""

    path: str
    format: str
    size: int
    backing: str
    backing_format: str
    cluster_size: int | None = None
    extended_l2: bool = False
    existed: bool = False
    """The path was there before: an empty file or a block device, which undoing must leave."""


@dataclass(frozen=True)
class AttachOverlay:
    """Open an overlay in the running QEMU, not yet part of any disk."""

    target: str
    path: str
    format: str
    type: str
    node: int
    """N of libvirt-N-format and libvirt-N-storage."""
    backing: str | None = None
    """A layer of the disk that it stands on from the start; None: on nothing yet."""


@dataclass(frozen=True)
class PauseGuest:
    """Stop the virtual CPUs."""

    given_up: Reason | None = None
    """Why the guest runs once this was undone, if not as before."""


@dataclass(frozen=True)
class FreezeGuest:
    """Have the guest agent make the file systems consistent on their disks, and let them stand still."""

    socket: str
    """Of the agent's channel."""


@dataclass(frozen=True)
class ThawGuest:
    """Have the guest agent let the file systems go on."""

    socket: str


@dataclass(frozen=True)
class SaveMemory:
    """Write memory and device state to a file. With `live` the guest runs on until QEMU converges."""

    path: str
    way: MemoryWay
    live: bool
    was_running: bool
    domain_xml: str
    cookie_xml: str | None = None
    resumes: bool | None = None
    """Whether the image says that the guest goes on when it is restored, if not as it was."""
    compression: str | None = None
    """The stream passes through this program: a libvirt image format, gzip to zstd."""
    channels: int = 0
    """QEMU's threads that write at once; with SPARSE only. 0: not asked for, one."""
    direct: bool = False
    """Past the host's cache; needs channels."""
    gives_up: bool = False
    """With `live`: rather than that the guest stands still for long in the end; NotConverged."""
    completed_later: bool = False
    """By CompleteMemory, which has what need not be done while the guest stands still."""
    job: str = "snapshot"
    """libvirt's name of the job, for messages."""
    label: str = "Snapshot"
    """What the progress is called."""


@dataclass(frozen=True)
class PrepareCapture:
    """All of CaptureMemory that the guest need not stand still for: the file, and QEMU's settings."""

    path: str
    way: MemoryWay
    """A background one."""
    was_running: bool
    domain_xml: str
    cookie_xml: str | None = None


@dataclass(frozen=True)
class CaptureMemory:
    """Begin to write the memory of this instant to a file; the guest may run on meanwhile."""

    path: str


@dataclass(frozen=True)
class CompleteMemory:
    """Wait until the memory that CaptureMemory began to write is there; do what SaveMemory has left to do."""

    path: str


@dataclass(frozen=True)
class OpenMedium:
    """Open an image in the running QEMU for a drive; nothing uses it yet."""

    target: str
    path: str
    format: str
    type: str
    node: int
    """Number of its nodes' names."""


@dataclass(frozen=True)
class ChangeMedium:
    """Put what OpenMedium has opened into a drive instead of what is in it."""

    target: str
    alias: str
    node: int | None
    """None: the drive is empty afterwards."""
    before: str | None
    """The node that is in it now."""
    force: bool
    """Even if the guest has locked the tray."""


@dataclass(frozen=True)
class GuardLayer:
    """No effect of its own; undone, it takes what the guest has written to an overlay back into its base.

    For layers that switch before the operation is decided.
    """

    target: str
    path: str
    format: str
    backing: str
    backing_format: str
    job: str


@dataclass(frozen=True)
class SwitchLayers:
    """Put the attached overlays on top of their disks: one transaction over all of them."""

    disks: tuple[tuple[str, str, int], ...]
    """(target, overlay path, node number)."""


@dataclass(frozen=True)
class ResumeGuest:
    """Let the virtual CPUs run."""

    run_dir: str | None = None
    """Of a QEMU that is not the domain's; None: the domain's own."""


@dataclass(frozen=True)
class SettleGuest:
    """Reopen the disks that writing the memory left inactive, for a guest that stays paused."""

    run_dir: str | None = None


@dataclass(frozen=True)
class SealMemory:
    """Make the memory image durable, then give it the magic that says it is whole."""

    path: str


@dataclass(frozen=True)
class StartQemu:
    """Start a QEMU for the domain, paused. `incoming`: waits for a memory image."""

    id: int
    run_dir: str
    domain_xml: str
    incoming: bool
    memory: MappedMemory | None = None
    """What the guest's memory is a private mapping of; None: memory of its own."""
    own_tpm: bool = False
    """The TPM, if there is one, gets an empty state of its own, to be filled by what is loaded; KeepTpm makes
    it the domain's."""


@dataclass(frozen=True)
class LoadMemory:
    """Read a memory image into the QEMU of `run_dir`; it stays paused."""

    run_dir: str
    path: str
    channels: int = 0
    direct: bool = False
    job: str = "snapshot"
    label: str = "Snapshot revert"
    mapped: bool = False
    """The guest's pages are mapped already: only the rest is read."""


@dataclass(frozen=True)
class MakeTpm:
    """The folder `state` for the TPM of a domain that is not there yet; `folder` holds all of its TPM."""

    folder: str
    state: str


@dataclass(frozen=True)
class KeepTpm:
    """What the TPM of `run_dir` was filled with becomes the domain's state, `path`; the guest is paused."""

    run_dir: str
    path: str


@dataclass(frozen=True)
class RemoveTpm:
    """Delete the folder with all that is kept of a domain's TPM."""

    folder: str


@dataclass(frozen=True)
class KillQemu:
    """End the QEMU of a run folder, with its TPM, and remove the folder."""

    run_dir: str


@dataclass(frozen=True)
class RemoveFile:
    """Delete a file that nothing names any more."""

    path: str


@dataclass(frozen=True)
class MoveFile:
    """Give a finished file its final name; what had that name is gone."""

    source: str
    path: str


@dataclass(frozen=True)
class NoteDisks:
    """Write down what the disks of a managed save look like, so that it is not resumed on others."""

    path: str
    disks: tuple[tuple[str, str, str, str], ...]
    """(target, source in the saved definition, source in the domain's definition now, format)."""


@dataclass(frozen=True)
class MergeImages:
    """Make one image of a run of them.

    `down`: the content of everything above `base` moves into `base`; `top` and what is between go.
    Otherwise up: `top` takes in all down to `below`, the image under the run, or to the bottom.
    """

    target: str
    top: str
    top_format: str
    base: str
    base_format: str
    down: bool
    below: str | None
    below_format: str | None
    job: str
    """Name of the block job, the same after a crash so that it is found again."""
    bytes: int
    """What is copied at most."""


@dataclass(frozen=True)
class RelinkBacking:
    """Point an image that is not open at the new name of the same content below it."""

    path: str
    format: str
    backing: str
    backing_format: str


@dataclass(frozen=True)
class LinkFile:
    """A file gets a second name."""

    path: str
    source: str


@dataclass(frozen=True)
class RestoreFile:
    """A file gets the bytes of another one, all at once."""

    path: str
    source: str


@dataclass(frozen=True)
class GuardTag:
    """No effect of its own; undone, it deletes an internal snapshot that a later step may have made."""

    path: str
    format: str
    name: str
    job: str


@dataclass(frozen=True)
class TagDisks:
    """Internal snapshots of disks of the running domain, without memory, at one instant.

    The plan guards every image with a GuardTag before it.
    """

    name: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class SaveInternal:
    """Memory and the named disks of the running domain into internal snapshots; the guest stands still.

    The plan guards every image with a GuardTag before it.
    """

    name: str
    job: str
    targets: tuple[str, ...]
    memory_target: str
    """The disk whose image also takes the memory."""


@dataclass(frozen=True)
class LoadInternal:
    """Memory and disks of an internal snapshot, in the QEMU of `run_dir`; it stays paused."""

    name: str
    job: str
    run_dir: str
    images: tuple[str, ...]
    """Paths."""
    memory_image: str


@dataclass(frozen=True)
class TagImage:
    """An internal snapshot of an image that is not open."""

    path: str
    format: str
    name: str


@dataclass(frozen=True)
class ApplyTag:
    """An image that is not open goes back to one of its internal snapshots."""

    path: str
    format: str
    name: str


@dataclass(frozen=True)
class CopyImage:
    """A file like another one, with its internal snapshots, for a branch that others must not see."""

    path: str
    source: str


@dataclass(frozen=True)
class DeleteTag:
    """An internal snapshot goes; the image stays as it is."""

    path: str
    format: str
    name: str
    job: str


@dataclass(frozen=True)
class CreateImage:
    """An empty image that stands on nothing. `existed`: the file was there, empty or a block device."""

    path: str
    format: str
    size: int
    existed: bool


@dataclass(frozen=True)
class StartCommit:
    """A block job begins that copies `top` and what is between down into `base`."""

    job: str
    target: str
    top: str
    base: str
    active: bool
    """`top` is what the disk writes to."""
    backing_name: str | None
    """What the header of the image above `top` shall say afterwards; None where there is none."""
    speed: int = 0
    """Bytes per second; 0: no limit."""


@dataclass(frozen=True)
class StartPull:
    """A block job begins that copies into the disk's image what is between it and `base` (None: all)."""

    job: str
    target: str
    base: str | None
    backing_name: str | None
    speed: int = 0


@dataclass(frozen=True)
class StartCopy:
    """A block job begins that copies the disk to node libvirt-`node`-format and keeps the two equal."""

    job: str
    target: str
    node: int
    shallow: bool
    """Only what the top image holds."""
    speed: int = 0
    granularity: int = 0
    buf_size: int = 0
    synchronous: bool = False


@dataclass(frozen=True)
class DropUnusedNodes:
    """QEMU lets go of images that are no part of a disk any more."""


@dataclass(frozen=True)
class StoreWrite:
    """One transaction of the store: all of it or nothing."""

    record: DomainRecord | None = None
    put_snapshots: tuple[Snapshot, ...] = ()
    delete_snapshots: tuple[str, ...] = ()
    set_current: bool = False
    current: str | None = None
    put_images: tuple[tuple[str, ImageRole], ...] = ()
    delete_images: tuple[str, ...] = ()
    put_block_jobs: tuple[BlockJob, ...] = ()
    started: str | None = None
    """Run folder of a QEMU started in this plan: its process becomes the record's instance."""


@dataclass(frozen=True)
class Announce:
    """Tell whoever watches what has happened; never the commit."""

    details: tuple[Detail, ...] = ()
    ended: str | None = None
    """Run folder of a QEMU whose end is told with it."""
    agent_awaited: bool = False
    """The guest has an agent's channel that nobody has opened yet."""


@dataclass(frozen=True)
class NewDomain:
    """A domain that is to come into being, with a snapshot and files of its own."""

    record: DomainRecord
    snapshots: tuple[Snapshot, ...]
    current: str | None
    images: tuple[tuple[str, ImageRole], ...]
    started: str | None = None
    """Run folder of the QEMU that is its instance."""


@dataclass(frozen=True)
class AddDomains:
    """New domains come into being, all of them in one transaction of the store."""

    domains: tuple[NewDomain, ...]


@dataclass(frozen=True)
class ForgetDomain:
    """The domain that the plan is about is no more: the last step of its last plan."""


@dataclass(frozen=True)
class Declare:
    """No effect of its own: the journal's commit record is the commit."""


@dataclass(frozen=True)
class Row:
    """Steps in order, for one of several that an operation makes."""

    subject: str
    """Its name."""
    steps: tuple[Single, ...]


@dataclass(frozen=True)
class Together:
    """Rows of prepare steps that have nothing to do with one another, side by side; never the commit."""

    rows: tuple[Row, ...]


Single = (
    CreateOverlay
    | AttachOverlay
    | OpenMedium
    | ChangeMedium
    | PauseGuest
    | FreezeGuest
    | ThawGuest
    | SaveMemory
    | PrepareCapture
    | CaptureMemory
    | CompleteMemory
    | GuardLayer
    | SwitchLayers
    | ResumeGuest
    | SettleGuest
    | SealMemory
    | StartQemu
    | LoadMemory
    | MakeTpm
    | KeepTpm
    | RemoveTpm
    | KillQemu
    | RemoveFile
    | MoveFile
    | NoteDisks
    | MergeImages
    | RelinkBacking
    | GuardTag
    | TagDisks
    | SaveInternal
    | LoadInternal
    | TagImage
    | ApplyTag
    | CopyImage
    | LinkFile
    | RestoreFile
    | DeleteTag
    | CreateImage
    | StartCommit
    | StartPull
    | StartCopy
    | DropUnusedNodes
    | StoreWrite
    | Announce
    | AddDomains
    | ForgetDomain
    | Declare
)
"""Every kind that is not made of others."""

Step = Single | Together


@dataclass(frozen=True)
class Plan:
    """An operation, decided. `prepare` can be undone, `commit` is one atomic act, `finish` is repeatable."""

    operation: str
    """create, revert or delete."""
    subject: str
    """The snapshot's name."""
    prepare: tuple[Step, ...] = ()
    commit: Step = field(default_factory=Declare)
    finish: tuple[Step, ...] = ()
    forward_if_gone: bool = False
    """QEMU died while the commit was under way and nothing can say whether it happened: go forward. Right
    where the guest was running, and may have written to the new layer; otherwise go back."""
    pause: str = "none"
    """The guest's pause to expect, in words."""
    memory_mode: str = ""
    """How the memory is written, in a word; empty: it is not."""
    memory_reason: str = ""
    """Why not in a way that the guest would notice less."""
    result_reason: Reason | None = None
    """The domain's state afterwards, where the operation changes it."""
    give_up: tuple[Step, ...] = ()
    """What to do instead of the rest of `finish` when a finish step fails for a reason that will not go
    away by itself: it brings the domain to rest in the state that the commit wrote down. Empty: try later."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """All, in order; those that are done side by side, a row after the other."""
        prepare: list[Step] = []
        for step in self.prepare:
            if isinstance(step, Together):
                prepare += (one for row in step.rows for one in row.steps)
            else:
                prepare.append(step)
        return (*prepare, self.commit, *self.finish)
