"""A QEMU command line reduced to what the guest can see, so that libvirt's and ours compare equal."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

Option = tuple[str, str]

_UNSEEN = {"-no-shutdown", "-action", "-mon", "-S", "-msg", "-sandbox", "-name", "-incoming"}


def pairs(argv: Sequence[str]) -> list[Option]:
    """(option, value) for each option; the value is empty where there is none."""
    found: list[Option] = []
    words = list(argv[1:])
    while words:
        option = words.pop(0)
        takes = words and (option == "-append" or not words[0].startswith("-"))
        found.append((option, words.pop(0) if takes else ""))
    return found


def reduce(options: Sequence[Option]) -> list[str]:
    """The guest's machine, one line an option, in the order of the command line."""
    lines: list[str] = []
    for option, value in options:
        if option in _UNSEEN or "masterKey0" in value or "charmonitor" in value or "charevents" in value:
            continue
        if option in ("-blockdev",) and _raw_format(value):
            continue
        lines.append(f"{option} {_value(option, value)}".strip())
    return lines


def _raw_format(value: str) -> bool:
    # libvirt has no node for the format of a raw image
    node = json.loads(value)
    return bool(node["driver"] == "raw")


def _value(option: str, value: str) -> str:
    if value.startswith("{"):
        return json.dumps(_json(option, json.loads(value)), sort_keys=True)
    if option == "-vnc":
        value = value.replace(",to=9999", "")
    if option == "-chardev":
        value = re.sub(r"path=\S*/(?:org\.|channel\d|vioser)[^,]*", "path=GENERATED", value)
    if option == "-machine":
        value = re.sub(r"(pflash\d=libvirt-pflash\d)-(storage|format)", r"\1", value)
    if option == "-rtc" and re.match(r"base=\d", value):
        value = "base=SOME TIME"
    return value


def _json(option: str, value: dict[str, object]) -> dict[str, object]:
    if option == "-netdev":
        return {"id": value["id"]}
    if option == "-blockdev":
        # How a file is opened is the host's business; which file it is, and for which node, is not.
        keep = ("filename", "file", "backing") if "filename" in value else ("driver", "file", "read-only")
        return {"node-name": value["node-name"], **{k: value[k] for k in keep if k in value}} | (
            {} if value.get("backing") is None else {"backing": value["backing"]}
        )
    if "netdev" in value:
        # domxml-to-native loses <boot order> of network cards; a domain that is started has it.
        value = {k: v for k, v in value.items() if k != "bootindex"}
    drive = value.get("drive")
    if isinstance(drive, str):
        value = {**value, "drive": re.sub("-(storage|format)$", "", drive)}
    return value
