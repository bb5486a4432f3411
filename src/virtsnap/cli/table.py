"""Tables and label blocks as virsh lays them out. Text in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def printable(text: str) -> str:
    """Control and unprintable characters as \\xNN of their UTF-8 bytes."""
    if text.isascii() and text.isprintable():
        return text
    from unicodedata import category

    shown = []
    for char in text:
        # The C library counts every kind of space as printable, Python only the plain one.
        if char.isprintable() or category(char) == "Zs":
            shown.append(char)
        else:
            shown.extend(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
    return "".join(shown)


def width(text: str) -> int:
    """Columns that the text takes on a terminal: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, quiet: bool = False) -> str:
    """A table with its header and a line of dashes; `quiet`: the rows alone.

    A cell has one space before it and is padded to its column's width plus two; the last is not padded.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    if not quiet:
        cells.insert(0, list(header))
    widths = [max((width(row[column]) for row in cells), default=0) for column in range(len(header))]
    lines = []
    for row in cells:
        padded = [" " + cell + " " * (w - width(cell) + 2) for cell, w in zip(row, widths, strict=True)]
        padded[-1] = " " + row[-1]
        lines.append("".join(padded))
    if not quiet:
        lines.insert(1, "-" * sum(w + 3 for w in widths))
    return "".join(line + "\n" for line in lines)


def info(label: str, value: object) -> str:
    """One line of an info block: the label padded to 15 columns."""
    return f"{label:<15} {value}\n"


def pretty_bytes(count: int) -> str:
    """A size in the largest binary unit that leaves at least 1, with three decimals."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024:
            return f"{value:.3f} {unit}"
        value /= 1024
    return f"{value:.3f} EiB"
