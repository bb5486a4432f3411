"""A real libvirt's domain comes to us with its tree and goes back, and every node of it remembers.

The tree is made by libvirt with the lab's guest; each snapshot's name is in the guest's memory and on its
disk.
"""

from __future__ import annotations

import filecmp
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guest import GuestImage
from lab.guest import build as build_guest
from tests.parity import domains, oracle
from tests.parity.both import Both, running
from tests.service.local_domain import written
from virtsnap.formats.libvirt_files import definition_file

pytestmark = [pytest.mark.parity, pytest.mark.guest]

MEMORY = ("i0", "i1", "e0", "e1", "e2", "e3", "i2")
OURS = "v2"
FIRMWARE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
DISK = ("d1", "d2", "d3", "d4", "o1")
TREE = """
i0
  +- i1
      +- e0
          +- d4
          |   +- i2
          |       +- o1
          +- e1
          |   +- d1
          |       +- d2
          +- e2
              +- e3
                  +- d3
"""


def on_disk(blklist: str) -> str:
    """The marker on the disk of a domain that is shut off."""
    found = re.search(r"vda +(/\S+)", blklist)
    assert found is not None, blklist
    return written(found[1], 4096).split(b"\n", 1)[0].decode()


def own_all(both: Both) -> None:
    """What we have made as root belongs to the daemon's user from now on."""
    for path in both.folder.iterdir():
        if path.is_file():
            both.libvirt.own(path)


@pytest.fixture(name="guest", scope="module")
def _guest() -> GuestImage:
    reason = oracle.missing()
    if reason is not None:
        pytest.skip(reason)
    return build_guest()


@pytest.fixture
def both(guest: GuestImage) -> Iterator[Both]:
    with running(guest, patience=120) as both:
        yield both


def _grow(both: Both) -> None:
    """Twelve snapshots in three branches, by libvirt."""

    def full(name: str) -> None:
        both.mark(name)
        both.virsh("snapshot-create-as", "vm", name, "--memspec", f"{both.folder}/{name}.mem")

    def internal(name: str) -> None:
        both.mark(name)
        both.virsh("snapshot-create-as", "vm", name)

    def disk_only(name: str) -> None:
        both.mark(name)
        both.virsh("snapshot-create-as", "vm", name, "--disk-only")

    both.virsh("define", "vm.xml")
    both.virsh("start", "vm")
    internal("i0")
    internal("i1")
    full("e0")
    full("e1")
    disk_only("d1")
    disk_only("d2")
    both.virsh("snapshot-revert", "vm", "e0")
    full("e2")
    full("e3")
    disk_only("d3")
    both.virsh("snapshot-revert", "vm", "e0")
    disk_only("d4")
    internal("i2")
    both.mark("o1")


def _check_all(both: Both, program: str, order: tuple[str, ...]) -> None:
    """Every node brings back what it is named after."""
    run, second = both.virsh if program == "virsh" else both.virtsnap, int(time.time())
    for name in order:
        while program == "virsh" and int(time.time()) == second:
            # libvirt names files by the second, and two within one collide.
            time.sleep(1.005 - time.time() % 1)
        run("snapshot-revert", "vm", name)
        second = int(time.time())
        found = both.marks() if name in MEMORY else [on_disk(run("domblklist", "vm"))] * 2
        assert found == [name] * 2, (program, name)


@pytest.mark.timeout(900)
def test_there_and_back(both: Both) -> None:
    files, folders = both.libvirt.files, ["--dir", str(both.libvirt.files)]
    _grow(both)

    # A domain that runs is refused, by libvirt's word and by QEMU's locks.
    status, _, error = both.try_virtsnap(
        "import-libvirt", "vm", *folders, "--run-dir", str(both.libvirt.run_files)
    )
    assert status == 1
    assert "the domain is active in libvirt (process " in error
    status, _, error = both.try_virtsnap("import-libvirt", "vm", *folders)
    assert status == 1
    assert "is in use: another process holds QEMU's lock on it" in error
    assert both.virtsnap("list", "--all", "--name").strip() == ""

    both.virsh("destroy", "vm")
    both.virsh("snapshot-create-as", "vm", "o1")
    before = {path: path.read_bytes() for path in files.rglob("*.xml")}
    both.virtsnap("import-libvirt", "vm", *folders)
    assert {path: path.read_bytes() for path in files.rglob("*.xml")} == before
    assert both.virtsnap("snapshot-list", "vm", "--tree") == both.virsh("snapshot-list", "vm", "--tree")
    drawn = both.virsh("snapshot-list", "vm", "--tree").splitlines()
    assert [line for line in drawn if re.search(r"\w", line)] == TREE.split("\n")[1:-1]

    # What is written back at once is what libvirt wrote, byte by byte.
    out = both.folder / "out"
    both.virtsnap("export-libvirt", "vm", "--dir", str(out))
    names = [str(path.relative_to(files)) for path in before]
    assert len(names) == 13
    assert filecmp.cmpfiles(files, out, names, shallow=False) == (names, [], [])

    _check_all(both, "virtsnap", (*DISK, *MEMORY))

    # What is made and deleted here means the same there.
    both.virtsnap("snapshot-revert", "vm", "e3")
    for name in ("v1", OURS, "v3"):
        both.mark(name)
        how = ["--disk-only"] if name == OURS else ["--memspec", f"{both.folder}/{name}.mem"]
        both.virtsnap("snapshot-create-as", "vm", name, *how)
    both.virtsnap("snapshot-delete", "vm", "v1")
    both.virtsnap("destroy", "vm")
    with both.libvirt.stopped():
        report = both.virtsnap("export-libvirt", "vm", *folders)
        own_all(both)
    assert "going back to it, libvirt overwrites" in report
    assert "snapshot 'v3': its memory was written here, in the format 'sparse'" in report
    assert "load of migration failed" in both.libvirt.virsh(["snapshot-revert", "vm", "v3"]).stderr
    assert both.virsh("snapshot-list", "vm", "--tree") == both.virtsnap("snapshot-list", "vm", "--tree")
    # The first two last: with them libvirt overwrites what the others stand on.
    _check_all(both, "virsh", (*MEMORY[2:], OURS, *DISK, *MEMORY[:2]))


