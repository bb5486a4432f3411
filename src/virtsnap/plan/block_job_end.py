"""Decide what the end of a block job means: for the definitions, for who owns which image, for the files.

Pure: whether the job did its work was seen in QEMU's layers, or in its log, by `service.concluding`.
"""

from __future__ import annotations

from dataclasses import replace

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.block_job import BlockJob, BlockJobState, BlockJobType
from virtsnap.model.domain import DomainRecord
from virtsnap.model.facts import DomainFacts, ImageFacts
from virtsnap.model.steps import DropUnusedNodes, Plan, RemoveFile, Step, StoreWrite
from virtsnap.plan.images import ImageGraph, definition_images, frozen_images


def ended_record(record: DomainRecord, job: BlockJob) -> DomainRecord:
    """The domain's record once the job is over. `job.state` says whether it did its work."""
    done = job.state is BlockJobState.COMPLETED
    live, config = record.live_xml, record.config_xml
    if live is not None and record.instance is not None and record.instance.run_dir == job.run_dir:
        live = _live(DomainDefinition.parse(live), job, done).to_xml()
    if done and job.result is not None:
        definition = DomainDefinition.parse(config)
        disk = definition.disk(job.target)
        # Another image in the definition is the user's wish for the next start.
        if disk is not None and disk.source == job.source:
            to = job.result
            config = definition.with_disk_source(job.target, to.path, to.format, to.type).to_inactive_xml()
    return replace(record, live_xml=live, config_xml=config)


def _live(definition: DomainDefinition, job: BlockJob, done: bool) -> DomainDefinition:
    if definition.disk(job.target) is None:
        return definition
    definition = definition.without_mirror(job.target)
    if not done:
        return definition
    if job.type is BlockJobType.COPY and job.result is not None:
        to = job.result
        definition = definition.with_layer(job.target, to.path, to.format, to.type, job.node)
    for path in job.gone:
        definition = definition.without_layer(job.target, path)
    return definition


def plan_end(facts: DomainFacts, job: BlockJob, left: tuple[ImageFacts, ...]) -> Plan:
    """The steps that write down a job's end. `facts`: with the record as `ended_record` has it.

    `left`: of a copy, the chain that the disk wrote to before.
    """
    named = definition_images(facts.record.config_xml, facts.record.live_xml)
    for snapshot in facts.tree:
        named |= {path: target for target, path in frozen_images(snapshot).items()}
    disowned: list[str] = []
    finish: list[Step] = [DropUnusedNodes()]
    if job.state is BlockJobState.COMPLETED:
        disowned = list(ImageGraph(facts, named).collapse("", {}, merge=False).disowned)
        if job.type is BlockJobType.COPY and job.source not in named:
            # The user has his old disk with all that is on it; nothing leads to it from here any more.
            disowned += [image.path for image in left if image.path in facts.owned]
        if job.delete:
            # What `facts` knows is named, or something that is named stands on it.
            kept = {*named, *facts.images, *facts.named_elsewhere}
            finish += [RemoveFile(path) for path in job.gone if path not in kept]
    return Plan(
        operation="block-job",
        subject=job.target,
        commit=StoreWrite(
            record=facts.record,
            put_block_jobs=(job,),
            delete_images=tuple(dict.fromkeys(disowned)),
        ),
        finish=tuple(finish),
    )
