"""Comma separated option values (--memspec, --diskspec, --mode), and the snapshot XML they stand for.

Text in, text out. Values are passed on unchecked but for what the XML could not say: the service judges.
"""

from __future__ import annotations

from collections.abc import Sequence

from virtsnap.cli.errors import CliError


def split_commas(text: str) -> list[str]:
    """Cut at commas; a doubled comma is a comma."""
    pieces = [""]
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char != ",":
            pieces[-1] += char
        elif text.startswith(",", position):
            pieces[-1] += ","
            position += 1
        else:
            pieces.append("")
    return pieces


def snapshot_xml(
    name: str | None, description: str | None, memspec: str | None, diskspecs: Sequence[str]
) -> str:
    """The `<domainsnapshot>` that snapshot-create-as sends. Raises CliError for a spec that is wrong."""
    lines = ["<domainsnapshot>"]
    if name is not None:
        lines.append(f"  <name>{_text(name)}</name>")
    if description is not None:
        lines.append(f"  <description>{_text(description)}</description>")
    if memspec is not None:
        lines.append(_memory(memspec))
    if diskspecs:
        lines.append("  <disks>")
        for spec in diskspecs:
            lines.extend(_disk(spec))
        lines.append("  </disks>")
    lines.append("</domainsnapshot>")
    return "\n".join(lines) + "\n"


def _memory(spec: str) -> str:
    complaint = CliError(f"unable to parse memspec: {spec}")
    path: str | None = None
    location: str | None = None
    mode: str | None = None
    for field in split_commas(spec):
        if path is None and field.startswith("file="):
            path = field[5:]
        elif location is None and field.startswith("snapshot="):
            location = field[9:]
        elif mode is None and field.startswith("mode="):
            mode = field[5:]
        elif path is None and field.startswith("/"):
            path = field
        else:
            raise complaint
    attributes = _attributes((("snapshot", location), ("file", path), ("mode", mode)))
    return f"  <memory{attributes}/>"


def _disk(spec: str) -> list[str]:
    complaint = f"unable to parse diskspec: {spec}"
    disk, *fields = split_commas(spec)
    found: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals or key not in ("snapshot", "driver", "stype", "file") or key in found:
            raise CliError(complaint)
        found[key] = value
    kind = found.get("stype")
    if not disk:
        raise CliError(complaint)
    if kind not in (None, "file", "block"):
        raise CliError(f"Unknown storage type: '{kind}'", complaint)
    head = "    <disk" + _attributes((("name", disk), ("snapshot", found.get("snapshot")), ("type", kind)))
    if "driver" not in found and "file" not in found:
        return [head + "/>"]
    lines = [head + ">"]
    if "driver" in found:
        lines.append(f"      <driver{_attributes((('type', found['driver']),))}/>")
    if "file" in found:
        attribute = "dev" if kind == "block" else "file"
        lines.append(f"      <source{_attributes(((attribute, found['file']),))}/>")
    lines.append("    </disk>")
    return lines


def _attributes(pairs: Sequence[tuple[str, str | None]]) -> str:
    return "".join(f" {name}='{_text(value)}'" for name, value in pairs if value is not None)


def _text(text: str) -> str:
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&apos;")):
        text = text.replace(char, entity)
    return text
