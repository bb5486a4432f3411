"""Is everything that virtsnap knows of a domain true? Definition, tree, journal, QEMU and files, compared."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from tests.service.local_domain import LocalDomain
from virtsnap.engine.world import query_path
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.formats.save_image import MAGIC
from virtsnap.model.domain import DomainRecord
from virtsnap.plan.images import frozen_images
from virtsnap.qemu import blocks, process
from virtsnap.qemu.monitor import Monitor


async def assert_whole(domain: LocalDomain, *others: str) -> None:
    """Nothing is left open, nothing is missing, and there is no file, process or node that nothing names.

    `others`: names of files that the test itself has put there.
    """
    await domain.state()  # whatever a crash has left open is brought to its end by any command
    store, uuid = domain.service.store, domain.uuid
    assert store.journal(uuid) is None
    record, tree = store.domain(uuid), store.tree(uuid)
    assert record is not None
    assert tree.current is None or tree.current in tree
    assert all(snapshot.parent is None or snapshot.parent in tree for snapshot in tree)

    tops = _sources(record.config_xml)
    if record.live_xml is not None:
        assert _sources(record.live_xml) == tops
    chains = {target: await chain(path) for target, path in tops.items()}
    named = {path for layers in chains.values() for path in layers}
    for snapshot in reversed(list(tree)):  # the youngest stand on the others
        for path in set(frozen_images(snapshot).values()) - named:
            named |= set(await chain(path))
        if snapshot.memory_file is not None:
            named.add(snapshot.memory_file)
            with open(snapshot.memory_file, "rb") as file:
                assert file.read(len(MAGIC)) == MAGIC
    here = {os.path.basename(path) for path in named if Path(path).parent == domain.folder}
    assert here == domain.files() - set(others)
    assert set(store.images(uuid)) <= named

    processes, folders = domain.processes(), _run_folders(domain)
    if record.instance is None:
        assert (processes, folders) == ([], [])
    else:
        beside = [one.pid for one in process.naming(f"{record.instance.run_dir}/tpm,")]
        assert len(beside) == (DomainDefinition.parse(record.config_xml).tpm is not None)
        assert set(processes) == {record.instance.pid, *beside}
        assert folders == [record.instance.run_dir]
        await _assert_qemu_agrees(record, chains)


async def chain(path: str) -> list[str]:
    """An image and all that it stands on, by the headers of the files."""
    process = await asyncio.create_subprocess_exec(
        *("qemu-img", "info", "-U", "--backing-chain", "--output=json", path),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, f"the chain of {path} is broken"
    return [layer["filename"] for layer in json.loads(out)]


def _sources(xml: str) -> dict[str, str]:
    return {disk.target: disk.source for disk in DomainDefinition.parse(xml).disks if disk.source is not None}


def _run_folders(domain: LocalDomain) -> list[str]:
    folder = domain.folder / "root" / "run"
    return [str(entry) for entry in folder.iterdir()] if folder.exists() else []


async def _assert_qemu_agrees(record: DomainRecord, chains: dict[str, list[str]]) -> None:
    assert record.instance is not None
    assert record.live_xml is not None
    aliases = {disk.target: disk.alias or "" for disk in DomainDefinition.parse(record.live_xml).disks}
    async with await Monitor.connect(query_path(record.instance.run_dir)) as monitor:
        used = set()
        for target, top in (await blocks.top_nodes(monitor, aliases)).items():
            layers = await blocks.query_chain(monitor, top.node_name)
            assert [layer.path for layer in layers] == chains[target]
            used |= {layer.node_name for layer in layers} | {layer.storage_node for layer in layers}
        nodes = {node["node-name"] for node in await monitor.execute("query-named-block-nodes", flat=True)}
        assert {name for name in nodes if name.startswith("libvirt-")} <= used
        assert await monitor.execute("query-jobs") == []
