"""From a URI to a service. The only place of this layer that names an implementation."""

from __future__ import annotations

from virtsnap.api.uri import EmbedTarget, given_uri, parse_uri
from virtsnap.service.interface import Service


async def open_service(uri: str | None = None, readonly: bool = False) -> Service:
    """Open what the URI names. Raises InvalidArg for a URI that is not understood, SystemRefused when
    its directory cannot be used."""
    target = parse_uri(uri)
    if not isinstance(target, EmbedTarget):
        from virtsnap.client.channel import Channel
        from virtsnap.client.service import RemoteService

        return RemoteService(await Channel.open(target, readonly=readonly), given_uri(uri))
    # Imported here: it brings in the engine, which a wrong URI does not need.
    from virtsnap.service.local import open_local

    return await open_local(target.root, readonly)
