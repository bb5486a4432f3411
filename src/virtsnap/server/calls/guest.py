"""The calls that talk to the guest's agent, or straight to QEMU. What the guest says of itself at length is
`virtsnap.server.calls.guest_info`'s."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from virtsnap.model.errors import InternalRefused, InvalidArg
from virtsnap.server.calls.flags import only
from virtsnap.server.session import Session
from virtsnap.wire.values import STRING, Param, WireDomain

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
        return int(await ask(session, dom, "guest-fsfreeze-freeze-list", mountpoints=mountpoints))
    return int(await ask(session, dom, "guest-fsfreeze-freeze"))


async def domain_fsthaw(session: Session, dom: WireDomain, mountpoints: list[str], flags: int) -> int:
    only(flags, 0, "qemuDomainFSThaw")
    return int(await ask(session, dom, "guest-fsfreeze-thaw"))


async def domain_fstrim(
    session: Session, dom: WireDomain, mountpoint: str | None, minimum: int, flags: int
) -> None:
    only(flags, 0, "qemuDomainFSTrim")
    if mountpoint is not None:
        raise InternalRefused("Specifying mount point is not supported for now")
    await ask(session, dom, "guest-fstrim", minimum=minimum)


async def domain_get_time(session: Session, dom: WireDomain, flags: int) -> tuple[int, int]:
    only(flags, 0, "qemuDomainGetTime")
    seconds, rest = divmod(int(await ask(session, dom, "guest-get-time")), _SECOND)
    return seconds, rest


async def domain_set_time(session: Session, dom: WireDomain, seconds: int, nseconds: int, flags: int) -> None:
    only(flags, 1, "qemuDomainSetTime")
    if flags:
        await ask(session, dom, "guest-set-time")  # from the guest's own clock
    else:
        await ask(session, dom, "guest-set-time", time=seconds * _SECOND + nseconds)


async def domain_get_hostname(session: Session, dom: WireDomain, flags: int) -> str:
    only(flags, 3, "qemuDomainGetHostname")
    return str((await ask(session, dom, "guest-get-host-name"))["host-name"])


async def domain_set_user_password(
    session: Session, dom: WireDomain, user: str | None, password: str | None, flags: int
) -> None:
    only(flags, 1, "qemuDomainSetUserPassword")  # ENCRYPTED
    if user is None or password is None:
        what = "user" if user is None else "password"
        raise InvalidArg(f"{what} in virDomainSetUserPassword must not be NULL")
    encoded = base64.b64encode(password.encode("utf-8", "surrogateescape")).decode()
    await ask(session, dom, "guest-set-user-password", username=user, password=encoded, crypted=bool(flags))


async def domain_authorized_ssh_keys_get(
    session: Session, dom: WireDomain, user: str, flags: int
) -> list[str]:
    only(flags, 0, "qemuDomainAuthorizedSSHKeysGet")
    return list((await ask(session, dom, "guest-ssh-get-authorized-keys", username=user))["keys"])


async def domain_authorized_ssh_keys_set(
    session: Session, dom: WireDomain, user: str, keys: list[str], flags: int
) -> None:
    only(flags, 3, "qemuDomainAuthorizedSSHKeysSet")  # APPEND, REMOVE
    if flags == 3:
        raise InvalidArg("append and remove are exclusive")
    if flags & 2:
        await ask(session, dom, "guest-ssh-remove-authorized-keys", username=user, keys=keys)
    else:
        reset = not flags
        await ask(session, dom, "guest-ssh-add-authorized-keys", username=user, keys=keys, reset=reset)


async def domain_get_guest_vcpus(session: Session, dom: WireDomain, flags: int) -> list[Param]:
    only(flags, 0, "qemuDomainGetGuestVcpus")
    found = await ask(session, dom, "guest-get-vcpus")
    groups = {
        "vcpus": found,
        "online": [one for one in found if one["online"]],
        "offlinable": [one for one in found if one.get("can-offline")],
    }
    return [
        Param(name, STRING, _ranges([int(one["logical-id"]) for one in group]))
        for name, group in groups.items()
    ]


async def domain_set_guest_vcpus(
    session: Session, dom: WireDomain, cpumap: str, state: int, flags: int
) -> None:
    only(flags, 0, "qemuDomainSetGuestVcpus")
    if state not in (0, 1):
        raise InvalidArg("unsupported state value")
    wanted = _numbers(cpumap)
    known = {int(one["logical-id"]) for one in await ask(session, dom, "guest-get-vcpus")}
    if missing := wanted - known:
        raise InvalidArg(f"guest is missing vCPUs: {_ranges(sorted(missing))}")
    vcpus = [{"logical-id": number, "online": bool(state)} for number in sorted(wanted)]
    if await ask(session, dom, "guest-set-vcpus", vcpus=vcpus) != len(vcpus):
        raise InternalRefused("failed to set state of cpu via guest agent")


async def guest_vcpus(session: Session, dom: WireDomain, *, maximum: bool) -> int:
    """How many processors the guest uses, or sees."""
    found = await ask(session, dom, "guest-get-vcpus")
    return sum(maximum or bool(one["online"]) for one in found)


async def set_guest_vcpus(session: Session, dom: WireDomain, count: int) -> None:
    """Let the guest use so many of the processors that it sees."""
    found = await ask(session, dom, "guest-get-vcpus")
    most = await session.service.vcpu_count(dom.uuid_text)
    if count > most:
        raise InvalidArg(
            f"requested vcpu count is greater than the count of enabled vcpus in the domain: {count} > {most}"
        )
    online = [one for one in found if one["online"]]
    if count >= len(online):
        changed = [one for one in found if not one["online"]][: count - len(online)]
    else:
        changed = [one for one in online if one.get("can-offline")][count - len(online) :]
    if abs(count - len(online)) != len(changed):
        raise InternalRefused("guest agent reports less cpu than requested")
    vcpus = [{"logical-id": one["logical-id"], "online": not one["online"]} for one in changed]
    if vcpus and await ask(session, dom, "guest-set-vcpus", vcpus=vcpus) != len(vcpus):
        raise InternalRefused("failed to set state of cpu via guest agent")


def _ranges(numbers: list[int]) -> str:
    """Like 0-2,5."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def _numbers(text: str) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip(), re.ASCII)
        if match is None:
            raise InvalidArg(f"Failed to parse bitmap '{text}'")
        found |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return found


async def ask(session: Session, dom: WireDomain, execute: str, **arguments: object) -> Any:
    """What the agent answers."""
    command = {"execute": execute} | ({"arguments": arguments} if arguments else {})
    answer = await session.service.qemu_agent_command(dom.uuid_text, json.dumps(command))
    return json.loads(answer or "{}").get("return")
