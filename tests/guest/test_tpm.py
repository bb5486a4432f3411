"""A guest's TPM: what it holds in memory (a PCR) and for good (an NV index), through all that keeps states.

Both are read and written inside the guest, as commands to /dev/tpm0.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lab.console import GuestConsole
from lab.domain import domain_xml
from lab.guest import GuestImage
from tests.guest.lines import Lines
from tests.guest.machine import DISKS, MEMORY_MIB, NAME, Machine
from tests.service.local_domain import create_disk, kill_all, processes_naming
from tests.service.whole import assert_whole
from virtsnap.service.local import open_local

pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        shutil.which("swtpm") is None or shutil.which("swtpm_setup") is None,
        reason="no swtpm here (script/setup installs it)",
    ),
]

SESSION = bytes.fromhex("00000009 40000009 0000 00 0000")
"""An empty password."""
OWNER, INDEX, PCR = bytes.fromhex("40000001"), bytes.fromhex("01500001"), 16


class Tpm:
    """What the guest at the other end of a console asks its TPM."""

    def __init__(self, console: GuestConsole) -> None:
        self.console = console

    async def ask(self, code: int, body: bytes) -> bytes:
        """The parameters of the answer to a command with one session (TPM 2.0, part 3). It must succeed."""
        command = bytes.fromhex("8002") + (10 + len(body)).to_bytes(4, "big") + code.to_bytes(4, "big") + body
        words = "".join(f"\\x{byte:02x}" for byte in command)
        # The shell's printf writes line by line; a command must be written at once.
        said = await self.console.check(
            f"printf '{words}' >/tmp/command; exec 3<>/dev/tpm0; dd if=/tmp/command bs=4096 >&3 2>/dev/null; "
            "dd bs=4096 count=1 <&3 2>/dev/null | hexdump -ve '1/1 \"%02x\"'; exec 3>&-"
        )
        answer = bytes.fromhex(said.strip())
        assert answer[6:10] == bytes(4), f"the TPM says {answer[6:10].hex()}"
        return answer[14:]

    async def extend(self, text: str) -> None:
        """Put a word into the PCR."""
        digest = bytes.fromhex("00000001 000b") + hashlib.sha256(text.encode()).digest()
        await self.ask(0x182, PCR.to_bytes(4, "big") + SESSION + digest)

    async def pcr(self) -> str:
        """What the PCR holds."""
        return (await self.console.check(f"cat /sys/class/tpm/tpm0/pcr-sha256/{PCR}")).strip().lower()

    async def define(self) -> None:
        """Make the NV index: four bytes."""
        public = INDEX + bytes.fromhex("000b 02060006 0000 0004")
        await self.ask(0x12A, OWNER + SESSION + bytes.fromhex("0000 000e") + public)

    async def write(self, word: bytes) -> None:
        """Put four bytes there."""
        await self.ask(0x137, OWNER + INDEX + SESSION + bytes.fromhex("0004") + word + bytes(2))

    async def read(self) -> bytes:
        """What is there."""
        return (await self.ask(0x14E, OWNER + INDEX + SESSION + bytes.fromhex("0004 0000")))[2:6]

    async def put(self, word: bytes) -> None:
        """A new state, in memory and for good."""
        await self.extend(word.decode())
        await self.write(word)

    async def state(self) -> tuple[str, bytes]:
        """Both."""
        return await self.pcr(), await self.read()


def extended(*words: bytes) -> str:
    """What a PCR holds after these."""
    value = bytes(32)
    for word in words:
        value = hashlib.sha256(value + hashlib.sha256(word).digest()).digest()
    return value.hex()


@pytest.fixture
async def machine(
    tmp_path: Path, image: GuestImage, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Machine]:
    """A guest that has just booted, with a TPM whose NV index is there."""
    # Certificates are signed by an authority that is made for the test, not by the host's.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    words = ["swtpm_setup", "--create-config-files", "skip-if-exist,root"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    folder = tmp_path / "vm"
    folder.mkdir()
    disks = [create_disk(folder / f"{target}.qcow2") for target in DISKS]
    service, lines = await open_local(folder / "root"), Lines()
    tpm = "<tpm model='tpm-crb'><backend type='emulator'/></tpm>"
    xml = domain_xml(NAME, image, disks, memory_mib=MEMORY_MIB, serial=lines.path, devices=tpm)
    handle = await service.define_xml(xml.replace("mode='bind'", "mode='connect'"))
    machine = Machine(folder, service, handle.uuid, lines=lines)
    try:
        await service.create(handle.uuid)
        await (await tpm_of(machine)).define()
        yield machine
        await machine.end()
        assert not processes_naming(tmp_path)
    finally:
        kill_all(processes_naming(tmp_path))
        shutil.rmtree(tmp_path)


async def tpm_of(machine: Machine, uuid: str | None = None) -> Tpm:
    record = machine.service.store.domain(uuid or machine.uuid)
    assert record is not None
    assert record.instance is not None
    console = await machine.lines.of_process(record.instance.pid)
    await console.wait_ready()
    return Tpm(console)


async def test_a_tpm_is_part_of_every_state(machine: Machine) -> None:
    tpm = await tpm_of(machine)
    await tpm.put(b"then")
    await machine.full("one")
    await tpm.put(b"late")
    assert await tpm.state() == (extended(b"then", b"late"), b"late")

    old = machine.instance
    await machine.cli_ok("snapshot-revert", NAME, "one")
    assert machine.instance != old
    tpm = await tpm_of(machine)
    assert await tpm.state() == (extended(b"then"), b"then")

    # Each clone has one of its own.
    await tpm.put(b"more")
    await machine.cli_ok("clone", NAME, "one", "twin", "--count", "2", "--start")
    twins = [(await machine.service.lookup_by_name(name)).uuid for name in ("twin-1", "twin-2")]
    first, second = [await tpm_of(machine, uuid) for uuid in twins]
    assert await first.state() == (extended(b"then"), b"then")
    await first.put(b"twin")
    assert await second.state() == (extended(b"then"), b"then")
    assert await tpm.state() == (extended(b"then", b"more"), b"more")
    for name, uuid in zip(("twin-1", "twin-2"), twins, strict=True):
        await machine.cli_ok("discard", name)
        assert not (machine.folder / "root/swtpm" / uuid).exists()

    # A managed save holds it; a snapshot without memory has a copy of what it holds for good.
    await machine.cli_ok("managedsave", NAME)
    await machine.cli_ok("start", NAME)
    tpm = await tpm_of(machine)
    assert await tpm.state() == (extended(b"then", b"more"), b"more")
    await machine.disk_only("two")
    await tpm.write(b"last")
    await machine.cli_ok("snapshot-revert", NAME, "two", "--running")
    assert await (await tpm_of(machine)).state() == (extended(), b"more")
    await machine.cli_ok("snapshot-delete", NAME, "two")
    assert [path.name for path in (machine.folder / "root/swtpm" / machine.uuid).iterdir()] == ["tpm2"]
    await assert_whole(machine)