def test_heads_of_files(both: Both) -> None:
    """What a shell would stumble over is not in the comment."""
    plain = re.sub("<uuid>.*</uuid>", "", (both.folder / "vm.xml").read_text())
    for name in ("plain-1.0_x", "a b", "x--y", "Größe", "a+b,c@d:e=f%g~", "q'uote", "$(x)"):
        (both.folder / "named.xml").write_text(plain.replace("<name>vm</name>", f"<name>{name}</name>"))
        both.virsh("define", "named.xml")
        both.virsh("snapshot-create-as", name, name)
        written = (both.libvirt.files / f"{name}.xml").read_text()
        uuid, xml = re.findall(r"<uuid>(.*)</uuid>", written)[0], written[written.index("<domain") :]
        assert definition_file(name, uuid, xml) == written
        both.virtsnap("import-libvirt", name, "--dir", str(both.libvirt.files))
        both.virtsnap("export-libvirt", name, "--dir", str(both.folder / "out"))
        for path in (f"{name}.xml", f"snapshot/{name}/{name}.xml"):
            assert (both.folder / "out" / path).read_text() == (both.libvirt.files / path).read_text()


@pytest.mark.skipif(not Path(FIRMWARE).exists(), reason="no UEFI firmware here")
def test_uefi_variables(both: Both) -> None:
    """libvirt keeps them inside of a qcow2 store, we beside it: each finds its own."""
    store = both.folder / "vars.qcow2"

    def variables() -> bytes:
        return written(store, 4096)

    def scribble(number: int) -> None:
        both.libvirt.own(store)
        words = ["qemu-io", "-f", "qcow2", "-c", f"write -P {number} 0 4k", str(store)]
        both.libvirt.run(words).check_returncode()

    both.libvirt.run(["qemu-img", "create", "-q", "-f", "qcow2", str(store), "528K"]).check_returncode()
    made = domains.build(["uefi", "vda=a.qcow2"], both.folder, None).xml
    code = f"<loader readonly='yes' type='pflash' format='raw'>{FIRMWARE}</loader>"
    firmware = f"{code}<nvram format='qcow2'>{store}</nvram></os>"
    text = made.replace("machine='pc'", "machine='q35'").replace("</os>", firmware)
    (both.folder / "uefi.xml").write_text(text)
    both.virsh("define", "uefi.xml")
    for number in (1, 2):
        scribble(number)
        both.virsh("snapshot-create-as", "uefi", f"s{number}")
    scribble(3)
    folders = ["--dir", str(both.libvirt.files)]
    both.virtsnap("import-libvirt", "uefi", *folders)
    for number in (1, 2):
        both.virtsnap("snapshot-revert", "uefi", f"s{number}")
        assert variables() == bytes([number]) * 4096
    scribble(4)
    both.virtsnap("snapshot-create-as", "uefi", "s4")
    scribble(5)
    with both.libvirt.stopped():
        report = both.virtsnap("export-libvirt", "uefi", *folders)
        own_all(both)
    assert f"snapshot 's4': '{store}' has no internal snapshot of that name" in report
    assert "snapshot 's1'" not in report
    for number in (1, 2):
        both.virsh("snapshot-revert", "uefi", f"s{number}")
        assert variables() == bytes([number]) * 4096
    assert both.libvirt.virsh(["snapshot-revert", "uefi", "s4"]).returncode == 1
    both.virsh("undefine", "uefi", "--snapshots-metadata", "--keep-nvram")


def test_managed_saves(both: Both) -> None:
    """Each side resumes what the other one has put aside."""
    folders = ["--dir", str(both.libvirt.files)]
    (both.folder / "bare.xml").write_text(domains.build(["bare", "vda=a.qcow2"], both.folder, None).xml)
    both.virsh("define", "bare.xml")
    both.virsh("start", "bare")
    both.virsh("managedsave", "bare")
    both.virtsnap("import-libvirt", "bare", *folders)
    both.virtsnap("start", "bare")
    assert both.virtsnap("domstate", "bare", "--reason") == "running (restored)\n\n"
    both.virtsnap("managedsave", "bare")
    with both.libvirt.stopped():
        both.virtsnap("export-libvirt", "bare", *folders)
        own_all(both)
    both.virsh("start", "bare")
    assert both.virsh("domstate", "bare", "--reason") == "running (restored)\n\n"
