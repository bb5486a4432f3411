"""Calls that are answered on the spot, as soon as their bytes have come: most of what monitors ask.

Such a call only looks, and what it looks at is known (`engine.glance`). A task for it, and the turns of the
event loop until that task is done, would be most of its cost. Whatever is not so goes the usual way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from virtsnap.wire.procedures import REMOTE

_NAMES = """
connect_get_type connect_get_lib_version connect_get_uri connect_is_secure
connect_list_all_domains connect_list_domains connect_list_defined_domains
connect_num_of_domains connect_num_of_defined_domains
domain_lookup_by_id domain_lookup_by_name domain_lookup_by_uuid
domain_get_state domain_get_info domain_get_xml_desc domain_get_os_type domain_get_max_memory
domain_get_max_vcpus domain_get_autostart domain_is_active domain_is_persistent domain_is_updated
domain_list_all_snapshots domain_snapshot_list_names domain_snapshot_num domain_has_current_snapshot
domain_snapshot_current domain_snapshot_lookup_by_name domain_snapshot_get_parent
domain_snapshot_is_current domain_snapshot_num_children domain_snapshot_list_children_names
domain_snapshot_list_all_children domain_snapshot_get_xml_desc
"""
AT_ONCE = {REMOTE[name].number: REMOTE[name] for name in _NAMES.split()}
"""By their numbers. They wait for nothing but the service's `look`, and for what QEMU says of its balloon."""


class HastyReader(asyncio.StreamReader):
    """Shows what comes to `first`, which takes it (True) or leaves it to whoever reads."""

    first: Callable[[bytes], bool] | None = None

    def feed_data(self, data: Any) -> None:
        """As ever."""
        if self.first is None or not self.first(data):
            super().feed_data(data)
