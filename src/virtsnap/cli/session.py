"""What a running command has in hand: the service, the two streams, and the options before the command.

Everything that is printed goes through here, so that `--quiet` and the order of stdout and stderr are
decided in one place.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from virtsnap.cli.errors import CliError
from virtsnap.model.errors import NoDomain, VirtsnapError

if TYPE_CHECKING:
    from virtsnap.cli.args import Args
    from virtsnap.service.interface import DomainHandle, Progress, Service


@dataclass
class Settings:
    """The options that stand before the command."""

    uri: str | None = None
    readonly: bool = False
    quiet: bool = False
    json: bool = False
    timing: bool = False
    escape: str = "^]"


class Session:
    """One run of the program: its settings, its streams, and the service once a command needs it."""

    def __init__(self, settings: Settings, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.settings = settings
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._service: Service | None = None
        self._progress_shown = False
        self.leave = False
        """Set by quit and exit: no further command is run."""

    def print(self, text: str) -> None:
        """Write the result of a command, as it stands."""
        self._out.write(text)

    def extra(self, text: str) -> None:
        """Write what --quiet keeps back, as it stands."""
        if not self.settings.quiet:
            self._out.write(text)

    def json(self, value: object) -> None:
        """Write a JSON document and a newline."""
        import json

        json.dump(value, self._out, indent=2, ensure_ascii=False)
        self._out.write("\n")

    def wants_json(self, args: Args) -> bool:
        """--json stands before or behind the command."""
        return self.settings.json or args.has("json")

    def complain(self, *lines: str) -> None:
        """Write error lines to stderr, after all that stdout has so far."""
        self.end_progress()
        self._out.flush()
        for line in lines:
            self._err.write(f"error: {line}\n")
        self._err.flush()

    @property
    def watched(self) -> bool:
        """Somebody sees stderr: progress and hints are welcome."""
        return self._err.isatty() and not self.settings.quiet

    def hint(self, text: str) -> None:
        """Tell whoever watches something that is neither result nor error."""
        if self.watched:
            self.end_progress()
            self._out.flush()
            self._err.write(f"hint: {text}\n")
            self._err.flush()

    @contextmanager
    def explaining(self, line: str) -> Iterator[None]:
        """Print `line` as an error when the service refuses or fails within; the error goes on."""
        try:
            yield
        except VirtsnapError:
            self.complain(line)
            raise

    async def service(self) -> Service:
        """The service of the connection, opened at first use."""
        if self._service is None:
            from virtsnap.api.connect import open_service

            with self.explaining("failed to connect to the hypervisor"):
                self._service = await open_service(self.settings.uri, self.settings.readonly)
        return self._service

    async def reconnect(self, uri: str | None, readonly: bool) -> None:
        """Leave the present connection for another one."""
        await self.close()
        self.settings.uri = uri
        self.settings.readonly = readonly
        await self.service()

    async def close(self) -> None:
        """Let go of the service, if there is one."""
        service, self._service = self._service, None
        if service is not None:
            await service.close()

    async def domain(
        self, args: Args, *, by_id: bool = True, by_uuid: bool = True, by_name: bool = True
    ) -> DomainHandle:
        """The domain that --domain names: an id, a uuid or a name, tried in virsh's order."""
        word = args.required("domain")
        service = await self.service()
        if by_id and word.isascii() and word.isdigit() and int(word) < 1 << 31:
            with suppress(NoDomain):  # A name may be all digits.
                return await service.lookup_by_id(int(word))
        if by_uuid and _looks_like_uuid(word):
            with suppress(NoDomain):  # A name may look like a uuid.
                return await service.lookup_by_uuid(word)
        if by_name:
            with suppress(NoDomain):  # Said below in virsh's words, whatever was tried.
                return await service.lookup_by_name(word)
        raise CliError(f"failed to get domain '{word}'")

    def progress(self, progress: Progress) -> None:
        """Show how far a step is, on stderr, when that is a terminal."""
        if not self._err.isatty() or progress.total <= 0:
            return
        percent = 100.0 * progress.done / progress.total
        # virsh shows 100 only when nothing remains.
        percent = 100.0 if progress.done >= progress.total else min(percent, 99.99)
        self._out.flush()
        self._err.write(f"\r{progress.label}: [{percent:5.2f} %]")
        self._err.flush()
        self._progress_shown = True

    def told_progress(self, progress: Progress) -> None:
        """The same wherever stderr goes, for who asked to be told (--verbose)."""
        percent = 100.0 * progress.done / progress.total if progress.total > 0 else 0.0
        percent = 100.0 if 0 < progress.total <= progress.done else min(percent, 99.99)
        self._out.flush()
        self._err.write(f"\r{progress.label}: [{percent:5.2f} %]")
        self._err.flush()
        self._progress_shown = True

    def leave_progress(self) -> None:
        """Leave the line that `progress` wrote open: what follows goes on behind it."""
        self._progress_shown = False

    def end_progress(self) -> None:
        """Close the line that `progress` left open."""
        if self._progress_shown:
            self._progress_shown = False
            self._err.write("\n")
            self._err.flush()

    def flush(self) -> None:
        """Push out what is written so far."""
        self._out.flush()


def _looks_like_uuid(word: str) -> bool:
    # virsh takes the form with dashes only.
    return len(word) == 36 and all(char in "0123456789abcdefABCDEF-" for char in word)
