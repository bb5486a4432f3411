"""The calls that talk to the guest's agent, or straight to QEMU."""

from __future__ import annotations

import json
from typing import Any

from virtsnap.model.errors import InternalRefused
from virtsnap.server.calls.flags import only
from virtsnap.server.session import Session
from virtsnap.wire.values import WireDomain

_SECOND = 1_000_000_000


async def domain_monitor_command(session: Session, dom: WireDomain, cmd: str, flags: int) -> str:
    return await session.service.qemu_monitor_command(dom.uuid_text, cmd, flags)


async def domain_agent_command(
    session: Session, dom: WireDomain, cmd: str, timeout: int, flags: int
) -> str | None:
    only(flags, 0, "qemuDomainQemuAgentCommand")
    return await session.service.qemu_agent_command(dom.uuid_text, cmd, timeout, flags)


async def domain_fsfreeze(session: Session, dom: WireDomain, mountpoints: list[str], flags: int) -> int:
    only(flags, 0, "qemuDomainFSFreeze")
    if mountpoints:
        return int(await _ask(session, dom, "guest-fsfreeze-freeze-list", mountpoints=mountpoints))
    return int(await _ask(session, dom, "guest-fsfreeze-freeze"))


async def domain_fsthaw(session: Session, dom: WireDomain, mountpoints: list[str], flags: int) -> int:
    only(flags, 0, "qemuDomainFSThaw")
    return int(await _ask(session, dom, "guest-fsfreeze-thaw"))


async def domain_fstrim(
    session: Session, dom: WireDomain, mountpoint: str | None, minimum: int, flags: int
) -> None:
    only(flags, 0, "qemuDomainFSTrim")
    if mountpoint is not None:
        raise InternalRefused("Specifying mount point is not supported for now")
    await _ask(session, dom, "guest-fstrim", minimum=minimum)


async def domain_get_time(session: Session, dom: WireDomain, flags: int) -> tuple[int, int]:
    only(flags, 0, "qemuDomainGetTime")
    seconds, rest = divmod(int(await _ask(session, dom, "guest-get-time")), _SECOND)
    return seconds, rest


async def domain_set_time(session: Session, dom: WireDomain, seconds: int, nseconds: int, flags: int) -> None:
    only(flags, 1, "qemuDomainSetTime")
    if flags:
        await _ask(session, dom, "guest-set-time")  # from the guest's own clock
    else:
        await _ask(session, dom, "guest-set-time", time=seconds * _SECOND + nseconds)


async def domain_get_hostname(session: Session, dom: WireDomain, flags: int) -> str:
    only(flags, 3, "qemuDomainGetHostname")
    return str((await _ask(session, dom, "guest-get-host-name"))["host-name"])


async def _ask(session: Session, dom: WireDomain, execute: str, **arguments: object) -> Any:
    command = {"execute": execute} | ({"arguments": arguments} if arguments else {})
    answer = await session.service.qemu_agent_command(dom.uuid_text, json.dumps(command))
    return json.loads(answer or "{}").get("return")
