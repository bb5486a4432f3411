"""Makes two answers comparable: only what must differ between two programs run side by side is replaced.

Folders have names of one length, so tables keep their widths.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}")
_CREATION = re.compile(r"(<creationTime>)\d+(</creationTime>)")
_EPOCH = re.compile(r"(?<!\d)1[6-9]\d{8}(-\d+)?(?!\d)")
_PLAIN = [
    # The socket of a channel that was given none.
    (re.compile(r"""(path=['"])/[^'"]*/(?:channel/\d+-[^'"]*|run/\d+/[^'"]*\.sock)"""), r"\1{socket}"),
    (re.compile(r"/dev/pts/\d+"), "/dev/pts/N"),
    (re.compile(r"(<domain [^>]*id=)'\d+'"), r"\1'N'"),
    (re.compile(r"^(Id: +)\d+$", re.M), r"\1N"),
    # QEMU counts its nodes from the start of its life.
    (re.compile(r"#block\d+"), "#blockN"),
    (re.compile(r"^(CPU time: +)[\d.]+s$", re.M), r"\1N"),
]
_PROGRESS = re.compile(r"[\r\n]*[A-Z][A-Za-z ]+: \[ *\d+(\.\d\d)? %\]\n?")
_LIST_ROW = re.compile(r"^ (?:\d+|(-|Id)) +", re.M)


@dataclass
class Normal:
    """One side of one scenario; it remembers the epoch seconds it saw, which keep their identity."""

    folder: Path
    _epochs: dict[str, str] = field(default_factory=dict)

    def text(self, text: str, command: str) -> str:
        """The answer with everything replaced."""
        text = text.replace(str(self.folder), "{dir}")
        text = _DATE.sub("YYYY-MM-DD HH:MM:SS +ZZZZ", text)
        text = _CREATION.sub(r"\1TIME\2", text)
        text = _EPOCH.sub(self._epoch, text)
        for pattern, by in _PLAIN:
            text = pattern.sub(by, text)
        words = command.split()
        if words[:1] == ["list"]:
            # Numbers of other widths move the columns.
            text = re.sub(r"^-+$", "---", _LIST_ROW.sub(lambda row: f" {row[1] or 'N'}  ", text), flags=re.M)
        if "--verbose" in words:
            # How often a program looked is not what it is asked.
            text = _PROGRESS.sub("", text)
        if words[:1] == ["domid"] or "--id" in words:
            text = re.sub(r"^\d+$", "N", text, flags=re.M)
        return text

    def _epoch(self, found: re.Match[str]) -> str:
        return self._epochs.setdefault(found[0], f"EPOCH{len(self._epochs) + 1}")
