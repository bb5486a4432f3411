"""How QEMU's options are spelled: comma lists with escapes, and compact JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def escape(value: str) -> str:
    """A value inside a comma list: QEMU wants commas doubled."""
    return value.replace(",", ",,")


def to_json(properties: Mapping[str, Any]) -> str:
    """JSON on one line. None values are left out."""
    return json.dumps(
        {key: value for key, value in properties.items() if value is not None},
        separators=(",", ":"),
        ensure_ascii=False,
    )


def device(properties: Mapping[str, Any]) -> list[str]:
    """`-device` in JSON (QEMU >= 6.2)."""
    return ["-device", to_json(properties)]


def backend(kind: str, properties: Mapping[str, Any]) -> list[str]:
    """`-object` in JSON."""
    return ["-object", to_json({"qom-type": kind, **properties})]
