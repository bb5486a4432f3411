"""The calls that change what a domain has: of its definition, and the media of its drives."""

from __future__ import annotations

from virtsnap.server.session import Session
from virtsnap.wire.values import WireDomain

_LIVE = 1


async def domain_attach_device(session: Session, dom: WireDomain, xml: str) -> None:
    await session.service.attach_device(dom.uuid_text, xml, _LIVE)


async def domain_attach_device_flags(session: Session, dom: WireDomain, xml: str, flags: int) -> None:
    await session.service.attach_device(dom.uuid_text, xml, flags)


async def domain_detach_device(session: Session, dom: WireDomain, xml: str) -> None:
    await session.service.detach_device(dom.uuid_text, xml, _LIVE)


async def domain_detach_device_flags(session: Session, dom: WireDomain, xml: str, flags: int) -> None:
    await session.service.detach_device(dom.uuid_text, xml, flags)


async def domain_detach_device_alias(session: Session, dom: WireDomain, alias: str, flags: int) -> None:
    await session.service.detach_device_alias(dom.uuid_text, alias, flags)


async def domain_update_device_flags(session: Session, dom: WireDomain, xml: str, flags: int) -> None:
    await session.service.update_device(dom.uuid_text, xml, flags)
