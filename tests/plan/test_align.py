"""A snapshot's disk list against the domain's: libvirt's rules and words."""

from __future__ import annotations

import pytest

from tests.plan.simulation import cdrom_xml, disk_xml, domain_xml
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.model.errors import ConfigUnsupported
from virtsnap.model.snapshot import Location, Snapshot, SnapshotDisk
from virtsnap.plan.align import align, overlay_path

NO, INTERNAL, EXTERNAL, UNSET = Location.NO, Location.INTERNAL, Location.EXTERNAL, Location.UNSET
TWO = disk_xml("vda", "/i/a.qcow2") + disk_xml("vdb", "/i/b.qcow2")
FILES = {"/i/a.qcow2", "/i/b.qcow2", "/i/x.y.img", "/i/plain", "/i/same.one", "/i/same.two"}


def aligned(
    disks: str, *entries: SnapshotDisk, default: Location = EXTERNAL, record: bool | None = None
) -> list[tuple[str, str, str | None]]:
    result = align(
        Snapshot("s1", disks=entries),
        DomainDefinition.parse(domain_xml(disks)),
        default,
        FILES.__contains__,
        record=default is INTERNAL if record is None else record,
    )
    return [(entry.name, entry.location.value, entry.path) for entry in result]


def other_kind(type: str, source: str) -> str:
    return (
        f"<disk type='{type}' device='disk'><driver name='qemu' type='raw'/>{source}"
        "<target dev='vdb' bus='virtio'/></disk>"
    )


NBD = other_kind("network", "<source protocol='nbd' name='x'/>")


def test_every_disk_gets_an_entry_in_the_domains_order() -> None:
    assert aligned(TWO, SnapshotDisk("vdb", EXTERNAL, path="/o/b")) == [
        ("vda", "external", "/i/a.s1"),
        ("vdb", "external", "/o/b"),
    ]


def test_nothing_to_do_without_disks() -> None:
    assert aligned("") == []


def test_a_disk_may_be_named_by_its_source() -> None:
    assert aligned(TWO, SnapshotDisk("/i/b.qcow2", NO))[1] == ("vdb", "no", None)


def test_empty_and_read_only_drives_stay_out() -> None:
    disks = cdrom_xml("sda", "/i/cd.iso") + cdrom_xml("sdb", None) + disk_xml("vda", "/i/a.qcow2")
    assert aligned(disks) == [("sda", "no", None), ("sdb", "no", None), ("vda", "external", "/i/a.s1")]


def test_a_disk_that_is_neither_file_nor_volume_is_never_left_out_in_silence() -> None:
    assert aligned(NBD, default=INTERNAL) == [("vdb", "internal", None)]
    assert aligned(NBD, default=INTERNAL, record=False) == [("vdb", "internal", None)]
    assert aligned(NBD, SnapshotDisk("vdb", EXTERNAL, path="/o")) == [("vdb", "external", "/o")]
    assert aligned(other_kind("vhostuser", "<source type='unix' path='/s'/>")) == [("vdb", "no", None)]


@pytest.mark.parametrize(
    ("attribute", "entry", "default", "expected"),
    [
        (None, UNSET, EXTERNAL, "external"),
        (None, UNSET, INTERNAL, "internal"),
        ("no", UNSET, EXTERNAL, "no"),
        ("no", UNSET, INTERNAL, "no"),
        ("internal", UNSET, EXTERNAL, "internal"),
        ("external", UNSET, INTERNAL, "internal"),  # of a record only 'no' counts
        ("no", EXTERNAL, EXTERNAL, "external"),
        ("no", NO, INTERNAL, "no"),
        ("external", NO, EXTERNAL, "no"),
        (None, INTERNAL, INTERNAL, "internal"),
        (None, NO, INTERNAL, "no"),  # libvirt refuses what it would not have made
        ("manual", UNSET, EXTERNAL, "manual"),
    ],
)
def test_location_of_a_listed_disk(
    attribute: str | None, entry: Location, default: Location, expected: str
) -> None:
    attributes = f" snapshot='{attribute}'" if attribute else ""
    disks = disk_xml("vda", "/i/a.qcow2", attributes=attributes)
    assert aligned(disks, SnapshotDisk("vda", entry), default=default)[0][1] == expected


