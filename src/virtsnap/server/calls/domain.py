"""The calls on a domain: its definition, its life, its facts."""

from __future__ import annotations

from virtsnap.model.errors import InvalidArg
from virtsnap.server.calls.flags import only
from virtsnap.server.calls.guest import guest_vcpus
from virtsnap.server.session import Session, wire_domain
from virtsnap.wire.events import job_params
from virtsnap.wire.values import Param, WireDomain

_LIVE, _CONFIG, _MAXIMUM, _GUEST = 1, 2, 4, 8
_IO_ERRORS = 4
_AUTODESTROY = 2
"""VIR_DOMAIN_START_AUTODESTROY: this layer's, which knows when a client goes."""

# definition


async def domain_define_xml(session: Session, xml: str) -> WireDomain:
    return await domain_define_xml_flags(session, xml, 0)


async def domain_define_xml_flags(session: Session, xml: str, flags: int) -> WireDomain:
    return wire_domain(await session.service.define_xml(xml, flags))


async def domain_create_xml(session: Session, xml_desc: str, flags: int) -> WireDomain:
    handle = await session.service.create_xml(xml_desc, flags & ~_AUTODESTROY)
    if flags & _AUTODESTROY:
        await session.ends_with_us(handle)
    return wire_domain(handle)


async def domain_undefine(session: Session, dom: WireDomain) -> None:
    await session.service.undefine(dom.uuid_text)


async def domain_undefine_flags(session: Session, dom: WireDomain, flags: int) -> None:
    await session.service.undefine(dom.uuid_text, flags)


async def domain_get_xml_desc(session: Session, dom: WireDomain, flags: int) -> str:
    return await session.service.domain_xml(dom.uuid_text, flags)


async def domain_set_autostart(session: Session, dom: WireDomain, autostart: int) -> None:
    await session.service.set_autostart(dom.uuid_text, bool(autostart))


async def domain_get_metadata(
    session: Session, dom: WireDomain, type: int, uri: str | None, flags: int
) -> str:
    return await session.service.metadata(dom.uuid_text, type, uri, flags)


async def domain_set_metadata(
    session: Session,
    dom: WireDomain,
    type: int,
    metadata: str | None,
    key: str | None,
    uri: str | None,
    flags: int,
) -> None:
    await session.service.set_metadata(dom.uuid_text, type, metadata, key, uri, flags)


async def domain_rename(session: Session, dom: WireDomain, new_name: str | None, flags: int) -> int:
    if new_name is None:
        raise InvalidArg("new_name in virDomainRename must not be NULL")
    await session.service.rename(dom.uuid_text, new_name, flags)
    return 0


# life


async def domain_create(session: Session, dom: WireDomain) -> None:
    await session.service.create(dom.uuid_text)


async def domain_create_with_flags(session: Session, dom: WireDomain, flags: int) -> WireDomain:
    handle = await session.service.create(dom.uuid_text, flags & ~_AUTODESTROY)
    if flags & _AUTODESTROY:
        await session.ends_with_us(handle)
    return wire_domain(handle)


async def domain_shutdown(session: Session, dom: WireDomain) -> None:
    await session.reboots.give_up(dom.uuid_text)
    await session.service.shutdown(dom.uuid_text)


async def domain_shutdown_flags(session: Session, dom: WireDomain, flags: int) -> None:
    await session.reboots.give_up(dom.uuid_text)
    await session.service.shutdown(dom.uuid_text, flags)


async def domain_reboot(session: Session, dom: WireDomain, flags: int) -> None:
    await session.reboots.give_up(dom.uuid_text)
    await session.reboots.ask(dom.uuid_text, session.service.reboot(dom.uuid_text, flags))


async def domain_reset(session: Session, dom: WireDomain, flags: int) -> None:
    only(flags, 0, "qemuDomainReset")
    await session.reboots.give_up(dom.uuid_text)
    await session.service.reset(dom.uuid_text)


async def domain_destroy(session: Session, dom: WireDomain) -> None:
    await session.reboots.give_up(dom.uuid_text)
    await session.service.destroy(dom.uuid_text)


async def domain_destroy_flags(session: Session, dom: WireDomain, flags: int) -> None:
    await session.reboots.give_up(dom.uuid_text)
    await session.service.destroy(dom.uuid_text, flags)


async def domain_suspend(session: Session, dom: WireDomain) -> None:
    await session.service.suspend(dom.uuid_text)


