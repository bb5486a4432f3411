"""How a command fails: one exception that carries the lines a user sees.

Errors of the service (`virtsnap.model.errors`) are not wrapped: `cli.runner` prints them after the
command's own line, the way virsh does ("error: Failed to ..." and then "error: <library text>").
"""

from __future__ import annotations


class CliError(Exception):
    """A command cannot go on. Each line is printed to stderr behind `error: `."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class UsageError(CliError):
    """The command line itself is wrong: nothing of it is run."""
