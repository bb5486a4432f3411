"""libvirt's `<domainsnapshot>`: the request of a new snapshot, the record of one, in and out.

Source: libvirt's formatsnapshot page, and what libvirt 11.3 accepts, refuses and writes. Three readings:
`parse_snapshot` of a request (what only output may say is ignored, as documented there) or of a full record
to be redefined, and `parse_saved` of libvirt's own metadata files, which also tell which one is current.

Elements and attributes that libvirt does not know are refused by name; libvirt drops them without a word.
Not here: rules that need the domain or the tree, such as legal names, parents and disks (`plan`).
"""

from __future__ import annotations

import re

from lxml import etree

from virtsnap.formats import xml_text
from virtsnap.formats.domain_xml import DomainDefinition
from virtsnap.formats.snapshot_disk_xml import only, read_disk, read_location, write_disk
from virtsnap.model.errors import ConfigUnsupported, InternalRefused, XmlError
from virtsnap.model.snapshot import Location, MemoryMode, Snapshot, SnapshotDisk, SnapshotState

_ELEMENTS = (
    *("name", "description", "state", "parent", "creationTime", "memory", "disks", "revertDisks"),
    *("domain", "inactiveDomain", "cookie", "active"),
)
_OFFLINE = (SnapshotState.SHUTOFF, SnapshotState.DISK_SNAPSHOT)
_INTEGER = re.compile(r"[ \t\n]*[+-]?[0-9]+")


def parse_snapshot(text: str, *, redefine: bool, offline: bool, now: int) -> Snapshot:
    """A snapshot as somebody wrote it.

    `redefine`: a full record, taken as it is; otherwise a request, whose state, parent, creation time,
    domain and the like are ignored. `offline`: the domain is inactive, or the snapshot is to be disk-only,
    so that no memory can be saved; a record says that itself. `now`: seconds since the epoch, the creation
    time of a request and the name of one that has none.

    Raises XmlDetail (not well formed), XmlError, InternalRefused, InvalidArg, ConfigUnsupported.
    """
    root = xml_text.parse(text, "domainsnapshot")
    only(root, (), _ELEMENTS)
    return _record(root) if redefine else _request(root, offline, now)


def parse_saved(text: str) -> tuple[Snapshot, bool]:
    """One of libvirt's metadata files, and whether it is the current snapshot.

    Raises as `parse_snapshot` does.
    """
    root = xml_text.parse(text, "domainsnapshot")
    only(root, (), _ELEMENTS)
    snapshot = _record(root)
    active = _integer(root, "active", bits=32)
    if active is None:
        raise InternalRefused("Could not find 'active' element")
    return snapshot, active != 0


def format_snapshot(
    snapshot: Snapshot,
    *,
    secure: bool,
    uuid: str | None,
    internal: bool = False,
    current: bool = False,
) -> str:
    """The document as libvirt 11.3 writes it, ending in a newline.

    `secure`: with the passwords of the domain's definition. `uuid`: stands in for a definition that is not
    known (None: then there is no `<domain>`). `internal`: as libvirt's metadata file, with `<active>`.
    """
    root = etree.Element("domainsnapshot")
    _add(root, "name", snapshot.name)
    _add(root, "description", snapshot.description)
    if snapshot.state is not SnapshotState.NOSTATE:
        _add(root, "state", snapshot.state.value)
    if snapshot.parent is not None:
        _add(etree.SubElement(root, "parent"), "name", snapshot.parent)
    if snapshot.creation_time != 0:
        _add(root, "creationTime", str(snapshot.creation_time))
    if snapshot.memory is not Location.UNSET:
        memory = etree.SubElement(root, "memory", snapshot=snapshot.memory.value)
        if snapshot.memory_file is not None:
            memory.set("file", snapshot.memory_file)
    _add_disks(root, "disks", snapshot.disks)
    _add_disks(root, "revertDisks", snapshot.revert_disks)
    if snapshot.domain_xml is not None:
        root.append(_definition(snapshot.domain_xml, "domain", secure))
    elif uuid is not None:
        _add(etree.SubElement(root, "domain"), "uuid", uuid)
    if snapshot.inactive_domain_xml is not None:
        root.append(_definition(snapshot.inactive_domain_xml, "inactiveDomain", secure))
    if snapshot.cookie_xml is not None:
        root.append(xml_text.parse(snapshot.cookie_xml, "cookie"))
    if internal:
        _add(root, "active", "1" if current else "0")
    return xml_text.render(root)


# --- reading ----------------------------------------------------------------------------------------------


def _request(root: etree._Element, offline: bool, now: int) -> Snapshot:
    name = _text(root, "name")
    description = _text(root, "description")
    memory, memory_file = _memory(root, offline, unsaid=Location.UNSET, mode=True)
    return Snapshot(
        name=str(now) if name is None else name,
        creation_time=now,
        description=description,
        memory=memory,
        memory_file=memory_file,
        memory_mode=_memory_mode(root, memory),
        disks=_disks(root, "disks", redefine=False),
    )


