"""A forest drawn as virsh draws it, with the blanks that virsh leaves at the ends of its lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def forest(parents: Mapping[str, str | None]) -> str:
    """Draw every name under its parent. Names without a known parent are roots. Order among siblings
    is the mapping's. No recursion: a chain may be long."""
    children: dict[str, list[str]] = {}
    roots: list[str] = []
    for name, parent in parents.items():
        if parent is None or parent not in parents:
            roots.append(name)
        else:
            children.setdefault(parent, []).append(name)
    return "".join(line + "\n" for root in roots for line in _tree(root, children))


def _tree(root: str, children: Mapping[str, Sequence[str]]) -> list[str]:
    lines = [root]
    below = children.get(root, ())
    if not below:
        return [root, ""]
    lines.append("  |")
    pending = [(child, "  ", child is below[-1]) for child in reversed(below)]
    while pending:
        name, indent, last = pending.pop()
        lines.append(f"{indent}+- {name}")
        below = children.get(name, ())
        if below:
            inner = indent + ("    " if last else "|   ")
            lines.append(inner + "|")
            pending.extend((child, inner, child is below[-1]) for child in reversed(below))
        elif last:
            lines.append(indent + "  ")
    return lines