async def domain_resume(session: Session, dom: WireDomain) -> None:
    await session.service.resume(dom.uuid_text)


async def domain_send_key(
    session: Session, dom: WireDomain, codeset: int, holdtime: int, keycodes: list[int], flags: int
) -> None:
    only(flags, 0, "qemuDomainSendKey")
    await session.service.send_key(dom.uuid_text, codeset, holdtime, keycodes)


# facts


async def domain_get_info(session: Session, dom: WireDomain) -> tuple[int, int, int, int, int]:
    facts = await session.service.domain_info(dom.uuid_text)
    memory = facts.max_memory_kib, facts.used_memory_kib
    return int(facts.state), *memory, facts.vcpus, facts.cpu_time_ns or 0


async def domain_get_state(session: Session, dom: WireDomain, flags: int) -> tuple[int, int]:
    only(flags, 0, "qemuDomainGetState")
    state, reason = await session.service.domain_state(dom.uuid_text)
    return int(state), reason.number


async def domain_is_active(session: Session, dom: WireDomain) -> bool:
    return (await session.domain(dom)).id != -1


async def domain_is_persistent(session: Session, dom: WireDomain) -> bool:
    return (await session.service.domain_info(dom.uuid_text)).persistent


async def domain_is_updated(session: Session, dom: WireDomain) -> bool:
    await session.domain(dom)
    return False  # whatever changes the definition of an active domain says so itself


async def domain_get_os_type(session: Session, dom: WireDomain) -> str:
    return (await session.service.domain_info(dom.uuid_text)).os_type


async def domain_get_max_memory(session: Session, dom: WireDomain) -> int:
    return (await session.service.domain_info(dom.uuid_text)).max_memory_kib


async def domain_get_max_vcpus(session: Session, dom: WireDomain) -> int:
    live = (await session.domain(dom)).id != -1
    return await session.service.vcpu_count(dom.uuid_text, _MAXIMUM | (_LIVE if live else _CONFIG))


async def domain_get_vcpus_flags(session: Session, dom: WireDomain, flags: int) -> int:
    only(flags, 15, "qemuDomainGetVcpusFlags")  # LIVE, CONFIG, MAXIMUM, GUEST
    if flags & _GUEST:
        return await guest_vcpus(session, dom, maximum=bool(flags & _MAXIMUM))
    return await session.service.vcpu_count(dom.uuid_text, flags)


async def domain_get_autostart(session: Session, dom: WireDomain) -> bool:
    return (await session.service.domain_info(dom.uuid_text)).autostart


async def domain_get_autostart_once(session: Session, dom: WireDomain) -> bool:
    await session.domain(dom)
    return False


async def domain_get_messages(session: Session, dom: WireDomain, flags: int) -> list[str]:
    """Nothing is deprecated or tainted here; disks may have had errors."""
    only(flags, 7, "qemuDomainGetMessages")
    await session.domain(dom)
    return await session.service.io_errors(dom.uuid_text) if flags & _IO_ERRORS or not flags else []


async def domain_get_security_label(session: Session, dom: WireDomain) -> tuple[list[int], int]:
    await session.domain(dom)
    return [0], 0


async def domain_get_security_label_list(session: Session, dom: WireDomain) -> tuple[list[object], int]:
    await session.domain(dom)
    return [], 0


async def domain_get_block_info(
    session: Session, dom: WireDomain, path: str, flags: int
) -> tuple[int, int, int]:
    only(flags, 0, "qemuDomainGetBlockInfo")
    facts = await session.service.block_info(dom.uuid_text, path)
    return facts.allocation, facts.capacity, facts.physical


# jobs


async def domain_get_job_info(session: Session, dom: WireDomain) -> tuple[int, ...]:
    job = await session.service.job_info(dom.uuid_text)
    amounts = [(one.total, one.processed, one.remaining) for one in (job.data, job.memory, job.disk)]
    return int(job.type), job.elapsed_ms, 0, *(figure for one in amounts for figure in one)


async def domain_get_job_stats(session: Session, dom: WireDomain, flags: int) -> tuple[int, list[Param]]:
    job = await session.service.job_info(dom.uuid_text, flags)
    return int(job.type), job_params(job.stats())


async def domain_abort_job(session: Session, dom: WireDomain) -> None:
    await session.service.abort_job(dom.uuid_text)


async def domain_abort_job_flags(session: Session, dom: WireDomain, flags: int) -> None:
    await session.service.abort_job(dom.uuid_text, flags)
