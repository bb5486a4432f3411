"""Decide how a clone is thrown away: its QEMU, its files, its record, and nothing of anybody else's."""

from __future__ import annotations

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.machine.tpm import domain_folder
from virtsnap.model.domain import Reason
from virtsnap.model.errors import OperationInvalid
from virtsnap.model.facts import DomainFacts, ImageRole
from virtsnap.model.steps import Declare, ForgetDomain, KillQemu, Plan, RemoveFile, RemoveTpm, Step
from virtsnap.plan.announce import stopped


def plan_discard(facts: DomainFacts, saved: tuple[str, ...] = ()) -> Plan:
    """The steps. `saved`: files of a managed save. Raises OperationInvalid.

    A domain counts as a clone when it writes only to images that were made for it.
    """
    definition = DomainDefinition.parse(facts.record.config_xml)
    written = {disk.source for disk in definition.disks if disk.source is not None and not disk.readonly}
    users = sorted(path for path in written if facts.owned.get(path) is not ImageRole.OVERLAY)
    users += sorted(path for path, role in facts.owned.items() if role is ImageRole.ORIGIN)
    if users:
        raise OperationInvalid(
            f"domain '{facts.record.name}' is no clone: '{users[0]}' is an image of yours; "
            "destroy and undefine leave it"
        )
    needed = sorted(set(facts.owned) & facts.named_elsewhere)
    if needed:
        raise OperationInvalid(
            f"image '{needed[0]}' of domain '{facts.record.name}' is needed by another domain"
        )
    instance = facts.record.instance
    finish: list[Step] = []
    if instance is not None:
        finish += [KillQemu(instance.run_dir), stopped(instance.run_dir, Reason.SHUTOFF_DESTROYED)]
    finish += [RemoveFile(path) for path in (*sorted(facts.owned), *saved)]
    if definition.nvram_path is not None and definition.nvram_path.startswith(f"{facts.root}/nvram/"):
        finish.append(RemoveFile(definition.nvram_path))
    if definition.tpm is not None:
        finish.append(RemoveTpm(domain_folder(facts.root, facts.record.uuid)))
    return Plan(
        operation="discard",
        subject=facts.record.name,
        commit=Declare(),
        finish=(*finish, ForgetDomain()),
    )