def _record(root: etree._Element) -> Snapshot:
    name = _text(root, "name")
    if name is None:
        raise XmlError("a redefined snapshot must have a name")
    description = _text(root, "description")
    creation_time = _integer(root, "creationTime", bits=64)
    if creation_time is None:
        raise InternalRefused("missing creationTime from existing snapshot")
    parent = root.find("parent")
    if parent is not None:
        only(parent, (), ("name",))
    state = _state(root)
    offline = state in _OFFLINE
    domain_xml = None
    domain = root.find("domain")
    # Records made before libvirt 0.9.5 have a domain of nothing but a uuid.
    if domain is not None and domain.get("type"):
        domain_xml = _domain_text(domain)
    inactive = root.find("inactiveDomain")
    inactive_xml = None if inactive is None else _domain_text(inactive)
    memory, memory_file = _memory(root, offline, unsaid=Location.NO if offline else Location.INTERNAL)
    return Snapshot(
        name=name,
        creation_time=creation_time,
        state=state,
        description=description,
        parent=None if parent is None else _text(parent, "name"),
        memory=memory,
        memory_file=memory_file,
        disks=_disks(root, "disks", redefine=True),
        revert_disks=_disks(root, "revertDisks", redefine=True),
        domain_xml=domain_xml,
        inactive_domain_xml=inactive_xml,
        cookie_xml=None if offline else _cookie_text(root),
    )


def _text(parent: etree._Element, tag: str) -> str | None:
    """A child's text with all its spaces; None when there is no child or no text."""
    child = parent.find(tag)
    if child is None:
        return None
    only(child, (), ())
    return str(child.xpath("string()")) or None


def _integer(root: etree._Element, tag: str, bits: int) -> int | None:
    """A child's number as C's strtol reads it; None when there is none that fits."""
    text = _text(root, tag)
    if text is None or not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1) else None


def _state(root: etree._Element) -> SnapshotState:
    word = _text(root, "state")
    if word is None:
        raise XmlError("missing state from existing snapshot")
    known = {state.value: state for state in SnapshotState if state is not SnapshotState.NOSTATE}
    if word not in known:
        raise ConfigUnsupported(f"Invalid state '{word}' in domain snapshot XML")
    return known[word]


def _memory(
    root: etree._Element, offline: bool, unsaid: Location, *, mode: bool = False
) -> tuple[Location, str | None]:
    """Location and file. `unsaid`: the location when the document names neither. `mode`: may stand there."""
    element = root.find("memory")
    location, file = Location.UNSET, None
    if element is not None:
        only(element, ("snapshot", "file", "mode") if mode else ("snapshot", "file"), ())
        location, file = read_location(element), element.get("file")
    if location is Location.MANUAL:
        raise XmlError("'manual' memory snapshot mode not supported")
    if location is Location.UNSET:
        location = unsaid if file is None else Location.EXTERNAL
    if file is not None and location is not Location.EXTERNAL:
        raise XmlError(f"memory filename '{file}' requires external snapshot")
    if file is None and location is Location.EXTERNAL:
        raise XmlError("external memory snapshots require a filename")
    if offline and location not in (Location.UNSET, Location.NO):
        raise XmlError("memory state cannot be saved with offline or disk-only snapshot")
    if file is not None and not file.startswith("/"):
        raise XmlError(f"memory snapshot file path ({file}) must be absolute")
    return location, file


def _memory_mode(root: etree._Element, location: Location) -> MemoryMode | None:
    """Ours alone: the way in which memory is to be written to its file."""
    element = root.find("memory")
    word = None if element is None else element.get("mode")
    if word is None:
        return None
    if word not in {mode.value for mode in MemoryMode}:
        raise XmlError(f"unknown memory snapshot mode '{word}'")
    if location is not Location.EXTERNAL:
        raise XmlError(f"memory snapshot mode '{word}' requires external snapshot")
    return MemoryMode(word)


def _disks(root: etree._Element, tag: str, *, redefine: bool) -> tuple[SnapshotDisk, ...]:
    parent = root.find(tag)
    if parent is None:
        return ()
    only(parent, (), ("disk",))
    return tuple(read_disk(element, redefine=redefine) for element in parent.findall("disk"))


def _domain_text(element: etree._Element) -> str:
    """The definition as a document of its own, checked."""
    text = DomainDefinition.from_element(element).to_xml()
    return DomainDefinition.parse(text).to_xml()


def _cookie_text(root: etree._Element) -> str | None:
    """Opaque to us: what libvirt's driver put aside for itself goes back to it unchanged."""
    cookie = root.find("cookie")
    return None if cookie is None else xml_text.render(cookie).rstrip("\n")


# --- writing ----------------------------------------------------------------------------------------------


def _add(parent: etree._Element, tag: str, text: str | None) -> None:
    if text is not None:
        etree.SubElement(parent, tag).text = text


def _add_disks(root: etree._Element, tag: str, disks: tuple[SnapshotDisk, ...]) -> None:
    if disks:
        etree.SubElement(root, tag).extend(write_disk(disk) for disk in disks)


def _definition(text: str, tag: str, secure: bool) -> etree._Element:
    element = xml_text.parse(text, "domain")
    element.tag = tag
    if not secure:
        for graphics in element.iterfind("devices/graphics"):
            graphics.attrib.pop("passwd", "")
    return element
