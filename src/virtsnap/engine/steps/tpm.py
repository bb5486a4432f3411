"""Steps on the state of a domain's TPM. Its process is started and ended with QEMU's (`engine.launch`)."""

from __future__ import annotations

from virtsnap.engine import swtpm
from virtsnap.engine.steps.base import Irreversible, Undoable
from virtsnap.engine.world import World
from virtsnap.model import steps as s
from virtsnap.model.errors import ErrorCode, Failed


class MakeTpm(Undoable):
    """A folder for the state of a new domain's TPM."""

    async def do(self, world: World, step: s.MakeTpm, /) -> None:
        """Make it."""
        try:
            swtpm.make_folder(step.state)
        except OSError as error:
            raise Failed(
                f"Could not create TPM directory {step.state}: {error.strerror}", code=ErrorCode.SYSTEM_ERROR
            ) from error

    async def undo(self, world: World, step: s.MakeTpm, /) -> None:
        """Delete it with all that later steps have put into it."""
        swtpm.remove(step.folder)


class KeepTpm(Irreversible):
    """The state that a TPM was loaded with is the domain's."""

    async def do(self, world: World, step: s.KeepTpm, /) -> None:
        """Copy it, and let the TPM write there from now on."""
        swtpm.keep(step.run_dir, step.path)


class RemoveTpm(Irreversible):
    """Nothing of a TPM."""

    async def do(self, world: World, step: s.RemoveTpm, /) -> None:
        """Delete it; quiet when it is gone."""
        swtpm.remove(step.folder)
