"""libvirt's own test data for snapshots, given to snapshot-create by virsh and by virtsnap on equal domains.

The files come from libvirt's source package and are not kept here: VIRTSNAP_LIBVIRT_SOURCE names the unpacked
tree. Each is given as a request and as a record (--redefine), to a domain that has the disks it names, shut
off and running: accepted or refused, with which words, and what comes out of it. Reading and writing alone is
compared in tests/formats.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from lxml import etree

from tests.parity import known, oracle
from tests.parity.play import Stage, report, stage
from tests.parity.scenario import Scenario, Step

SOURCE = os.environ.get("VIRTSNAP_LIBVIRT_SOURCE", "")
FOLDERS = ("qemudomainsnapshotxml2xmlin", "qemudomainsnapshotxml2xmlout")
FILES = [path for folder in FOLDERS for path in sorted((Path(SOURCE) / "tests" / folder).glob("*.xml"))]
COUNT = 28
UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
HOW = ("off", "off --disk-only", "running", "running --disk-only", "--redefine", "--redefine --current")

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not SOURCE, reason="VIRTSNAP_LIBVIRT_SOURCE names no libvirt source tree"),
]


CREATE = "snapshot-create vm *"
ASKS_MORE = "overlays that ask for more than a path"
MIXED = "internal and external disks in one snapshot"
OFFLINE = "offline snapshot without --disk-only: memory element"
USB = [
    "out +<controller type='usb' index='0' model='piix3-uhci'>",
    "out +<address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x2'/>",
    "out +</controller>",
]
RULES = [
    known.Rule(
        ["*-disk-invalid-off*", "*-disk-invalid-running-disk-only"],
        CREATE,
        "elements and attributes of snapshot XML that are not used",
        virsh=["status 0", r"out Domain snapshot asdf created from .*"],
        virtsnap=["status 1", "err error: .*attribute 'startupPolicy' of element 'source' is not supported"],
    ),
    known.Rule(
        ["*-disk-invalid-running"],
        CREATE,
        MIXED,
        virsh=["err error: .*disk 'vda' must use snapshot mode 'internal'"],
        virtsnap=["err error: .*attribute 'startupPolicy' of element 'source' is not supported"],
    ),
    known.Rule(
        ["*-disk-seclabel-*", "*-qcow2-metadata-cache-*", "*-disk-network-seclabel-*"],
        CREATE,
        ASKS_MORE,
        virsh=[
            "status 0",
            "out Domain snapshot my snap name created from .*",
            "err error: .*disk 'hd[deg]' must use snapshot mode 'internal'",
            "err error: .*Block driver 'gluster' not found or not supported",
        ],
        virtsnap=[
            "status 1",
            "err error: .*snapshot disk 'hd[deg]' asks for more than a path and a format .*",
            "err error: .*external active snapshots are not supported on 'network' disks",
        ],
    ),
    known.Rule(
        ["out-disk_snapshot_redefine-*"],
        CREATE,
        ASKS_MORE,
        virsh=[
            "err error: .*internal and full system snapshots require all disks to be selected for snapshot"
        ],
        virtsnap=["err error: .*external snapshot format for disk hdd is unsupported: qed"],
    ),
    known.Rule(
        ["*-disk_driver_name_null-off"],
        "snapshot-dumpxml vm *",
        OFFLINE,
        virtsnap=["out   <memory snapshot='no'/>"],
    ),
    known.Rule(
        ["*-disk_driver_name_null-off"],
        "snapshot-info vm *",
        OFFLINE,
        virsh=["out Location: +internal"],
        virtsnap=["out Location: +external"],
    ),
    known.Rule(
        ["*-disk_driver_name_null-running"],
        CREATE,
        MIXED,
        virsh=["status 1", "err error: .*disk 'vda' must use snapshot mode 'internal'"],
        virtsnap=["status 0", "out Domain snapshot asdf created from .*"],
    ),
    known.Rule(
        ["*-running", "*-running-disk-only"],
        "snapshot-*",
        "processor of a running domain",
        virsh=[
            "out   </?cookie>",
            "out     <cpu mode='custom' match='exact' check='full'>",
            "out       <model fallback='forbid'>qemu64</model>",
            "out       <feature policy='require' name='(hypervisor|lahf_lm)'/>",
            "out     </cpu>",
            "out     <slirpHelper/>",
        ],
    ),
    known.Rule(
        ["*-running", "*-running-disk-only"],
        "snapshot-*",
        "backing chain in definitions",
        virsh=[
            "out +</?backingStore.*>",
            "out {11,}<format type='(raw|qcow2)'/>",
            "out {11,}<source file='.*'/>",
        ],
    ),
    known.Rule(
        ["out-external_vm_redefine-running"],
        "snapshot-dumpxml vm *",
        "place of the USB controller",
        virsh=USB,
        virtsnap=USB,
    ),
    known.Rule(
        ["*-running"],
        CREATE,
        "names that QEMU rejects as job id",
        virsh=["status 1", "err error: .*Invalid job ID 'internal-snapshot-save-my snap name'"],
        virtsnap=["status 0", "out Domain snapshot my snap name created from .*"],
    ),
]
"""What is meant to be different; scenarios with * and ?."""


def meant(scenario: str, command: str, line: str) -> bool:
    """Whether a rule allows a line of a difference; an empty line ends each error."""
    if line[1:] in ("err ", "out "):
        return True
    for rule in RULES:
        named = any(fnmatchcase(scenario, pattern) for pattern in rule.scenarios)
        allowed = rule.virsh if line[0] == "-" else rule.virtsnap
        said = any(re.fullmatch(pattern, line[1:], re.S) for pattern in allowed)
        if named and said and fnmatchcase(command, rule.command):
            return True
    return False


@pytest.fixture(scope="module", name="where")
def _where() -> Iterator[Stage]:
    reason = oracle.missing()
    if reason is not None:
        pytest.skip(reason)
    with stage() as built:
        built.rules = []
        yield built


def test_all_of_it_is_there() -> None:
    assert len(FILES) == COUNT


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name[-3:].strip('l')}-{path.stem}")
def test_file(where: Stage, file: Path, how: str) -> None:
    played = scenario(file, how)
    score = where.play(played)
    for step in score.steps:
        wrong = [line for line in step.diff if not meant(played.name, step.step.text, line)]
        assert not wrong, "\n".join(report(score))
        if step.virsh.status != step.virtsnap.status:
            return  # one has a snapshot and the other has none: nothing after it can be the same


def test_rules_stand_on_the_document() -> None:
    rows = known.rows()
    for rule in RULES:
        assert any(row.startswith(rule.row) for row in rows), f"docs/differences.md has no row: {rule.row}"


def scenario(file: Path, how: str) -> Scenario:
    """What both programs are told."""
    text = re.sub(r"(/dev/HostVG|/path/to|/tmp)/", "{dir}/", file.read_text())
    root = etree.fromstring(text)
    state, _, flags = how.partition(" ") if not how.startswith("-") else ("off", "", how)
    definition = _definition(root, starts=state == "running")
    images = re.findall(r"""file=["'](\{dir\}/[^"']*)""", definition)
    name = root.findtext("name")
    parent = root.findtext("parent/name")
    steps = [
        Step(1, "file", "d.xml", body=definition),
        Step(2, "file", "s.xml", body=text),
        *(Step(3, "sh", f"qemu-img create -q -f {_format(root)} '{path}' 8M") for path in images),
        _command("define {dir}/d.xml"),
        *([_command("start vm --paused")] if state == "running" else []),
        *([_command(f"snapshot-create-as vm {parent} --disk-only")] if parent and images else []),
        _command(f"snapshot-create vm {{dir}}/s.xml {flags}".strip()),
        _command("snapshot-list vm --tree"),
        _command(f"snapshot-dumpxml vm '{name}' --security-info" if name else "snapshot-current vm"),
        _command(f"snapshot-info vm '{name}'" if name else "snapshot-info vm --current"),
        _command("domblklist vm"),
    ]
    label = re.sub(r"\W+", "-", f"{file.parent.name[-3:].strip('l')}-{file.stem}-{how}")
    return Scenario(label, tuple(steps))


def _command(text: str) -> Step:
    return Step(4, "command", text)


def _format(root: etree._Element) -> str:
    return "raw" if root.find("domain[@type]") is not None else "qcow2"


def _definition(root: etree._Element, *, starts: bool) -> str:
    """The domain that the file is about, or one with the disks that it names."""
    domain = root.find("domain[@type]")
    if domain is not None:
        domain = etree.fromstring(etree.tostring(domain))
        domain.set("type", "qemu")
        domain.find("name").text = "vm"  # type: ignore[union-attr]
        for disk in domain.iterfind("devices/disk[@type='block']"):
            # Regular files stand in for its volumes.
            disk.set("type", "file")
            source = disk.find("source")
            assert source is not None
            source.set("file", source.attrib.pop("dev"))
            if starts:  # six disks on one IDE controller do not
                disk.remove(disk.find("address"))  # type: ignore[arg-type]
                disk.find("target").set("bus", "virtio")  # type: ignore[union-attr]
        if starts:  # what this host may not have
            domain.find("vcpu").attrib.pop("cpuset", "")  # type: ignore[union-attr]
            for element in (*domain.iterfind("seclabel"), *domain.iterfind("resource")):
                domain.remove(element)
        return etree.tostring(domain, encoding="unicode")
    names = dict.fromkeys(disk.get("name", "") for disk in root.iterfind("disks/disk"))
    disks = []
    for number, name in enumerate(names or {"vda": None}):
        target = "hda" if name.startswith("{dir}") else name
        path = name if name.startswith("{dir}") else f"{{dir}}/{number}.qcow2"
        disks.append(
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/>"
            f"<target dev='{target}' bus='virtio'/></disk>"
        )
    return _DOMAIN.format(uuid=root.findtext("domain/uuid") or UUID, disks="".join(disks)).replace(
        "{{dir}}", "{dir}"
    )


_DOMAIN = """<domain type='qemu'>
  <name>vm</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    {disks}
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""
