from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.formats.snapshot_xml import format_snapshot, parse_saved, parse_snapshot
from virtsnap.model.errors import VirtsnapError, XmlDetail, XmlError
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk, SnapshotState

DATA = Path(__file__).parent / "data" / "snapshot"
RECORDS = sorted((DATA / "record").glob("*.xml"))
REQUESTS = sorted(path for path in (DATA / "request").glob("*.xml") if ".expected" not in path.name)
UUID = "1b4e28ba-2fa1-4d3b-883f-0016d3cca427"
NOW = 1760000000


def redefine(text: str) -> Snapshot:
    return parse_snapshot(text, redefine=True, offline=False, now=NOW)


def request(text: str, *, offline: bool = False) -> Snapshot:
    return parse_snapshot(text, redefine=False, offline=offline, now=NOW)


def write(snapshot: Snapshot) -> str:
    return format_snapshot(snapshot, secure=True, uuid=UUID)


def record(inner: str = "", *, state: str = "disk-snapshot", **replaced: str) -> str:
    """A full record with `inner` added; keywords replace (or with '' remove) what it is made of."""
    parts = {
        "name": "<name>s</name>",
        "state": f"<state>{state}</state>",
        "creationTime": "<creationTime>12</creationTime>",
        **replaced,
    }
    return f"<domainsnapshot>{''.join(parts.values())}{inner}</domainsnapshot>"


def disk(inner: str, attributes: str = "snapshot='external'") -> str:
    return f"<disks><disk name='vda' {attributes}>{inner}</disk></disks>"


def cache(inner: str, unit: str = "") -> str:
    size = f"<metadata_cache><max_size{unit}>{inner}</max_size></metadata_cache>"
    return disk(f"<driver type='qcow2'>{size}</driver><source file='/a'/>")


# --- corpus -----------------------------------------------------------------------------------------------


