"""A domain in libvirt's folders, taken over and written back: what is refused, with which reasons, and whole.

The folders are made by an export; tests/parity shows that a real libvirt's are the same byte by byte.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.service.local_domain import BareDomain
from virtsnap.engine import libvirt_dir
from virtsnap.formats.save_image import SaveFormat, SaveImageHeader
from virtsnap.model.errors import Failed, InvalidArg, OperationInvalid
from virtsnap.model.event import Change, Detail
from virtsnap.model.flags import DomainUndefine, SnapshotCreate
from virtsnap.model.libvirt import LibvirtReport
from virtsnap.model.snapshot import Location, SnapshotState
from virtsnap.qemu import images
from virtsnap.service.local import LocalService, open_local

pytestmark = pytest.mark.real

NAME = "bare"


@dataclass
class Scene:
    """`lib`: libvirt's folders. `images`: what its documents name. `target`: our root, empty at first."""

    folder: Path
    uuid: str

    @property
    def lib(self) -> Path:
        return self.folder / "lib"

    @property
    def images(self) -> Path:
        return self.folder / "vm"

    def document(self, name: str) -> Path:
        return self.lib / "snapshot" / NAME / f"{name}.xml"

    def edit(self, path: Path, old: str, new: str, count: int = -1) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, count))

    def overlay(self, target: str, name: str) -> Path:
        """What a snapshot put on top."""
        return self.images / f"{target}.{name}"

    def qemu_img(self, *words: str | Path) -> None:
        subprocess.run(["qemu-img", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def memory_file(path: Path, xml: str) -> None:
    """The head of a compressed memory image; nobody reads on until it is loaded."""
    path.write_bytes(SaveImageHeader(xml, format=SaveFormat.GZIP).encode(partial=False) + b"stream")


async def _build(folder: Path) -> Scene:
    """i0 (internal) - e1 (external) - m2 (external, with memory); a branch e3 of e1."""
    domain = await BareDomain.define(folder / "vm")
    service, uuid = domain.service, domain.uuid

    async def snapshot(name: str, disks: str = "") -> None:
        xml = f"<domainsnapshot><name>{name}</name>{disks}</domainsnapshot>"
        await service.snapshot_create_xml(uuid, xml)

    external = "".join(f"<disk name='{target}' snapshot='external'/>" for target in ("vda", "vdb"))
    external = f"<memory snapshot='no'/><disks>{external}</disks>"
    await snapshot("i0")
    await domain.put(1)
    await snapshot("e1", external)
    await domain.put(2)
    await snapshot("m2", external)
    await service.snapshot_revert(uuid, "e1")
    await domain.put(3)
    await snapshot("e3", external)
    # No QEMU has run: memory that is only looked at.
    memory = folder / "vm" / "m2.mem"
    with_memory = replace(
        service.store.tree(uuid)["m2"],
        state=SnapshotState.RUNNING,
        memory=Location.EXTERNAL,
        memory_file=str(memory),
    )
    assert with_memory.domain_xml is not None
    memory_file(memory, with_memory.domain_xml)
    with service.store.transaction() as tx:
        tx.put_snapshot(uuid, with_memory)
    await service.export_libvirt(uuid, dir=str(folder / "lib"))
    await service.close()
    return Scene(folder, uuid)


@pytest.fixture(scope="module", name="built")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("libvirt")
    try:
        yield asyncio.run(_build(folder))
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    """The same for every test, in the same place: the documents name absolute paths."""
    kept = built.folder.with_suffix(".kept")
    shutil.copytree(built.folder, kept, symlinks=True)
    try:
        yield built
    finally:
        shutil.rmtree(built.folder)
        kept.rename(built.folder)


@pytest.fixture
async def ours(scene: Scene, tmp_path: Path) -> AsyncIterator[LocalService]:
    # What has been asked of QEMU already need not be asked again.
    shutil.copytree(scene.images / "root/cache", tmp_path / "root/cache")
    service = await open_local(tmp_path / "root")
    yield service
    await service.close()


async def look(ours: LocalService, scene: Scene, name: str = NAME, **options: bool) -> LibvirtReport:
    return await ours.import_libvirt(name, dir=str(scene.lib), dry_run=True, **options)


async def take(ours: LocalService, scene: Scene, **options: bool) -> LibvirtReport:
    return await ours.import_libvirt(NAME, dir=str(scene.lib), **options)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_taken_over_as_it_was(ours: LocalService, scene: Scene) -> None:
    before = files_of(scene.lib)
    steps: list[tuple[int, int]] = []
    report = await ours.import_libvirt(
        NAME, dir=str(scene.lib), progress=lambda step: steps.append((step.done, step.total))
    )
    assert report.problems == ()
    assert files_of(scene.lib) == before
    assert steps[-1][0] == steps[-1][1] > 0
    assert {(one.name, one.parent, one.kind, one.current) for one in report.snapshots} == {
        ("i0", None, "internal", False),
        ("e1", "i0", "external", False),
        ("m2", "e1", "external, with memory", False),
        ("e3", "e1", "external", True),
    }
    theirs = await open_local(scene.images / "root")
    assert ours.store.tree(scene.uuid) == theirs.store.tree(scene.uuid)
    roles = theirs.store.images(scene.uuid) | {str(scene.images / "m2.mem"): "memory"}
    assert ours.store.images(scene.uuid) == roles
    assert sorted(set(roles.values())) == ["memory", "origin", "overlay"]
    assert [told.change for told in ours.store.events_after(0)] == [Change.life(Detail.DEFINED_ADDED)]
    await theirs.close()
    again = scene.folder / "again"
    await ours.export_libvirt(scene.uuid, dir=str(again))
    assert files_of(again) == before


async def test_every_offline_node_reverts(ours: LocalService, scene: Scene) -> None:
    await take(ours, scene)
    domain = BareDomain(scene.images, ours, scene.uuid)
    found = {}
    for name in ("e1", "e3", "i0"):
        await ours.snapshot_revert(scene.uuid, name)
        found[name] = await domain.got()
    assert found == {"e1": [1, 1], "e3": [3, 3], "i0": [0, 0]}
    await ours.undefine(scene.uuid, DomainUndefine.SNAPSHOTS_METADATA)


async def test_all_can_be_deleted(ours: LocalService, scene: Scene) -> None:
    await take(ours, scene)
    for name in ("m2", "e1", "e3", "i0"):
        await ours.snapshot_delete(scene.uuid, name)
    assert sorted(path.name for path in scene.images.glob("v*")) == ["vda.qcow2", "vdb.qcow2"]
    assert await BareDomain(scene.images, ours, scene.uuid).got() == [3, 3]


async def test_a_dry_run_touches_nothing(ours: LocalService, scene: Scene) -> None:
    report = await look(ours, scene)
    assert report.problems == ()
    assert ours.store.domains() == []
    out = scene.folder / "out"
    await take(ours, scene)
    assert (await ours.export_libvirt(scene.uuid, dir=str(out), dry_run=True)).problems == ()
    assert not out.exists()


# --- refused, with the reason ---------------------------------------------------------------------------


def _cycle(scene: Scene) -> None:
    document = scene.document("i0")
    scene.edit(document, "<state>", "<parent><name>e3</name></parent>\n  <state>")


def _rebased(scene: Scene) -> None:
    other = scene.images / "other.qcow2"
    scene.qemu_img("create", "-q", "-f", "qcow2", other, "64M")
    scene.qemu_img("rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", other, scene.overlay("vda", "e1"))


def _circle(scene: Scene) -> None:
    image, top = scene.images / "vda.qcow2", scene.overlay("vda", "e1")
    scene.qemu_img("rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", top, image)


def _formatless(scene: Scene) -> None:
    """As images were made before QEMU 6.1."""
    top = scene.overlay("vda", "e1")
    data = top.read_bytes()
    at = data.index(b"\xe2\x79\x2a\xca")
    # An extension that nobody knows.
    top.write_bytes(data[:at] + b"\x11\x11\x11\x11" + data[at + 4 :])


def _short(scene: Scene) -> None:
    memory = scene.images / "m2.mem"
    memory.write_bytes(memory.read_bytes()[:60])


def _of_another(scene: Scene) -> None:
    memory = scene.images / "m2.mem"
    xml = scene.document("m2").read_text().split("<domain ")[1].split("</domain>")[0]
    other = scene.uuid.replace(scene.uuid[0], "f" if scene.uuid[0] != "f" else "e", 1)
    memory_file(memory, f"<domain {xml}</domain>".replace(scene.uuid, other))


def _cut_off(scene: Scene) -> None:
    memory = scene.images / "m2.mem"
    header = SaveImageHeader((scene.lib / f"{NAME}.xml").read_text().split("-->\n")[1].strip())
    memory.write_bytes(header.encode(partial=False) + b"no end")


def _linked(scene: Scene) -> None:
    (scene.folder / "link").symlink_to(scene.images)
    link, plain = str(scene.folder / "link" / "vda.qcow2"), str(scene.images / "vda.qcow2")
    scene.edit(scene.document("e1"), plain, link)


def _busy(scene: Scene) -> None:
    image = scene.images / "vda.qcow2"
    image.unlink()
    image.mkdir()


def _save(scene: Scene, xml: str | None = None) -> Path:
    text = (scene.lib / f"{NAME}.xml").read_text().split("-->\n")[1].strip()
    path = scene.lib / "save" / f"{NAME}.save"
    path.parent.mkdir(exist_ok=True)
    memory_file(path, xml or text)
    return path


def _stale_save(scene: Scene) -> None:
    os.utime(_save(scene), (1_000_000_000, 1_000_000_000))


def _broken_save(scene: Scene) -> None:
    _save(scene).write_bytes(b"nothing of the kind")


def _two_names(scene: Scene) -> None:
    shutil.copy(scene.document("e1"), scene.document("copy"))


def _not_utf8(scene: Scene) -> None:
    with scene.document("e1").open("ab") as file:
        file.write(b"<!-- \xff -->")


BAD: list[tuple[str, Callable[[Scene], object], str]] = [
    ("no definition", lambda s: (s.lib / "bare.xml").unlink(), "there is no definition '{lib}/bare.xml'"),
    (
        "malformed definition",
        lambda s: (s.lib / "bare.xml").write_text("<domain"),
        "definition '{lib}/bare.xml': at line 1: ",
    ),
    (
        "definition of another name",
        lambda s: s.edit(s.lib / "bare.xml", "<name>bare", "<name>else"),
        "definition '{lib}/bare.xml' is of a domain 'else'",
    ),
    (
        "a machine we cannot run",
        lambda s: s.edit(s.lib / "bare.xml", "</devices>", "<redirdev bus='usb' type='spicevmc'/></devices>"),
        "the definition: ",
    ),
    (
        "malformed snapshot",
        lambda s: s.edit(s.document("e1"), "</domainsnapshot>", ""),
        "snapshot document '{lib}/snapshot/bare/e1.xml': at line ",
    ),
    (
        "not UTF-8",
        _not_utf8,
        "snapshot document '{lib}/snapshot/bare/e1.xml': is not UTF-8 text: invalid start byte at byte ",
    ),
    (
        "a folder among the documents",
        lambda s: s.document("x").mkdir(),
        "snapshot document '{lib}/snapshot/bare/x.xml': cannot be read: Is a directory",
    ),
    (
        "name that escapes",
        lambda s: s.edit(s.document("e3"), "<name>e3", "<name>../e3"),
        "bare/e3.xml': invalid snapshot name '../e3': name can't contain '/'",
    ),
    (
        "hidden name",
        lambda s: s.edit(s.document("e3"), "<name>e3", "<name>.e3"),
        "bare/e3.xml': invalid snapshot name '.e3': name can't start with '.'",
    ),
    (
        "snapshot of another domain",
        lambda s: s.edit(s.document("e3"), s.uuid, "11111111-2222-3333-4444-555555555555"),
        "it is of the domain with uuid 11111111-2222-3333-4444-555555555555, not {uuid}",
    ),
    (
        "element that nobody knows",
        lambda s: s.edit(s.document("e3"), "<state>", "<stat/><state>"),
        "element 'stat' in element 'domainsnapshot' is not supported",
    ),
    (
        "no parent",
        lambda s: s.document("i0").unlink(),
        "snapshot 'e1': its parent 'i0' is not there",
    ),
    ("each other's parents", _cycle, "snapshots are each other's parents: "),
    (
        "two current ones",
        lambda s: s.edit(s.document("i0"), "<active>0", "<active>1"),
        "more than one snapshot claims to be the current one: e3, i0",
    ),
    ("the same twice", _two_names, "2 documents describe a snapshot 'e1'"),
    (
        "image gone",
        lambda s: (s.images / "vda.qcow2").unlink(),
        "image '{vm}/vda.qcow2' (snapshot 'e1', snapshot 'i0', below '{vm}/vda.",
    ),
    (
        "overlay that others need gone",
        lambda s: s.overlay("vda", "e1").unlink(),
        "image '{vm}/vda.e1' (snapshot 'm2'): No such file or directory",
    ),
    (
        "another format",
        lambda s: s.overlay("vdb", "e3").write_bytes(b"raw bytes" * 1000),
        "image '{vm}/vdb.e3' (disk vdb): ",
    ),
    ("no image at all", _busy, "image '{vm}/vda.qcow2' (snapshot 'e1', snapshot 'i0'"),
    (
        "overlay on something else",
        _rebased,
        "overlay '{vm}/vda.e1' of snapshot 'e1' does not stand on '{vm}/vda.qcow2', the content that the "
        "snapshot is of",
    ),
    ("chain in a circle", _circle, "image '{vm}/vda.qcow2' stands on itself"),
    (
        "chain without formats",
        _formatless,
        "image '{vm}/vda.e1' does not name the format of the image below it, '{vm}/vda.qcow2'",
    ),
    (
        "format that documents do not agree on",
        lambda s: s.edit(s.document("i0"), "type='qcow2'", "type='raw'", 1),
        "image '{vm}/vda.qcow2' has two formats: qcow2 and raw",
    ),
    (
        "roundabout path",
        lambda s: s.edit(s.document("e3"), f"{s.images}/vda.", f"{s.images}/../vm/vda."),
        "' is named by a roundabout path: {vm}/vda.",
    ),
    ("one file, two names", _linked, "are the same file"),
    (
        "internal snapshot gone",
        lambda s: s.qemu_img("snapshot", "-d", "i0", s.images / "vdb.qcow2"),
        "image '{vm}/vdb.qcow2' of disk vdb has no internal snapshot 'i0'",
    ),
    (
        "memory gone",
        lambda s: (s.images / "m2.mem").unlink(),
        "memory file '{vm}/m2.mem' of snapshot 'm2': Failed to open file '{vm}/m2.mem': No such file",
    ),
    (
        "memory cut off",
        _short,
        "memory file '{vm}/m2.mem' of snapshot 'm2': operation failed: failed to read",
    ),
    ("memory without its end", _cut_off, "m2.mem' is truncated: the end of the memory is missing"),
    ("memory of another domain", _of_another, "m2.mem' of snapshot 'm2' is of the domain with uuid "),
    ("managed save that is stale", _stale_save, "was written to after the managed save was made: "),
    ("managed save that is none", _broken_save, "managed save '{lib}/save/bare.save': operation failed: "),
]


@pytest.mark.parametrize(("spoil", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
async def test_refused_by_name(
    ours: LocalService, scene: Scene, spoil: Callable[[Scene], object], reason: str
) -> None:
    spoil(scene)
    reason = reason.format(lib=scene.lib, vm=scene.images, uuid=scene.uuid)
    problems = (await look(ours, scene)).problems
    assert [problem for problem in problems if reason in problem], "\n".join(problems)
    with pytest.raises(OperationInvalid) as refused:
        await take(ours, scene)
    assert all(problem in str(refused.value) for problem in problems)
    assert ours.store.domains() == []


async def test_all_reasons_at_once(ours: LocalService, scene: Scene) -> None:
    _cycle(scene)
    _short(scene)
    scene.overlay("vda", "e1").unlink()
    scene.qemu_img("snapshot", "-d", "i0", scene.images / "vdb.qcow2")
    assert len((await look(ours, scene)).problems) == 4


@pytest.mark.parametrize("name", ["", ".", "..", "../bare", "snapshot/bare", "a\0b"])
async def test_names_that_are_no_file_names(ours: LocalService, scene: Scene, name: str) -> None:
    with pytest.raises(InvalidArg, match="is no name of a domain"):
        await look(ours, scene, name)


async def test_no_such_folder(ours: LocalService, scene: Scene) -> None:
    with pytest.raises(InvalidArg, match=f"there is no folder '{scene.folder}/nope'"):
        await ours.import_libvirt(NAME, dir=str(scene.folder / "nope"))


async def test_the_systems_folders(ours: LocalService, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Definitions and snapshots in two places; who is active in a third."""
    etc, run = scene.folder / "etc", scene.folder / "run"
    etc.mkdir()
    run.mkdir()
    (scene.lib / "bare.xml").rename(etc / "bare.xml")
    folders = {"dir": str(scene.lib), "definitions": str(etc), "run_dir": str(run)}

    async def problems() -> tuple[str, ...]:
        return (await ours.import_libvirt(NAME, dry_run=True, **folders)).problems

    # What libvirt noted of a domain outlives both when the host crashes; the number may be another's by now.
    for pid in (os.getpid(), 1 << 22):
        (run / "bare.xml").write_text(f"<domstatus state='running' pid='{pid}'/>")
        assert await problems() == ()
    qemu = scene.folder / "qemu-system-x86_64"
    qemu.symlink_to("/bin/sleep")
    with subprocess.Popen([qemu, "60"]) as process:
        (run / "bare.xml").write_text(f"<domstatus state='running' pid='{process.pid}'/>")
        active = f"the domain is active in libvirt (process {process.pid}): shut it off there"
        assert await problems() == (active,)
        process.kill()
    await ours.import_libvirt(NAME, **folders)
    await ours.export_libvirt(scene.uuid, **folders)
    assert sorted(path.name for path in etc.iterdir()) == ["bare.xml"]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(scene.folder / "config"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    await ours.export_libvirt(scene.uuid)
    assert (scene.folder / "config/libvirt/qemu/snapshot/bare/e1.xml").exists()


def _with_tpm(scene: Scene) -> Path:
    """The folders of a libvirt whose domain has a TPM; its state."""
    tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
    scene.edit(scene.lib / f"{NAME}.xml", "</devices>", f"{tpm}</devices>")
    state = scene.lib / "swtpm" / scene.uuid / "tpm2/tpm2-00.permall"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"state")
    return state


async def test_a_tpm_comes_along(ours: LocalService, scene: Scene) -> None:
    state = _with_tpm(scene)
    report = await take(ours, scene)
    assert (str(state), "copied") in [(file.path, file.role) for file in report.files]
    own = ours.root / "swtpm" / scene.uuid / "tpm2"
    assert [(path.name, path.read_bytes()) for path in own.iterdir()] == [("tpm2-00.permall", b"state")]
    with pytest.raises(OperationInvalid, match="giving the state of a TPM back is not supported"):
        await ours.export_libvirt(scene.uuid, dir=str(scene.folder / "back"))


async def test_a_tpm_that_is_here_already(ours: LocalService, scene: Scene) -> None:
    _with_tpm(scene)
    own = ours.root / "swtpm" / scene.uuid / "tpm2/tpm2-00.permall"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"kept")
    with pytest.raises(OperationInvalid, match=f"TPM state '{own}' is there already"):
        await take(ours, scene)
    assert own.read_bytes() == b"kept"


async def test_autostart(ours: LocalService, scene: Scene) -> None:
    link = scene.lib / "autostart" / "bare.xml"
    link.parent.mkdir()
    link.symlink_to(scene.lib / "bare.xml")
    await take(ours, scene)
    record = ours.store.domain(scene.uuid)
    assert record is not None
    assert record.autostart
    out = scene.folder / "out"
    await ours.export_libvirt(scene.uuid, dir=str(out))
    assert (out / "autostart/bare.xml").resolve() == out / "bare.xml"


async def test_only_once(ours: LocalService, scene: Scene) -> None:
    await take(ours, scene)
    reason = f"domain 'bare' is already defined here with uuid {scene.uuid}"
    assert (await look(ours, scene)).problems == (reason,)
    # The images are his now; nobody else in this root may take them over.
    assert [note for note in (await look(ours, scene)).notes if "used by domain 'bare' here" in note]


async def test_odd_names(ours: LocalService, scene: Scene) -> None:
    odd = 'it\'s <b> & "Größe" 雪 $(x)'
    escaped = "it&apos;s &lt;b&gt; &amp; &quot;Größe&quot; 雪 $(x)"
    for path in (scene.document("e1"), scene.document("m2"), scene.document("e3")):
        scene.edit(path, "<name>e1</name>", f"<name>{escaped}</name>")
    report = await take(ours, scene)
    assert odd in [one.name for one in report.snapshots]
    out = scene.folder / "out"
    await ours.export_libvirt(scene.uuid, dir=str(out))
    assert (out / "snapshot/bare" / f"{odd}.xml").read_text() == scene.document("e1").read_text()
    await ours.snapshot_revert(scene.uuid, odd)
    assert await BareDomain(scene.images, ours, scene.uuid).got() == [1, 1]


# --- said ------------------------------------------------------------------------------------------------


async def test_files_of_other_domains_are_nobodys(ours: LocalService, scene: Scene) -> None:
    top = scene.folder / "other.qcow2"
    base = scene.images / "vda.qcow2"
    scene.qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    text = (scene.lib / "bare.xml").read_text()
    other = text.replace(scene.uuid, "11111111-2222-3333-4444-555555555555").replace(">bare<", ">other<")
    now = sorted(scene.images.glob("vda.*"))
    for path in now:
        other = other.replace(f"'{path}'", f"'{top}'")
    (scene.lib / "other.xml").write_text(other.replace(f"{scene.images}/vdb", f"{scene.folder}/else"))
    (scene.lib / "strange.xml").write_text("what is this?")
    report = await take(ours, scene)
    roles = ours.store.images(scene.uuid)
    assert str(base) not in roles
    assert roles[str(scene.images / "vdb.qcow2")] == "origin"
    assert f"image '{base}' is used by '{scene.lib}/other.xml' too: it is never merged into or deleted" in (
        report.notes
    )
    assert any("strange.xml' cannot be read" in note for note in report.notes)
    content = base.read_bytes()
    for name in ("m2", "e1", "e3"):
        await ours.snapshot_delete(scene.uuid, name)
    assert base.read_bytes() == content


async def test_overlays_that_are_gone_and_not_needed(ours: LocalService, scene: Scene) -> None:
    """A leaf of libvirt's names the overlay that a later revert has deleted."""
    gone = scene.images / "vda.m2"
    assert gone.name in scene.document("m2").read_text()
    gone.unlink(missing_ok=True)
    assert (await look(ours, scene)).problems == ()


async def test_disks_that_write_into_a_snapshots_content_are_said(ours: LocalService, scene: Scene) -> None:
    """As libvirt leaves them that goes back to an internal snapshot below external ones."""
    definition, base = scene.lib / "bare.xml", f"{scene.images}/vda.qcow2"
    definition.write_text(
        re.sub(r"<source file='[^']*/vda\.[^']*'/>", f"<source file='{base}'/>", definition.read_text())
    )
    report = await look(ours, scene)
    assert report.problems == ()
    assert [
        note for note in report.notes if f"disk vda writes into '{base}', which is the content of" in note
    ]


async def test_users_own_internal_snapshots_are_said(ours: LocalService, scene: Scene) -> None:
    scene.qemu_img("snapshot", "-c", "mine", scene.overlay("vda", "e1"))
    report = await look(ours, scene)
    assert [note for note in report.notes if note.endswith("belong to no snapshot of the domain: mine")]


async def test_checkpoints_stay_behind(ours: LocalService, scene: Scene) -> None:
    (scene.lib / "checkpoint" / NAME).mkdir(parents=True)
    (scene.lib / "checkpoint" / NAME / "c1.xml").write_text("<domaincheckpoint/>")
    assert "checkpoints (for incremental backup) stay behind: 1" in (await look(ours, scene)).notes


def _write_chain(scene: Scene, document: Path, target: str, below: Path) -> None:
    """As libvirt does when it takes a snapshot of a running domain."""
    text = document.read_text()
    head, found, rest = text.partition(f"<target dev='{target}'")
    assert found
    written = f"<backingStore type='file'><format type='qcow2'/><source file='{below}'/></backingStore>"
    document.write_text(head + written + found + rest)


async def test_chains_that_are_written_down(ours: LocalService, scene: Scene) -> None:
    image, definition = scene.images / "vda.qcow2", scene.lib / "bare.xml"
    _write_chain(scene, scene.document("m2"), "vda", image)
    assert (await look(ours, scene)).notes == ()
    _write_chain(scene, scene.document("e3"), "vda", scene.images / "else.qcow2")
    stale = "what is written of the images below disk vda is not what they say"
    assert (await look(ours, scene)).notes == (f"snapshot 'e3': {stale}",)
    kept = definition.read_text()
    _write_chain(scene, definition, "vda", scene.images / "else.qcow2")
    assert (await look(ours, scene)).problems == (f"the definition: {stale}",)
    definition.write_text(kept)
    # libvirt would believe it, so only what is true is written back.
    await take(ours, scene)
    out = scene.folder / "out"
    await ours.export_libvirt(scene.uuid, dir=str(out))
    assert "backingStore" not in (out / "snapshot/bare/e3.xml").read_text()
    assert (out / "snapshot/bare/m2.xml").read_text().count(f"<source file='{image}'/>\n") == 1


async def test_managed_save_comes_along(ours: LocalService, scene: Scene) -> None:
    save = _save(scene)
    await take(ours, scene)
    copied = ours.root / "save" / f"{scene.uuid}.save"
    assert copied.read_bytes() == save.read_bytes()
    assert set(json.loads(copied.with_suffix(".disks").read_text())) == {"vda", "vdb"}
    assert (await ours.domain_info(scene.uuid)).managed_save
    out = scene.folder / "out"
    await ours.export_libvirt(scene.uuid, dir=str(out))
    assert (out / "save/bare.save").read_bytes() == save.read_bytes()


async def test_cancelled_while_the_managed_save_is_copied(
    ours: LocalService, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save(scene)
    before, copy, begun = files_of(scene.lib), images.copy, asyncio.Event()

    async def stuck(source: str, path: str, progress: images.ProgressCallback | None = None) -> None:
        await copy(source, path, progress)
        begun.set()
        await asyncio.Event().wait()

    async def cancelled(call: Coroutine[object, object, LibvirtReport]) -> None:
        begun.clear()
        task = asyncio.create_task(call)
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with monkeypatch.context() as held:
        held.setattr(images, "copy", stuck)
        await cancelled(take(ours, scene))
        assert ours.store.domains() == []
        assert list((ours.root / "save").iterdir()) == []
    await take(ours, scene)
    with monkeypatch.context() as held:
        held.setattr(images, "copy", stuck)
        await cancelled(ours.export_libvirt(scene.uuid, dir=str(scene.lib)))
    assert files_of(scene.lib) == before


async def test_managed_save_is_left_behind(ours: LocalService, scene: Scene) -> None:
    _stale_save(scene)
    report = await take(ours, scene, leave_save=True)
    assert f"managed save '{scene.lib}/save/bare.save' is left behind" in report.notes
    assert not (await ours.domain_info(scene.uuid)).managed_save
    # What libvirt would resume does not fit the disks by the time the domain is back.
    report = await ours.export_libvirt(scene.uuid, dir=str(scene.lib))
    assert [note for note in report.notes if note.startswith("libvirt's managed save")]
    assert not (scene.lib / "save/bare.save").exists()


# --- given back ------------------------------------------------------------------------------------------


async def test_replaces_its_own_files(ours: LocalService, scene: Scene) -> None:
    await take(ours, scene)
    await ours.snapshot_delete(scene.uuid, "e3")
    await ours.snapshot_create_xml(
        scene.uuid, "<domainsnapshot><name>new</name></domainsnapshot>", SnapshotCreate.DISK_ONLY
    )
    await ours.export_libvirt(scene.uuid, dir=str(scene.lib))
    assert sorted(files_of(scene.lib)) == [
        "bare.xml",
        *(f"snapshot/bare/{name}.xml" for name in ("e1", "i0", "m2", "new")),
    ]


def _other_definition(scene: Scene) -> None:
    scene.edit(scene.lib / "bare.xml", scene.uuid, "11111111-2222-3333-4444-555555555555")


def _other_snapshots(scene: Scene) -> None:
    (scene.lib / "bare.xml").unlink()
    scene.edit(scene.document("e1"), scene.uuid, "11111111-2222-3333-4444-555555555555")


def _other_save(scene: Scene) -> None:
    text = (scene.lib / "bare.xml").read_text().split("-->\n")[1].strip()
    _save(scene, text.replace(scene.uuid, "11111111-2222-3333-4444-555555555555"))


def _same_uuid(scene: Scene) -> None:
    (scene.lib / "bare.xml").rename(scene.lib / "renamed.xml")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_other_definition, "'{lib}/bare.xml' is in the way: it is of the domain with uuid 1111"),
        (_other_snapshots, "'{lib}/snapshot/bare/e1.xml' is in the way: it is of the domain with uuid 1111"),
        (_other_save, "'{lib}/save/bare.save' is in the way: it is of the domain with uuid 1111"),
        (_same_uuid, "'{lib}/renamed.xml' defines a domain with the same uuid"),
        (
            lambda s: (s.lib / "bare.xml").write_text("?"),
            "'{lib}/bare.xml' is in the way: it cannot be told whose it is",
        ),
    ],
    ids=["definition", "snapshots", "managed save", "renamed", "unreadable"],
)
async def test_never_over_another_domains_files(
    ours: LocalService, scene: Scene, spoil: Callable[[Scene], None], reason: str
) -> None:
    await take(ours, scene)
    spoil(scene)
    before = files_of(scene.lib)
    reason = reason.format(lib=scene.lib)
    problems = (await ours.export_libvirt(scene.uuid, dir=str(scene.lib), dry_run=True)).problems
    assert [problem for problem in problems if reason in problem], "\n".join(problems)
    with pytest.raises(OperationInvalid, match="cannot give domain 'bare' back to libvirt: "):
        await ours.export_libvirt(scene.uuid, dir=str(scene.lib))
    assert files_of(scene.lib) == before


async def test_what_libvirt_would_ruin_is_refused(ours: LocalService, scene: Scene) -> None:
    await take(ours, scene)
    await ours.snapshot_create_xml(
        scene.uuid,
        "<domainsnapshot><name>mixed</name><disks><disk name='vda' snapshot='internal'/>"
        "<disk name='vdb' snapshot='external'/></disks></domainsnapshot>",
    )
    report = await ours.export_libvirt(scene.uuid, dir=str(scene.folder / "out"), dry_run=True)
    assert report.problems == (
        "snapshot 'mixed' is internal and external at once, which libvirt would go back to wrongly: "
        "delete it first (snapshot-delete)",
    )


async def test_what_libvirt_does_not_know_is_said(ours: LocalService, scene: Scene) -> None:
    await take(ours, scene)
    for name in ("e1", "i0"):
        await ours.snapshot_delete(scene.uuid, name)
    slept = replace(ours.store.tree(scene.uuid)["m2"], state=SnapshotState.PMSUSPENDED)
    with ours.store.transaction() as tx:
        tx.put_snapshot(scene.uuid, slept)
    assert slept.memory_file is not None
    assert slept.domain_xml is not None
    head = SaveImageHeader(slept.domain_xml, format=SaveFormat.SPARSE)
    description = b"\x06" + (2).to_bytes(4, "big") + b"{}"
    Path(slept.memory_file).write_bytes(head.encode(partial=False) + description)
    report = await ours.export_libvirt(scene.uuid, dir=str(scene.folder / "out"), dry_run=True)
    assert report.problems == ()
    for words in (
        "snapshot 'm2': its memory was written here, in the format 'sparse', which libvirt restores and",
        "snapshot 'm2' is of a guest that slept: libvirt lists it, and refuses to go back to it",
        f"image '{scene.images}/vda.qcow2' is the base of 2 others and of no snapshot: ",
    ):
        assert [note for note in report.notes if note.startswith(words)], "\n".join(report.notes)


async def test_a_new_name_is_in_every_document(ours: LocalService, scene: Scene) -> None:
    """libvirt would take the old one for the domain's when it goes back."""
    await take(ours, scene)
    await ours.rename(scene.uuid, "renamed")
    out = scene.folder / "out"
    await ours.export_libvirt(scene.uuid, dir=str(out))
    texts = [path.read_text() for path in out.rglob("*.xml")]
    assert len(texts) == 5
    assert all("<name>renamed</name>" in text and "<name>bare</name>" not in text for text in texts)
    assert sorted(path.name for path in out.iterdir()) == ["renamed.xml", "save", "snapshot"]


async def test_images_that_are_gone_are_said(ours: LocalService, scene: Scene) -> None:
    await take(ours, scene)
    scene.overlay("vda", "e1").unlink()
    report = await ours.export_libvirt(scene.uuid, dir=str(scene.folder / "out"), dry_run=True)
    assert f"image '{scene.images}/vda.e1' is not there, or cannot be read" in report.notes


@pytest.mark.parametrize("at", range(1, 6))
async def test_all_or_nothing(
    ours: LocalService, scene: Scene, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Whichever rename fails: what was there is there; and killed there, the next call brings it back."""
    _save(scene)
    await take(ours, scene)
    await ours.snapshot_delete(scene.uuid, "e3")
    before = files_of(scene.lib)
    rename, count = os.rename, 0

    def failing(source: Path, target: Path) -> None:
        nonlocal count
        count += 1
        if count == at:
            raise OSError(28, "No space left on device", str(target))
        rename(source, target)

    monkeypatch.setattr(libvirt_dir.os, "rename", failing)
    with pytest.raises(Failed, match=r"cannot write libvirt's files: .*: No space left on device"):
        await ours.export_libvirt(scene.uuid, dir=str(scene.lib))
    assert files_of(scene.lib) == before
    count = 0
    with monkeypatch.context() as killed:
        killed.setattr(libvirt_dir.LibvirtDir, "_bring_back", lambda self: None)
        with pytest.raises(Failed):
            await ours.export_libvirt(scene.uuid, dir=str(scene.lib))
    assert not (scene.lib / "bare.xml").exists() or at == 1
    monkeypatch.setattr(libvirt_dir.os, "rename", rename)
    await ours.export_libvirt(scene.uuid, dir=str(scene.lib))
    fresh = scene.folder / "fresh"
    await ours.export_libvirt(scene.uuid, dir=str(fresh))
    assert files_of(scene.lib) == files_of(fresh)
