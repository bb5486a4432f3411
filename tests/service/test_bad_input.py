"""Bad input through the program: status 1, an error in libvirt's words, and nothing else happened."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.service.local_domain import BareDomain
from tests.service.whole import assert_whole
from virtsnap.model.domain import DomainState

pytestmark = pytest.mark.real

Refused = Callable[..., Awaitable[None]]
QEMU_NAMESPACE = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"


def world(domain: BareDomain) -> object:
    """All that a refusal must leave alone."""
    store = domain.service.store
    files = {name: (domain.folder / name).stat().st_mtime_ns for name in domain.files()}
    return files, domain.processes(), store.domain(domain.uuid), store.tree(domain.uuid), store.domains()


@pytest.fixture
def refused(bare: BareDomain) -> Refused:
    """Runs a command that must be refused with these words, and compares the world before and after."""

    async def run(words: str, *command: str) -> None:
        before = world(bare)
        said = await bare.cli_fails(*command)
        assert words in said, f"{command}: {said}"
        assert world(bare) == before, command
        await assert_whole(bare, "vdb.s", "s.mem")

    return run


async def test_documents(bare: BareDomain, refused: Refused, tmp_path: Path) -> None:
    document = tmp_path / "document.xml"
    for text, words in (
        ("<domain><name>x", "Premature end of data in tag name line 1"),
        ("", "Failed to define domain from"),
        ("<domain type='qemu'/>", "missing name information"),
        ("<domainsnapshot/>", "expecting root element of 'domain', not 'domainsnapshot'"),
        ("<domain type='qemu'><name>x</name></domain>", "an os <type> must be specified"),
    ):
        document.write_text(text)
        await refused(words, "define", str(document))
    for text, words in (
        ("<domainsnapshot><name>x", "Premature end of data in tag name line 1"),
        ("<domain/>", "domainsnapshot"),
        (
            "<domainsnapshot><memory snapshot='external'/></domainsnapshot>",
            "memory snapshots require a filename",
        ),
        (
            "<domainsnapshot><disks><disk/></disks></domainsnapshot>",
            "missing name from disk snapshot element",
        ),
    ):
        document.write_text(text)
        await refused(words, "snapshot-create", "bare", str(document))
    await refused("Failed to open file '/nowhere.xml': No such file or directory", "define", "/nowhere.xml")


async def test_names(refused: Refused) -> None:
    await refused("failed to get domain 'nobody'", "start", "nobody")
    await refused("failed to get domain 'nobody'", "snapshot-list", "nobody")
    for command in ("revert", "delete", "info", "parent", "dumpxml"):
        words = "Domain snapshot not found: no domain snapshot with matching name 'nothing'"
        await refused(words, f"snapshot-{command}", "bare", "nothing")
    for name, why in (("a/b", "name can't contain '/'"), (".a", "name can't start with '.'")):
        words = f"error: invalid snapshot name '{name}': {why}"
        await refused(words, "snapshot-create-as", "bare", name, "--disk-only")


async def test_a_missing_disk(bare: BareDomain, refused: Refused, tmp_path: Path) -> None:
    disk = bare.folder / "vda.qcow2"
    os.rename(disk, tmp_path / "elsewhere")
    words = f"Cannot access storage file '{disk}'"
    said = await bare.cli_fails("start", "bare")
    assert "Failed to start domain 'bare'" in said
    assert words in said
    assert bare.processes() == []
    assert await bare.cli_ok("domstate", "bare", "--reason") == "shut off (failed)\n\n"
    for word in ("--disk-only", "--atomic"):
        await bare.cli_fails("snapshot-create-as", "bare", "s", word)
        assert bare.files() == {"vdb.qcow2"}
    os.rename(tmp_path / "elsewhere", disk)
    await bare.cli_ok("start", "bare")


async def test_files_in_the_way(bare: BareDomain, refused: Refused) -> None:
    await bare.start()
    folder, create = bare.folder, ("snapshot-create-as", "bare", "s")
    overlay = folder / "vdb.s"
    overlay.write_text("precious")
    words = f"external snapshot file for disk vdb already exists and is not a block device: {overlay}"
    await refused(words, *create, "--disk-only")
    await refused(words, *create, "--memspec", f"{folder}/s.mem")
    await refused("missing existing file for disk vda", *create, "--disk-only", "--reuse-external")
    overlay.unlink()
    memory = folder / "s.mem"
    memory.write_text("precious")
    await refused("already exists", *create, "--memspec", str(memory))
    assert memory.read_text() == "precious"
    memory.unlink()
    nowhere = "No such file or directory"
    await refused(nowhere, *create, "--memspec", f"{folder}/no/s.mem")
    await refused(nowhere, *create, "--disk-only", "--diskspec", f"vda,file={folder}/no/overlay")
    words = "XML error: memory snapshot file path (s.mem) must be absolute"
    await refused(words, *create, "--memspec", "file=s.mem")
    await refused("unable to parse memspec: s.mem", *create, "--memspec", "s.mem")
    await refused("no disk named 'vdx'", *create, "--disk-only", "--diskspec", "vdx")
    await refused(
        "live snapshot creation is supported only during full system", *create, "--disk-only", "--live"
    )
    assert await bare.state() is DomainState.RUNNING


async def test_wrong_states(bare: BareDomain, refused: Refused, tmp_path: Path) -> None:
    for command in ("destroy", "suspend", "resume", "reset", "reboot", "shutdown"):
        await refused("domain is not running", command, "bare")
    await refused("domain is not running", "screenshot", "bare", str(tmp_path / "picture"))
    assert not (tmp_path / "picture").exists()
    await bare.start()
    await refused("Domain is already active", "start", "bare")
    await bare.disk_only("kept")
    await bare.service.destroy(bare.uuid)
    await refused("cannot delete inactive domain with 1 snapshots", "undefine", "bare")


async def test_no_emulator(bare: BareDomain, refused: Refused, tmp_path: Path) -> None:
    """Missing when the domain is defined, and gone when it is started."""
    xml = await bare.service.domain_xml(bare.uuid)
    start, end = xml.index("<emulator>") + len("<emulator>"), xml.index("</emulator>")
    own = tmp_path / "qemu"
    own.symlink_to(xml[start:end])
    document = tmp_path / "document.xml"
    document.write_text(f"{xml[:start]}/nowhere/qemu{xml[end:]}")
    words = "Cannot check QEMU binary /nowhere/qemu: No such file or directory"
    await refused(words, "define", str(document))
    document.write_text(f"{xml[:start]}{own}{xml[end:]}")
    await bare.cli_ok("define", str(document))
    await bare.cli_ok("start", "bare")
    await bare.cli_ok("destroy", "bare")
    own.unlink()
    said = await bare.cli_fails("start", "bare")
    assert f"Cannot check QEMU binary {own}: No such file or directory" in said
    assert await bare.state() is DomainState.SHUTOFF
    await assert_whole(bare)


async def test_qemu_dies_at_start(bare: BareDomain, tmp_path: Path) -> None:
    await bare.cli_ok("start", "bare")
    await bare.cli_ok("destroy", "bare")
    xml = await bare.service.domain_xml(bare.uuid)
    option = "<qemu:commandline><qemu:arg value='-nonsense'/></qemu:commandline>"
    document = tmp_path / "document.xml"
    document.write_text(
        xml.replace("<domain ", f"<domain {QEMU_NAMESPACE} ").replace("</domain>", f"{option}</domain>")
    )
    await bare.cli_ok("define", str(document))
    said = await bare.cli_fails("start", "bare")
    words = "error: internal error: process exited while connecting to monitor: "
    assert words in said
    assert "-nonsense: invalid option" in said
    assert "terminating on signal" not in said, "the last words of an earlier process"
    assert await bare.cli_ok("domstate", "bare", "--reason") == "shut off (failed)\n\n"
    await assert_whole(bare)


async def test_a_device_that_cannot_be_given(bare: BareDomain, refused: Refused, tmp_path: Path) -> None:
    xml = await bare.service.domain_xml(bare.uuid)
    device = "<tpm model='tpm-crb'><backend type='passthrough'/></tpm>"
    document = tmp_path / "document.xml"
    document.write_text(xml.replace("</devices>", f"{device}</devices>"))
    await bare.cli_ok("define", str(document))
    said = await bare.cli_fails("start", "bare")
    assert "unsupported configuration: type='passthrough' of <devices/tpm/backend> is not supported" in said
    assert bare.processes() == []
