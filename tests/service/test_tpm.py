"""The TPM beside a QEMU without a guest: started and ended with it, its state made, copied and given up.

What a guest finds in it: tests/guest/test_tpm.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.service.conftest import Define
from tests.service.crash import Crasher
from tests.service.local_domain import BareDomain
from tests.service.sweep import Call, sweep
from tests.service.whole import assert_whole
from virtsnap.model.domain import DomainState
from virtsnap.model.errors import Failed
from virtsnap.model.flags import DomainStart, DomainUndefine, SnapshotCreate, SnapshotDelete, SnapshotRevert
from virtsnap.qemu import process

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        shutil.which("swtpm") is None or shutil.which("swtpm_setup") is None,
        reason="no swtpm here (script/setup installs it)",
    ),
]

_LETTERS = {"keep": DomainUndefine.KEEP_TPM, "tpm": DomainUndefine.TPM, "": DomainUndefine(0)}


def with_tpm(xml: str, more: str = "") -> str:
    tpm = f"<tpm model='tpm-crb'><backend type='emulator' {more}/></tpm>"
    return xml.replace("</devices>", f"{tpm}</devices>")


def state_of(domain: BareDomain) -> Path:
    return domain.folder / "root/swtpm" / domain.uuid / "tpm2/tpm2-00.permall"


def plant(domain: BareDomain, content: bytes) -> Path:
    """As if it had been started before."""
    state = state_of(domain)
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_bytes(content)
    return state


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The state of a TPM."""
    folder = tmp_path_factory.mktemp("tpm")
    words = ["swtpm_setup", "--tpm2", "--tpm-state", f"dir://{folder}"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return (folder / "tpm2-00.permall").read_bytes()


@pytest.fixture
def own_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates are signed by one that is made for the test, not by the host's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    words = ["swtpm_setup", "--create-config-files", "skip-if-exist,root"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


async def test_a_life(own_authority: None, define: Define) -> None:
    domain = await define(edit=with_tpm)
    await domain.start()
    await assert_whole(domain)
    state = state_of(domain)
    folders = list(state.parents)[:3]
    assert [oct(path.stat().st_mode)[-3:] for path in (*folders, state)] == ["700", "700", "700", "600"]
    made = state.read_bytes()
    assert "Successfully created" in (domain.folder / f"root/log/{domain.uuid}-swtpm.log").read_text()

    os.kill(domain.instance.pid, signal.SIGKILL)
    await process.wait_gone(domain.instance)
    assert await domain.state() is DomainState.SHUTOFF
    await assert_whole(domain)
    await domain.start()
    assert state.read_bytes() == made
    await domain.service.destroy(domain.uuid)
    await assert_whole(domain)


@pytest.mark.parametrize("persistent", [False, True], ids=["", "persistent"])
@pytest.mark.parametrize("word", ["", "keep", "tpm"])
async def test_undefine(define: Define, persistent: bool, word: str) -> None:
    more = "persistent_state='yes'" if persistent else ""
    domain = await define(edit=lambda xml: with_tpm(xml, more))
    state = plant(domain, b"state")
    await domain.service.undefine(domain.uuid, _LETTERS[word])
    stays = word != "tpm" if persistent else word == "keep"
    assert state.exists() is stays
    assert (domain.folder / "root/swtpm" / domain.uuid).exists() is stays
    domain.ended = True
    await domain.service.close()


@pytest.mark.parametrize("persistent", [False, True], ids=["", "persistent"])
@pytest.mark.parametrize("end", ["destroy", "dies"])
async def test_a_domain_that_lives_once(define: Define, made: bytes, persistent: bool, end: str) -> None:
    more = "persistent_state='yes'" if persistent else ""
    domain = await define(edit=lambda xml: with_tpm(xml, more))
    state = plant(domain, made)
    await domain.start()
    await domain.service.undefine(domain.uuid)
    instance = domain.instance
    if end == "destroy":
        await domain.service.destroy(domain.uuid)
    else:
        os.kill(instance.pid, signal.SIGKILL)
        await process.wait_gone(instance)
        assert await domain.service.list_domains() == []
    assert state.exists() is persistent
    assert domain.processes() == []
    domain.ended = True
    await domain.service.close()


async def test_a_state_that_is_none(define: Define) -> None:
    domain = await define(edit=with_tpm)
    state = plant(domain, b"nonsense")
    with pytest.raises(Failed, match="tpm-emulator: TPM result for CMD_INIT"):
        await domain.start()
    assert state.read_bytes() == b"nonsense"
    await assert_whole(domain)


async def test_no_program(define: Define, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = await define(edit=with_tpm)
    (tmp_path / "bin").mkdir()
    for name in ("qemu-system-x86_64", "qemu-img"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(Failed, match=r"Unable to find 'swtpm' binary in \$PATH: No such file or directory"):
        await domain.start()
    await assert_whole(domain)


async def test_shut_off(define: Define) -> None:
    """A copy of the state beside it, brought back by a revert, deleted with the snapshot."""
    domain = await define(edit=with_tpm)
    await domain.disk_only("never ran")
    state = plant(domain, b"then")
    await domain.disk_only("one")
    copy = state.parent.with_name("tpm2.one")
    assert copy.read_bytes() == b"then"
    state.write_bytes(b"late")
    await domain.service.snapshot_revert(domain.uuid, "one")
    assert state.read_bytes() == b"then"
    await domain.service.snapshot_revert(domain.uuid, "never ran")
    assert state.read_bytes() == b"then"
    await domain.cli_ok("clone", "bare", "one", "twin")
    uuid = (await domain.service.lookup_by_name("twin")).uuid
    own = domain.folder / "root/swtpm" / uuid
    assert {path.name: path.is_dir() or path.read_bytes() for path in own.iterdir()} == {
        "tpm2": True,
        "tpm2.one": b"then",
    }
    assert (own / "tpm2/tpm2-00.permall").read_bytes() == b"then"
    await domain.service.discard(uuid)
    assert not own.exists()
    await domain.service.snapshot_delete(domain.uuid, "one")
    assert not copy.exists()
    await assert_whole(domain)


async def test_a_record_under_another_name(define: Define) -> None:
    """Renamed, forgotten and taken back, a snapshot brings the state back that it kept."""
    domain = await define(edit=with_tpm)
    state = plant(domain, b"then")
    await domain.disk_only("one")
    xml = (await domain.service.snapshot_xml(domain.uuid, "one")).replace("<name>one<", "<name>two<")
    await domain.service.snapshot_create_xml(
        domain.uuid, xml, SnapshotCreate.REDEFINE | SnapshotCreate.CURRENT
    )
    await domain.service.snapshot_delete(domain.uuid, "one", SnapshotDelete.METADATA_ONLY)
    state.write_bytes(b"late")
    await domain.service.snapshot_revert(domain.uuid, "two")
    assert state.read_bytes() == b"then"
    await domain.service.snapshot_delete(domain.uuid, "two", SnapshotDelete.METADATA_ONLY)
    await domain.service.snapshot_create_xml(
        domain.uuid, xml, SnapshotCreate.REDEFINE | SnapshotCreate.CURRENT
    )
    state.write_bytes(b"late")
    await domain.service.snapshot_revert(domain.uuid, "two")
    assert state.read_bytes() == b"then"
    await domain.service.snapshot_delete(domain.uuid, "two")
    assert not state.parent.with_name("tpm2.two").exists()


@pytest.mark.parametrize("memory", ["external", "internal"])
async def test_a_revert_to_memory(define: Define, made: bytes, memory: str) -> None:
    """The state is what the memory says, whatever the domain's own was meanwhile."""
    domain = await define(edit=with_tpm)
    state = plant(domain, made)
    await domain.service.create(domain.uuid, DomainStart.PAUSED)
    then = state.read_bytes()
    if memory == "external":
        await domain.full("one")
    else:
        await domain.service.snapshot_create_xml(
            domain.uuid, "<domainsnapshot><name>one</name></domainsnapshot>"
        )
    await domain.service.destroy(domain.uuid)
    state.write_bytes(b"late")
    await domain.service.snapshot_revert(domain.uuid, "one", SnapshotRevert.PAUSED)
    assert state.read_bytes() == then
    await assert_whole(domain)


async def test_a_revert_that_fails(define: Define, made: bytes) -> None:
    """QEMU, TPM and state are what they were."""
    domain = await define(edit=with_tpm)
    state = plant(domain, made)
    await domain.start()
    await domain.full("one")
    image = domain.folder / "one.mem"
    os.truncate(image, image.stat().st_size // 2)
    before, then = (domain.processes(), state.stat()), domain.instance
    with pytest.raises(Failed, match="job 'snapshot' failed"):
        await domain.service.snapshot_revert(domain.uuid, "one")
    assert (domain.processes(), state.stat(), domain.instance) == (*before, then)
    await assert_whole(domain)


@pytest.mark.timeout(300)
async def test_killed_while_reverting(crasher: Crasher, define: Define, made: bytes) -> None:
    domains: dict[int, BareDomain] = {}

    async def ready(number: int) -> Call:
        domain = domains[number] = await define(f"vm{number}", edit=with_tpm)
        plant(domain, made)
        await domain.start()
        await domain.full("one")
        return domain, "snapshot_revert", "one"

    async def is_new(number: int) -> bool:
        return len(list((domains[number].folder).glob("vda.*"))) == 2

    async def check(number: int, new: bool) -> None:
        domain = domains[number]
        assert await domain.state() is DomainState.RUNNING
        assert state_of(domain).read_bytes() == made
        await domain.end()

    await sweep(crasher, ready, is_new, check, stride=6)
