"""screenshot: what the guest shows, into a file."""

from __future__ import annotations

import time

from virtsnap.cli.args import Args
from virtsnap.cli.files import write_bytes
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, Command, number, string

_ENDINGS = {"image/png": ".png", "image/x-portable-pixmap": ".ppm"}


async def _screenshot(session: Session, args: Args) -> None:
    screen = args.number("screen") or 0
    path = args.string("file")
    domain = await session.domain(args)
    service = await session.service()
    with session.explaining(f"could not take a screenshot of {domain.name}"):
        mime, picture = await service.screenshot(domain.uuid, screen)
    if path is None:
        stamp = time.strftime("%Y-%m-%d-%H:%M:%S", time.localtime())
        # A name cannot contain a slash, but say so here too: it becomes part of a path.
        path = f"{domain.name.replace('/', '_')}-{stamp}{_ENDINGS.get(mime, '')}"
    write_bytes(path, picture)
    session.extra(f"Screenshot saved to {path}, with type of {mime}")


COMMANDS = {
    "screenshot": Command(
        _screenshot,
        (
            DOMAIN,
            string("file", "where to store the screenshot", tolerated=True),
            number("screen", "ID of a screen to take screenshot of"),
        ),
        "screenshot of a current domain console",
        ("screenshot demo", "screenshot demo /tmp/demo.png"),
    )
}
