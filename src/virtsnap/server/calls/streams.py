"""The calls whose answer is followed by a stream, or by a file descriptor."""

from __future__ import annotations

from virtsnap.server.calls.flags import only
from virtsnap.server.descriptors import Passed
from virtsnap.server.session import Session
from virtsnap.server.streams import BytesSource, Stream
from virtsnap.wire.values import WireDomain

_FORCE = 1


async def domain_open_console(
    session: Session, stream: Stream, dom: WireDomain, dev_name: str | None, flags: int
) -> None:
    only(flags, 3, "qemuDomainOpenConsole")  # SAFE, which every console here is, and FORCE
    path = await session.service.console_path(dom.uuid_text, dev_name)
    stream.source = await session.consoles.open(path, force=bool(flags & _FORCE))


async def domain_screenshot(
    session: Session, stream: Stream, dom: WireDomain, screen: int, flags: int
) -> str:
    only(flags, 0, "qemuDomainScreenshot")
    mime, picture = await session.service.screenshot(dom.uuid_text, screen)
    stream.source = BytesSource(picture)
    return mime


async def domain_open_graphics_fd(session: Session, dom: WireDomain, idx: int, flags: int) -> Passed:
    return Passed((await session.service.open_graphics(dom.uuid_text, idx, flags),))