def test_the_corpus_is_there() -> None:
    assert RECORDS
    assert REQUESTS


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_comes_back_byte_for_byte(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    snapshot = redefine(text)
    assert write(snapshot) == text
    saved = format_snapshot(snapshot, secure=True, uuid=UUID, internal=True, current=True)
    assert saved == text.replace("</domainsnapshot>", "  <active>1</active>\n</domainsnapshot>")
    assert parse_saved(saved) == (snapshot, True)


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
def test_a_request_is_read(path: Path) -> None:
    expected = path.with_suffix(".expected.xml").read_text(encoding="utf-8")
    snapshot = request(path.read_text(encoding="utf-8"))
    assert format_snapshot(snapshot, secure=True, uuid=None) == expected


def test_values_of_a_record() -> None:
    snapshot = redefine((DATA / "record" / "full_system.xml").read_text(encoding="utf-8"))
    assert (snapshot.name, snapshot.parent, snapshot.creation_time) == ("before upgrade", "clean", 1760000000)
    assert snapshot.description == 'kernel & "userland", l\'état <stable>'
    assert (snapshot.state, snapshot.memory) == (SnapshotState.RUNNING, Location.EXTERNAL)
    assert snapshot.memory_file == "/srv/images/mail.before upgrade.mem"
    assert snapshot.disks == (
        SnapshotDisk("vda", Location.EXTERNAL, path="/srv/images/mail.before upgrade", format="qcow2"),
        SnapshotDisk("sda", Location.NO),
    )
    assert snapshot.domain_xml is not None
    assert DomainDefinition.parse(snapshot.domain_xml).uuid == UUID
    assert snapshot.inactive_domain_xml is not None
    assert DomainDefinition.parse(snapshot.inactive_domain_xml).memory_kib == 524288
    assert snapshot.cookie_xml is not None
    assert snapshot.cookie_xml.startswith("<cookie>")


def test_values_of_disks() -> None:
    snapshot = redefine((DATA / "record" / "disk_only.xml").read_text(encoding="utf-8"))
    first, second, third, fourth = snapshot.disks
    assert (first.type, first.path, first.format) == ("block", "/dev/vg0/web-s2", "qcow2")
    assert first.driver_xml is not None
    assert "<max_size unit='bytes'>1048576</max_size>" in first.driver_xml
    assert (first.source_xml, first.delete_in_progress) == (None, False)
    assert (second.path, second.delete_in_progress) == ("/srv/images/data.s2", True)
    assert second.source_xml is not None
    assert "seclabel" in second.source_xml
    assert (third.type, third.path) == ("network", None)
    assert third.source_xml is not None
    assert third.source_xml.startswith("<source protocol='rbd' name='pool/image'>")
    assert fourth == SnapshotDisk("vdd", Location.MANUAL)
    assert snapshot.revert_disks == (
        SnapshotDisk("vdb", Location.EXTERNAL, path="/srv/images/data.1760000200", format="qcow2"),
    )


# --- rules ------------------------------------------------------------------------------------------------

OFFLINE = "memory state cannot be saved with offline or disk-only snapshot"
NO_TIME = "internal error: missing creationTime from existing snapshot"
RUNNING = "running"
SIZE = "./driver/metadata_cache/max_size"

LIBVIRT_REFUSES = {
    "no name": (record(name=""), "XML error: a redefined snapshot must have a name"),
    "empty name": (record(name="<name/>"), "XML error: a redefined snapshot must have a name"),
    "no time": (record(creationTime=""), NO_TIME),
    "time is no number": (record(creationTime="<creationTime>x</creationTime>"), NO_TIME),
    "time with a space after": (record(creationTime="<creationTime>5 </creationTime>"), NO_TIME),
    "time in hexadecimal": (record(creationTime="<creationTime>0x5</creationTime>"), NO_TIME),
    "time too large": (record(creationTime="<creationTime>9223372036854775808</creationTime>"), NO_TIME),
    "no state": (record(state=""), "XML error: missing state from existing snapshot"),
    "unknown state": (
        record(state="foo"),
        "unsupported configuration: Invalid state 'foo' in domain snapshot XML",
    ),
    "state nostate": (
        record(state="nostate"),
        "unsupported configuration: Invalid state 'nostate' in domain snapshot XML",
    ),
    "memory word": (
        record("<memory snapshot='foo'/>"),
        "XML error: Invalid value for attribute 'snapshot' in element 'memory': 'foo'.",
    ),
    "memory default": (
        record("<memory snapshot='default'/>"),
        "XML error: Invalid value for attribute 'snapshot' in element 'memory': 'default'.",
    ),
    "memory empty word": (
        record("<memory snapshot=''/>"),
        "XML error: Invalid value for attribute 'snapshot' in element 'memory': ''.",
    ),
    "memory manual": (
        record("<memory snapshot='manual'/>"),
        "XML error: 'manual' memory snapshot mode not supported",
    ),
    "memory internal of disk-only": (record("<memory snapshot='internal'/>"), f"XML error: {OFFLINE}"),
    "memory file of disk-only": (record("<memory file='/a'/>"), f"XML error: {OFFLINE}"),
    "memory file of shutoff": (record("<memory file='/a'/>", state="shutoff"), f"XML error: {OFFLINE}"),
    "memory without file": (
        record("<memory snapshot='external'/>"),
        "XML error: external memory snapshots require a filename",
    ),
    "memory file without external": (
        record("<memory snapshot='no' file='/a'/>"),
        "XML error: memory filename '/a' requires external snapshot",
    ),
    "memory file relative": (
        record("<memory snapshot='external' file='a'/>", state=RUNNING),
        "XML error: memory snapshot file path (a) must be absolute",
    ),
    "memory file empty": (
        record("<memory file=''/>", state=RUNNING),
        "XML error: memory snapshot file path () must be absolute",
    ),
    "disk without name": (
        record("<disks><disk/></disks>"),
        "internal error: missing name from disk snapshot element",
    ),
    "revert disk without name": (
        record("<revertDisks><disk/></revertDisks>"),
        "internal error: missing name from disk snapshot element",
    ),
    "disk word": (
        record(disk("", "snapshot='foo'")),
        "XML error: Invalid value for attribute 'snapshot' in element 'disk': 'foo'.",
    ),
    "disk default": (
        record(disk("", "snapshot='default'")),
        "XML error: Invalid value for attribute 'snapshot' in element 'disk': 'default'.",
    ),
    "disk type": (
        record(disk("", "type='foo'")),
        "XML error: Invalid value for attribute 'type' in element 'disk': 'foo'.",
    ),
    "disk type none": (
        record(disk("", "type='none'")),
        "XML error: Invalid value for attribute 'type' in element 'disk': 'none'.",
    ),
    "disk type dir": (record(disk("", "type='dir'")), "XML error: unsupported disk snapshot type 'dir'"),
    "disk type volume": (
        record(disk("", "type='volume'")),
        "XML error: unsupported disk snapshot type 'volume'",
    ),
    "relative file": (
        record(disk("<source file='a'/>")),
        "XML error: disk snapshot image path 'a' must be absolute",
    ),
    "relative block device": (
        record(disk("<source dev='d'/>", "type='block'")),
        "XML error: disk snapshot image path 'd' must be absolute",
    ),
    "driver": (
        record(disk("<driver type='foo'/>")),
        "unsupported configuration: unknown disk snapshot driver 'foo'",
    ),
    "driver none": (
        record(disk("<driver type='none'/>")),
        "unsupported configuration: unknown disk snapshot driver 'none'",
    ),
    "cache unit": (record(cache("5", " unit='foo'")), "invalid argument: unknown suffix 'foo'"),
    "cache negative": (
        record(cache("-5")),
        f"XML error: Invalid value '-5' for element or attribute '{SIZE}'",
    ),
    "cache no number": (
        record(cache("x")),
        f"XML error: Invalid value 'x' for element or attribute '{SIZE}'",
    ),
    "cache too large": (
        record(cache("500", " unit='EiB'")),
        "numerical overflow: value too large: 500EiB",
    ),
    "network without protocol": (
        record(disk("<source/>", "type='network'")),
        "XML error: Missing required attribute 'protocol' in element 'source'",
    ),
    "network protocol": (
        record(disk("<source protocol='foo' name='x'/>", "type='network'")),
        "XML error: Invalid value for attribute 'protocol' in element 'source': 'foo'.",
    ),
    "network without name": (
        record(disk("<source protocol='rbd'/>", "type='network'")),
        "XML error: missing name for disk source",
    ),
    "another root": ("<domain/>", "XML error: expecting root element of 'domainsnapshot', not 'domain'"),
    "nothing": ("", "at line 1: Document is empty\n(null)\n^"),
    "cut off": (
        "<domainsnapshot",
        "at line 1: Couldn't find end of Start Tag domainsnapshot line 1\n<domainsnapshot\n---------------^",
    ),
}
"""Records that libvirt refuses, in its words."""

LIBVIRT_DROPS = {
    "element": ("<memroy file='/a'/>", "element 'memroy' in element 'domainsnapshot'"),
    "element twice": (
        "<memory snapshot='no'/><memory/>",
        "element 'memory' in element 'domainsnapshot' is given twice",
    ),
    "memory attribute": (
        "<memory snapshot='no' compress='yes'/>",
        "attribute 'compress' of element 'memory'",
    ),
    "element in disks": ("<disks><dsk name='vda'/></disks>", "element 'dsk' in element 'disks'"),
    "disk attribute": (disk("", "bus='ide'"), "attribute 'bus' of element 'disk'"),
    "disk element": (disk("<target dev='x'/>"), "element 'target' in element 'disk'"),
    "driver attribute": (
        disk("<driver type='qcow2' cache='none'/>"),
        "attribute 'cache' of element 'driver'",
    ),
    "another driver": (disk("<driver name='tap'/>"), "attribute 'name' of element 'driver'"),
    "source attribute": (disk("<source file='/a' startupPolicy='optional'/>"), "attribute 'startupPolicy'"),
    "source of another type": (disk("<source dev='/dev/sda'/>"), "attribute 'dev' of element 'source'"),
    "source element": (disk("<source file='/a'><x/></source>"), "element 'x' in element 'source'"),
    "disk type": (disk("", "type='nvme'"), "disk snapshot type 'nvme'"),
    "element in name": ("<parent><name>a<b/></name></parent>", "element 'b' in element 'name'"),
    "element in parent": ("<parent><uuid/></parent>", "element 'uuid' in element 'parent'"),
    "root attribute": ("", "attribute 'version' of element 'domainsnapshot'"),
}
"""What libvirt drops in silence, or cannot be used here, and we refuse by name."""


@pytest.mark.parametrize("case", LIBVIRT_REFUSES)
def test_libvirts_refusals(case: str) -> None:
    text, message = LIBVIRT_REFUSES[case]
    with pytest.raises(VirtsnapError) as caught:
        redefine(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("case", LIBVIRT_DROPS)
def test_nothing_is_dropped_in_silence(case: str) -> None:
    inner, words = LIBVIRT_DROPS[case]
    text = record(inner)
    if case == "root attribute":
        text = text.replace("<domainsnapshot>", "<domainsnapshot version='2'>")
    with pytest.raises(VirtsnapError, match=r"^unsupported configuration: ") as caught:
        redefine(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("memory", "state", "expected"),
    [
        ("", "running", (Location.INTERNAL, None)),
        ("", "paused", (Location.INTERNAL, None)),
        ("", "shutoff", (Location.NO, None)),
        ("", "disk-snapshot", (Location.NO, None)),
        ("<memory/>", "running", (Location.INTERNAL, None)),
        ("<memory snapshot='no'/>", "running", (Location.NO, None)),
        ("<memory file='/a'/>", "running", (Location.EXTERNAL, "/a")),
    ],
)
def test_memory_of_a_record(memory: str, state: str, expected: tuple[Location, str | None]) -> None:
    snapshot = redefine(record(memory, state=state))
    assert (snapshot.memory, snapshot.memory_file) == expected


def test_memory_of_a_request() -> None:
    assert request("<domainsnapshot/>").memory is Location.UNSET
    assert request("<domainsnapshot><memory/></domainsnapshot>", offline=True).memory is Location.UNSET
    text = "<domainsnapshot><memory snapshot='internal'/></domainsnapshot>"
    assert request(text).memory is Location.INTERNAL
    with pytest.raises(XmlError, match=OFFLINE):
        request(text, offline=True)


@pytest.mark.parametrize(
    ("number", "expected"), [(" 5", 5), ("+5", 5), ("-5", -5), ("9223372036854775807", 2**63 - 1)]
)
def test_creation_times(number: str, expected: int) -> None:
    assert redefine(record(creationTime=f"<creationTime>{number}</creationTime>")).creation_time == expected


def test_spaces_belong_to_a_name_and_a_description() -> None:
    snapshot = redefine(record("<description> x </description>", name="<name>  a b </name>"))
    assert (snapshot.name, snapshot.description) == ("  a b ", " x ")


def test_a_path_or_a_format_makes_a_disk_external() -> None:
    for inner in ("<source file='/a'/>", "<driver type='qcow2'/>"):
        (entry,) = request(f"<domainsnapshot>{disk(inner, '')}</domainsnapshot>").disks
        assert entry.location is Location.EXTERNAL
    for inner in ("", "<source/>", "<source file=''/>", "<driver/>", "<driver type=''/>"):
        (entry,) = request(f"<domainsnapshot>{disk(inner, '')}</domainsnapshot>").disks
        assert entry == SnapshotDisk("vda")


def test_a_request_ignores_what_is_for_output() -> None:
    text = (DATA / "record" / "full_system.xml").read_text(encoding="utf-8")
    snapshot = request(text)
    full = redefine(text)
    assert snapshot == Snapshot(
        name=full.name,
        creation_time=NOW,
        description=full.description,
        memory=full.memory,
        memory_file=full.memory_file,
        disks=full.disks,
    )
    marked = (DATA / "record" / "disk_only.xml").read_text(encoding="utf-8")
    assert not any(entry.delete_in_progress for entry in request(marked).disks)
    assert request(marked).revert_disks == ()


def test_a_bad_definition_in_a_record_is_refused() -> None:
    with pytest.raises(XmlDetail, match="missing name information"):
        redefine(record("<domain type='qemu'/>"))
    with pytest.raises(XmlDetail, match="missing name information"):
        redefine(record("<inactiveDomain type='qemu'/>"))


def test_the_cookie_of_an_offline_record_is_not_kept() -> None:
    assert redefine(record("<cookie><cpu/></cookie>", state="shutoff")).cookie_xml is None
    assert redefine(record("<cookie><cpu/></cookie>", state=RUNNING)).cookie_xml is not None


def test_passwords_only_when_asked_for() -> None:
    text = (DATA / "record" / "full_system.xml").read_text(encoding="utf-8")
    graphics = "<graphics type='vnc' port='-1' passwd='sesame' passwdValidTo='2030-01-01T00:00:00'/>"
    text = text.replace("    </devices>\n", f"      {graphics}\n    </devices>\n")
    snapshot = redefine(text)
    assert write(snapshot) == text
    public = format_snapshot(snapshot, secure=False, uuid=UUID)
    assert public == text.replace(" passwd='sesame'", "")
    assert text.count("sesame") == 2


def test_metadata_files() -> None:
    text = record("<active>0</active>")
    assert parse_saved(text)[1] is False
    assert parse_saved(text.replace("0</active>", "2</active>"))[1] is True
    for inner in ("", "<active/>", "<active>yes</active>", "<active>4294967296</active>"):
        with pytest.raises(VirtsnapError, match=r"^internal error: Could not find 'active' element$"):
            parse_saved(record(inner))


def test_a_changed_path_wins_over_the_kept_source() -> None:
    (entry,) = redefine(record(disk("<source file='/a'><seclabel relabel='no'/></source>"))).disks
    text = write(replace(redefine(record()), disks=(replace(entry, path="/b", format="qcow2"),)))
    assert "<source file='/b'>" in text
    assert "<driver type='qcow2'/>" in text


# --- the round trip ---------------------------------------------------------------------------------------

# No carriage returns or, in attributes, tabs and newlines: an XML reader turns them into other spaces, and
# libvirt writes them as they are.
LETTERS = st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co"))
WORDS = st.text(LETTERS, min_size=1, max_size=20)
TEXTS = st.text(LETTERS | st.sampled_from("\n\t"), min_size=1, max_size=30)
PATHS = WORDS.map(lambda text: "/" + text)


@st.composite
def _disks(draw: st.DrawFn) -> SnapshotDisk:
    name = draw(WORDS)
    marked = draw(st.booleans())
    if draw(st.booleans()):
        return SnapshotDisk(name, draw(st.sampled_from(Location)), delete_in_progress=marked)
    path = draw(PATHS)
    type, attribute = draw(st.sampled_from([("file", "file"), ("block", "dev")]))
    format = draw(st.sampled_from([None, "qcow2", "raw", "qed"]))
    label = "<seclabel model='dac' relabel='no'/>"
    kind = f" type='{format}'" if format else ""
    driver = f"<driver{kind}><metadata_cache><max_size unit='bytes'>5</max_size></metadata_cache></driver>"
    source = draw(st.booleans())
    entry = SnapshotDisk(
        name, Location.EXTERNAL, type, path, format, delete_in_progress=marked, driver_xml=None
    )
    if not source and not draw(st.booleans()):
        return entry
    # the canonical texts come from reading once
    snapshot = Snapshot("s", 1, SnapshotState.PAUSED, disks=(entry,))
    text = format_snapshot(snapshot, secure=True, uuid=None)
    text = re.sub(rf"(<source {attribute}='[^']*')/>", rf"\1>{label}</source>", text)
    text = text.replace(f"<driver{kind}/>", driver) if format else text
    return redefine(text).disks[0]


@st.composite
def _snapshots(draw: st.DrawFn) -> Snapshot:
    state = draw(st.sampled_from([state for state in SnapshotState if state is not SnapshotState.NOSTATE]))
    offline = state in (SnapshotState.SHUTOFF, SnapshotState.DISK_SNAPSHOT)
    memory = draw(
        st.sampled_from([Location.NO] if offline else [Location.NO, Location.INTERNAL, Location.EXTERNAL])
    )
    full = redefine((DATA / "record" / "full_system.xml").read_text(encoding="utf-8"))
    return Snapshot(
        name=draw(WORDS),
        creation_time=draw(st.integers(-(2**63), 2**63 - 1).filter(bool)),
        state=state,
        description=draw(st.none() | TEXTS),
        parent=draw(st.none() | WORDS),
        memory=memory,
        memory_file=draw(PATHS) if memory is Location.EXTERNAL else None,
        disks=tuple(draw(st.lists(_disks(), max_size=3))),
        revert_disks=tuple(draw(st.lists(_disks(), max_size=2))),
        domain_xml=draw(st.sampled_from([None, full.domain_xml])),
        inactive_domain_xml=draw(st.sampled_from([None, full.inactive_domain_xml])),
        cookie_xml=None if offline else draw(st.sampled_from([None, full.cookie_xml])),
    )


@given(snapshot=_snapshots(), current=st.booleans())
def test_any_record_comes_back(snapshot: Snapshot, current: bool) -> None:
    assert redefine(write(snapshot)) == snapshot
    saved = format_snapshot(snapshot, secure=True, uuid=UUID, internal=True, current=current)
    assert parse_saved(saved) == (snapshot, current)
    assert write(redefine(write(snapshot))) == write(snapshot)


# --- against libvirt --------------------------------------------------------------------------------------

SAME_AS_LIBVIRT = {
    **{name: text for name, (text, _) in LIBVIRT_REFUSES.items()},
    **{
        f"state {state}": record(disk("<source file='/a'/>"), state=state) for state in ("running", "crashed")
    },
    "spaces": record("<description> x\n\ty </description>", name="<name> a b </name>"),
    "escapes": record("<description>&lt;&gt;&amp;&apos;&quot;é<![CDATA[<]]></description>"),
    "memory file": record(
        "<memory file='/a b&apos;&lt;&#233;'/>" + disk("<source file='/a'/>"), state=RUNNING
    ),
    "internal": record(disk("", "snapshot='internal'"), state=RUNNING),
    "no": record(disk("", "snapshot='no'")),
    "manual": record(disk("", "snapshot='manual'")),
    "time before the epoch": record(creationTime="<creationTime>-5</creationTime>"),
    "time zero": record(creationTime="<creationTime>0</creationTime>"),
    "empty description": record("<description/>"),
    "empty parent": record("<parent/>"),
    "driver first": record(disk("<driver type='qcow2' name='qemu'/><source file='/a'/>")),
    "source first": record(disk("<source file='/a'/><driver type='raw'/>", "")),
    "block": record(disk("<source dev='/dev/a'/>", "snapshot='external' type='block'")),
    "cache": record(cache("5", " unit='KiB'")),
    "cache of nothing": record(cache("0")),
    "cache without type": record(cache("7").replace(" type='qcow2'", "")),
    "deletion mark": record(disk("<source file='/a'/><snapshotDeleteInProgress/>")),
    "deletion mark alone": record(disk("<snapshotDeleteInProgress/>", "snapshot='no'")),
    "seclabel": record(disk("<source file='/a'><seclabel relabel='no' model='dac'/></source>")),
    "encryption": record(
        disk(
            "<source file='/a'><encryption format='luks'>"
            f"<secret uuid='{UUID}' type='passphrase'/></encryption></source>"
        )
    ),
    "slices": record(
        disk("<source file='/a'><slices><slice type='storage' offset='0' size='5'/></slices></source>")
    ),
    "gluster": record(
        disk(
            "<source name='v/p' protocol='gluster'><host port='1' name='h'/></source>",
            "snapshot='external' type='network'",
        )
    ),
    "rbd": record(
        disk(
            "<source protocol='rbd' name='p/i'><host name='a' port='1'/><host name='b' port='2'/>"
            "<snapshot name='s'/><config file='/c'/>"
            "<auth username='u'><secret type='ceph' usage='x'/></auth></source>",
            "type='network'",
        )
    ),
    "revert disks": record("<revertDisks><disk name='vda'><source file='/r'/></disk></revertDisks>"),
}
"""Records on which virtsnap and libvirt must agree, word for word. Its test driver shares the parser."""


@pytest.fixture(scope="module")
def virsh() -> str:
    path = shutil.which("virsh")
    if path is None:
        pytest.skip("there is no virsh")
    return path


@pytest.mark.parity
@pytest.mark.parametrize("case", SAME_AS_LIBVIRT)
def test_libvirt_says_the_same(case: str, virsh: str, tmp_path: Path) -> None:
    domain = (
        f"<domain type='test'><name>t</name><uuid>{UUID}</uuid><memory>1024</memory>"
        "<os><type>hvm</type></os><devices><disk type='file' device='disk'>"
        f"<source file='{tmp_path}/node.xml'/><target dev='vda'/></disk></devices></domain>"
    )
    (tmp_path / "node.xml").write_text(f"<node>{domain}</node>")
    text = SAME_AS_LIBVIRT[case]
    if text.startswith("<domainsnapshot>"):
        # libvirt aligns a record with its definition: without one it takes no record at all
        text = text.replace("</domainsnapshot>", f"{domain}</domainsnapshot>")
    (tmp_path / "snapshot.xml").write_text(text)
    theirs = subprocess.run(
        [
            *(virsh, "-q", "-c", f"test://{tmp_path}/node.xml"),
            f"snapshot-create t {tmp_path}/snapshot.xml --redefine; snapshot-dumpxml t '{_name(text)}'",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        timeout=30,
    )
    ours, refusal = "", ""
    try:
        ours = write(redefine(text.replace("type='test'", "type='qemu'")))
    except VirtsnapError as error:
        refusal = f"error: {error}\n"
    # virsh goes on to the second command, which then knows no such snapshot
    said = theirs.stderr.partition("error: Domain snapshot not found")[0].strip()
    assert said == refusal.strip()
    assert _own(theirs.stdout, aligned="<disks>" not in text) == _own(ours)


def _name(text: str) -> str:
    found = re.search("<name>(.*?)</name>", text)
    return "none" if found is None else found[1]


def _own(text: str, *, aligned: bool = False) -> str:
    """The text without the definition; `aligned`: without the disks that libvirt adds when none is listed."""
    start = text.find("<domainsnapshot>")
    text = "" if start < 0 else text[start:].rstrip()
    text = re.sub(r"  <domain type.*</domain>\n", "", text, flags=re.DOTALL)
    return re.sub(r"  <disks>.*</disks>\n", "", text, flags=re.DOTALL) if aligned else text


LIBVIRT_SOURCE = os.environ.get("VIRTSNAP_LIBVIRT_SOURCE", "")


@pytest.mark.parity
@pytest.mark.skipif(not LIBVIRT_SOURCE, reason="VIRTSNAP_LIBVIRT_SOURCE names no libvirt source tree")
def test_libvirts_own_corpus() -> None:
    """Every record of libvirt's tests comes back; every request becomes what libvirt makes of it."""
    tests = Path(LIBVIRT_SOURCE) / "tests"
    wanted = sorted((tests / "qemudomainsnapshotxml2xmlout").glob("*.xml"))
    assert wanted, f"no corpus in '{tests}'"
    wrong = []
    for path in wanted:
        expected = path.read_text(encoding="utf-8")
        if not _reproduces(expected, path, tests / "qemudomainsnapshotxml2xmlin" / path.name):
            wrong.append(path.name)
    assert wrong == []


def _reproduces(expected: str, record_path: Path, request_path: Path) -> bool:
    found = re.search(r"<domain>\s*<uuid>(.*?)</uuid>", expected)
    uuid = found[1] if found else None
    if "<state>" in expected and not request_path.exists():
        if "<active>" in expected:
            snapshot, current = parse_saved(expected)
            return (
                format_snapshot(snapshot, secure=True, uuid=uuid, internal=True, current=current) == expected
            )
        return format_snapshot(redefine(expected), secure=True, uuid=uuid) == expected
    # The clock and the state of the domain are the only things a request does not bring.
    time = re.search(r"<creationTime>(\d+)", expected)
    state = re.search(r"<state>(.*)</state>", expected)
    snapshot = parse_snapshot(
        request_path.read_text(encoding="utf-8"),
        redefine=False,
        offline=False,
        now=int(time[1]) if time else 0,
    )
    snapshot = replace(snapshot, state=SnapshotState(state[1] if state else "nostate"))
    return format_snapshot(snapshot, secure=True, uuid=uuid) == expected