@pytest.mark.parametrize("word", ["no", "internal", "external", "manual"])
def test_for_an_unlisted_disk_the_domains_word_counts_even_where_all_must_match(word: str) -> None:
    disks = disk_xml("vda", "/i/a.qcow2", attributes=f" snapshot='{word}'")
    assert aligned(disks, default=INTERNAL)[0][1] == word


@pytest.mark.parametrize(
    ("disks", "entries", "default", "text"),
    [
        (
            disk_xml("vda", "/i/a.qcow2"),
            [SnapshotDisk("vda"), SnapshotDisk("vdb")],
            EXTERNAL,
            "too many disk snapshot requests for domain",
        ),
        ("", [SnapshotDisk("vda")], EXTERNAL, "too many disk snapshot requests for domain"),
        (TWO, [SnapshotDisk("vdc")], EXTERNAL, "no disk named 'vdc'"),
        (TWO, [SnapshotDisk("/nowhere")], EXTERNAL, "no disk named '/nowhere'"),
        (
            disk_xml("vda", "/i/a.qcow2") + disk_xml("vdb", "/i/a.qcow2"),
            [SnapshotDisk("/i/a.qcow2")],
            EXTERNAL,
            "no disk named '/i/a.qcow2'",
        ),
        (TWO, [SnapshotDisk("vda"), SnapshotDisk("vda")], EXTERNAL, "disk 'vda' specified twice"),
        (
            TWO,
            [SnapshotDisk("vda"), SnapshotDisk("/i/a.qcow2")],
            EXTERNAL,
            "disk '/i/a.qcow2' specified twice",
        ),
        (
            TWO,
            [SnapshotDisk("vda", INTERNAL, path="/o")],
            EXTERNAL,
            "file '/o' for disk 'vda' requires use of external snapshot mode",
        ),
        (
            TWO,
            [SnapshotDisk("vda", NO, path="/o")],
            EXTERNAL,
            "file '/o' for disk 'vda' requires use of external snapshot mode",
        ),
        (
            TWO,
            [SnapshotDisk("vda", EXTERNAL, type="block")],
            EXTERNAL,
            "cannot generate external snapshot name for disk 'vda' on a 'block' device",
        ),
        (
            cdrom_xml("sda", None),
            [SnapshotDisk("sda", EXTERNAL)],
            EXTERNAL,
            "cannot generate external snapshot name for disk 'sda' without source",
        ),
        (
            disk_xml("vda", "/dev/vg/a"),
            [],
            EXTERNAL,
            "source for disk 'vda' is not a regular file; refusing to generate external snapshot name",
        ),
        (
            NBD,
            [],
            EXTERNAL,
            "source for disk 'vdb' is not a regular file; refusing to generate external snapshot name",
        ),
        (
            other_kind("nvme", "<source/>"),
            [],
            EXTERNAL,
            "cannot generate external snapshot name for disk 'vdb' without source",
        ),
        (
            disk_xml("vda", "/i/same.one") + disk_xml("vdb", "/i/same.two"),
            [],
            EXTERNAL,
            "cannot generate external snapshot name for disk 'vdb': collision with disk 'vda'",
        ),
        (
            TWO,
            [SnapshotDisk("vdb", EXTERNAL, path="/i/a.s1")],
            EXTERNAL,
            "cannot generate external snapshot name for disk 'vda': collision with disk 'vdb'",
        ),
    ],
)
def test_refusals(disks: str, entries: list[SnapshotDisk], default: Location, text: str) -> None:
    with pytest.raises(ConfigUnsupported) as caught:
        aligned(disks, *entries, default=default)
    assert str(caught.value) == "unsupported configuration: " + text


@pytest.mark.parametrize(
    ("source", "suffix", "expected"),
    [
        ("/i/a.qcow2", "s1", "/i/a.s1"),
        ("/i/x.y.img", "s1", "/i/x.y.s1"),
        ("/i/plain", "s1", "/i/plain.s1"),
        ("/dir.d/plain", "s1", "/dir.d/plain.s1"),
        ("/i/.hidden", "s1", "/i/.s1"),
        ("/i/a.qcow2", "before update", "/i/a.before update"),
    ],
)
def test_overlay_names(source: str, suffix: str, expected: str) -> None:
    assert overlay_path(source, suffix) == expected
