"""Values around starting QEMU: what the definition does not say, and what comes out.

`Launch` and `Layer` go into `command_line.command_line`; `CommandLine` comes out. Descriptors are numbers
as the new process will know them; who opens and passes them is the `qemu` package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from virtsnap.model.facts import MappedMemory
from virtsnap.model.frozen import dataclass


@dataclass(frozen=True)
class Layer:
    """One image of a backing chain."""

    path: str
    format: str
    type: str = "file"
    """'file' or 'block'."""


@dataclass(frozen=True)
class Launch:
    """What starting one QEMU process takes besides the definition."""

    run_dir: str
    """Folder for the sockets of character devices that name no path."""
    monitor_fd: int | None = None
    """A listening unix socket for the QMP monitor 'monitor'."""
    query_fd: int | None = None
    """Another one, for the monitor 'query'."""
    tpm_fd: int | None = None
    """A unix socket whose other end is the TPM's control channel."""
    events_path: str | None = None
    """File to which a third monitor writes everything that happens, as a log."""
    hello_path: str | None = None
    """What that monitor reads: the file must hold the command that opens a QMP session."""
    chains: Mapping[str, tuple[Layer, ...]] = field(default_factory=dict)
    """Target -> images, top first. A disk that is not named is its own source alone."""
    incoming: bool = False
    """Wait for a migration stream instead of booting."""
    memory: MappedMemory | None = None
    """The guest's memory is a private mapping of this part of a file."""
    qemu_version: tuple[int, int, int] = (10, 0, 0)
    seccomp: bool = True
    """Confine the process with QEMU's seccomp sandbox."""
    gen_id: str | None = None
    """VM generation id to show instead of the definition's."""
    now: int = 0
    """Seconds since the epoch; needed for a clock that keeps its distance from the host's."""
    timezone_offset: int = 0
    """Seconds east of UTC of a clock in a named time zone."""


@dataclass(frozen=True)
class CommandLine:
    """How to start QEMU."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """Variables to add to the environment (from qemu:commandline)."""
    chardevs: Mapping[str, str]
    """Alias of a serial port, console or channel -> id of its character device."""
    sockets: Mapping[str, str]
    """Alias -> path of the unix socket that QEMU will listen on."""
    node_indexes: Mapping[str, int]
    """Target -> N of its top nodes libvirt-N-format and libvirt-N-storage; a layer below counts one up."""
    commands: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """QMP commands to run before the guest does: what no option of QEMU's says."""


Json = dict[str, Any]
