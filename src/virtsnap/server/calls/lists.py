"""What there is nothing of: networks, host devices, filters, secrets. Tools ask at their start."""

from __future__ import annotations

from uuid import UUID

from virtsnap.server.session import Session
from virtsnap.wire.errors import FROM_NETWORK, FROM_NODEDEV, WireError

NO_NETWORK, NO_NODE_DEVICE = 43, 53


async def _none(session: Session, need_results: int, flags: int) -> tuple[list[object], int]:
    return [], 0


async def _no_number(session: Session) -> int:
    return 0


async def _no_names(session: Session, maxnames: int) -> list[str]:
    return []


connect_list_all_networks = _none
connect_list_all_node_devices = _none
connect_list_all_nwfilters = _none
connect_list_all_nwfilter_bindings = _none
connect_list_all_secrets = _none
connect_list_all_interfaces = _none
connect_num_of_networks = _no_number
connect_num_of_defined_networks = _no_number
connect_num_of_interfaces = _no_number
connect_num_of_defined_interfaces = _no_number
connect_num_of_secrets = _no_number
connect_num_of_nwfilters = _no_number
connect_list_networks = _no_names
connect_list_interfaces = _no_names
connect_list_defined_interfaces = _no_names
connect_list_secrets = _no_names
connect_list_nwfilters = _no_names
connect_list_defined_networks = _no_names


async def node_num_of_devices(session: Session, cap: str | None, flags: int) -> int:
    return 0


async def node_list_devices(session: Session, cap: str | None, maxnames: int, flags: int) -> list[str]:
    return []


async def node_device_lookup_by_name(session: Session, name: str) -> object:
    raise WireError(
        NO_NODE_DEVICE,
        FROM_NODEDEV,
        f"Node device not found: no node device with matching name '{name}'",
    )


async def network_lookup_by_name(session: Session, name: str) -> object:
    raise WireError(NO_NETWORK, FROM_NETWORK, f"Network not found: no network with matching name '{name}'")


async def network_lookup_by_uuid(session: Session, uuid: bytes) -> object:
    raise WireError(
        NO_NETWORK, FROM_NETWORK, f"Network not found: no network with matching uuid '{UUID(bytes=uuid)}'"
    )
