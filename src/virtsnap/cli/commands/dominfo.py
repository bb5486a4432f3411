"""dominfo: the basic facts of a domain."""

from __future__ import annotations

from virtsnap.cli.args import Args
from virtsnap.cli.commands.domstate import STATES
from virtsnap.cli.session import Session
from virtsnap.cli.spec import DOMAIN, JSON, Command
from virtsnap.cli.table import info


async def _dominfo(session: Session, args: Args) -> None:
    domain = await session.domain(args)
    service = await session.service()
    facts = await service.domain_info(domain.uuid)
    if session.wants_json(args):
        session.json(
            {
                "id": facts.id,
                "name": facts.name,
                "uuid": facts.uuid,
                "os_type": facts.os_type,
                "state": STATES[facts.state],
                "cpus": facts.vcpus,
                "cpu_time_ns": facts.cpu_time_ns,
                "max_memory_kib": facts.max_memory_kib,
                "used_memory_kib": facts.used_memory_kib,
                "persistent": facts.persistent,
                "autostart": facts.autostart,
                "managed_save": facts.managed_save,
            }
        )
        return
    text = info("Id:", "-" if facts.id is None else facts.id)
    text += info("Name:", facts.name)
    text += info("UUID:", facts.uuid)
    text += info("OS Type:", facts.os_type)
    text += info("State:", STATES[facts.state])
    text += info("CPU(s):", facts.vcpus)
    if facts.cpu_time_ns:
        text += info("CPU time:", f"{facts.cpu_time_ns / 1e9:.1f}s")
    text += info("Max memory:", f"{facts.max_memory_kib} KiB")
    text += info("Used memory:", f"{facts.used_memory_kib} KiB")
    text += info("Persistent:", "yes" if facts.persistent else "no")
    text += info("Autostart:", "enable" if facts.autostart else "disable")
    # Nothing here starts a domain by itself, once or ever.
    text += info("Autostart Once:", "disable")
    text += info("Managed save:", "yes" if facts.managed_save else "no")
    # What virsh shows of a QEMU driver without a security driver, which is what this is.
    text += info("Security model:", "none")
    text += info("Security DOI:", "0")
    session.print(text)


COMMANDS = {
    "dominfo": Command(
        _dominfo, (DOMAIN, JSON), "Returns basic information about the domain.", ("dominfo demo",)
    )
}
