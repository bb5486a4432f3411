"""An editor for XML: a private temporary file, $VISUAL or $EDITOR, and the question what to do when the
result is refused."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from virtsnap.cli.errors import CliError
from virtsnap.cli.files import read_text
from virtsnap.cli.session import Session
from virtsnap.model.errors import VirtsnapError

_HELP = {
    "y": "yes, start editor again",
    "n": "no, throw away my changes",
    "i": "turn off validation and try to redefine again",
    "f": "force, try to redefine again",
    "?": "print this help",
}

Apply = Callable[[str], Awaitable[None]]
"""Takes the new text. Raises VirtsnapError to refuse it."""

Fetch = Callable[[], Awaitable[str]]


async def edit(
    session: Session, fetch: Fetch, apply: Apply, *, relaxed: Apply | None = None, always: bool = False
) -> bool:
    """Let the user edit what `fetch` gives, and `apply` the result. False: it came back unchanged.

    `relaxed` is offered for what `apply` refuses; chosen once, it stays. `always`: apply also what is
    unchanged. When the original has changed meanwhile, the edit is not laid over it but
    by the user's word. Raises CliError when the user gives up, or cannot be asked.
    """
    text = await fetch()
    with tempfile.TemporaryDirectory(prefix="virtsnap") as directory:
        path = str(Path(directory, "edit.xml"))
        Path(path).write_text(text)
        answer, offered = "y", False
        while True:
            if answer == "y":
                offered = relaxed is not None
                _run_editor(path)
            elif answer == "i" and relaxed is not None:
                apply, offered = relaxed, False
            changed = read_text(path)
            if changed == text and not always:
                return False
            try:
                if answer != "f" and await fetch() != text:
                    session.complain("the XML configuration was changed by another user")
                else:
                    await apply(changed)
                    return True
            except VirtsnapError as error:
                session.complain(str(error))
            answer = _ask(session, "ynif?" if offered else "ynf?")


def _run_editor(path: str) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    command = [*shlex.split(editor), path]
    try:
        status = subprocess.run(command, check=False).returncode
    except OSError as error:
        raise CliError(f"{command[0]}: {error.strerror}") from error
    if status != 0:
        raise CliError(f"{editor} exited with non-zero status {status}")


def _ask(session: Session, offered: str) -> str:
    """One of `offered`, but n, which raises CliError; so does nobody being there to ask."""
    if not sys.stdin.isatty():
        raise CliError("Failed.")
    while True:
        session.print(f"Failed. Try again? [{','.join(offered)}]: ")
        session.flush()
        answer = sys.stdin.readline().strip()
        if answer in ("", "n"):
            raise CliError("Failed.")
        if answer == "?":
            session.print("".join(f"{letter} - {_HELP[letter]}\n" for letter in offered))
        elif answer in offered:
            return answer
