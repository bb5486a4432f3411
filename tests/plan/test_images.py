"""The law of the image graph: whatever is collapsed, nobody who names an image sees another content."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from virtsnap.model.domain import DomainRecord
from virtsnap.model.facts import DomainFacts, ImageFacts, ImageRole, InternalSnapshot
from virtsnap.model.snapshot import SnapshotTree
from virtsnap.plan.images import Collapse, ImageGraph

CLUSTERS = 6


@dataclass
class Disk:
    """Image files as dictionaries of clusters, standing on each other."""

    clusters: dict[str, dict[int, str]] = field(default_factory=dict)
    backing: dict[str, str | None] = field(default_factory=dict)

    def content(self, path: str) -> dict[int, str]:
        below = self.backing[path]
        return {**(self.content(below) if below is not None else {}), **self.clusters[path]}

    def apply(self, collapse: Collapse) -> None:
        for merge in collapse.merges:
            chain = self._between(merge.top, merge.base)
            if merge.down:
                for path in reversed(chain[:-1]):
                    self.clusters[merge.base] |= self.clusters[path]
            else:
                for path in chain[1:]:
                    self.clusters[merge.top] = {**self.clusters[path], **self.clusters[merge.top]}
                self.backing[merge.top] = merge.below
        for link in collapse.relinks:
            self.backing[link.path] = link.backing
        for path in collapse.removes:
            del self.clusters[path]
            del self.backing[path]

    def _between(self, top: str, base: str) -> list[str]:
        chain = [top]
        while chain[-1] != base:
            below = self.backing[chain[-1]]
            assert below is not None
            chain.append(below)
        return chain


@dataclass
class Case:
    disk: Disk
    owned: dict[str, ImageRole]
    named: dict[str, str]
    tagged: frozenset[str] = frozenset()
    """Those of the named ones that hold an internal snapshot."""


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A template, the user's image on it, and a random tree of overlays with random names left."""
    disk = Disk()
    values = st.dictionaries(st.integers(0, CLUSTERS - 1), st.text("abc", min_size=1, max_size=2))
    template = draw(st.booleans())
    if template:
        disk.clusters["template"], disk.backing["template"] = draw(values), None
    disk.clusters["origin"] = draw(values)
    disk.backing["origin"] = "template" if template else None
    owned = {"origin": ImageRole.ORIGIN}
    paths = ["origin"]
    for number in range(draw(st.integers(0, 8))):
        path = f"o{number}"
        disk.clusters[path] = draw(values)
        disk.backing[path] = draw(st.sampled_from(paths))
        owned[path] = ImageRole.OVERLAY
        paths.append(path)
    named = {path: "vda" for path in paths if draw(st.booleans())}
    return Case(disk, owned, named, frozenset(path for path in named if draw(st.booleans())))


def graph(case: Case) -> ImageGraph:
    images = {
        path: ImageFacts(
            path,
            "qcow2",
            1 << 20,
            len(clusters) * 65536,
            case.disk.backing[path],
            "qcow2" if case.disk.backing[path] else None,
            tags=(InternalSnapshot("1", "s", 0),) if path in case.tagged else (),
        )
        for path, clusters in case.disk.clusters.items()
    }
    record = DomainRecord("u", "d", "<domain/>")
    return ImageGraph(DomainFacts(record, SnapshotTree(), 0, images, case.owned), case.named)


@settings(max_examples=500)
@given(cases())
def test_names_keep_their_content(case: Case) -> None:
    before = {path: case.disk.content(path) for path in case.named}
    below = {path: case.disk.content(case.disk.backing[path] or path) for path in case.tagged}
    template = case.disk.content("template") if "template" in case.disk.clusters else None

    collapse = graph(case).collapse("job", case.named)
    case.disk.apply(collapse)

    for path, content in before.items():
        now = collapse.renames.get(path, (path, ""))[0]
        assert case.disk.content(now) == content
    for path, content in below.items():
        assert path in case.disk.clusters, "an image with internal snapshots was merged away"
        assert case.disk.content(case.disk.backing[path] or path) == content, "internal snapshots changed"
    assert "origin" not in collapse.removes
    assert "template" not in collapse.removes
    if template is not None:
        assert case.disk.content("template") == template


@settings(max_examples=500)
@given(cases())
def test_nothing_loose_is_left_that_could_go(case: Case) -> None:
    collapse = graph(case).collapse("job", case.named)
    case.disk.apply(collapse)

    named = {collapse.renames.get(path, (path, ""))[0] for path in case.named}
    for path in case.disk.clusters:
        above = [p for p, below in case.disk.backing.items() if below == path]
        if case.tagged.intersection(above):
            continue
        if path.startswith("o") and path != "origin" and path not in named:
            assert len(above) >= 2, "a loose overlay stays only as the base of several"
        if path == "origin" and path not in named and len(above) == 1:
            assert above[0] in case.disk.clusters
            raise AssertionError("a loose origin takes in the one overlay on it")


@settings(max_examples=200)
@given(cases())
def test_without_merging_only_leaves_go(case: Case) -> None:
    before = {path: case.disk.content(path) for path in case.disk.clusters}
    collapse = graph(case).collapse("job", case.named, merge=False)
    assert not collapse.merges
    case.disk.apply(collapse)
    for path in case.disk.clusters:
        assert case.disk.content(path) == before[path]
    for path in case.named:
        assert path in case.disk.clusters


def test_last_overlay_goes_down_into_the_origin_whatever_is_smaller() -> None:
    disk = Disk({"origin": {0: "a"}, "o0": dict.fromkeys(range(6), "b")}, {"origin": None, "o0": "origin"})
    case = Case(disk, {"origin": ImageRole.ORIGIN, "o0": ImageRole.OVERLAY}, {"o0": "vda"})
    collapse = graph(case).collapse("job", case.named)
    assert [(m.top, m.base, m.down) for m in collapse.merges] == [("o0", "origin", True)]
    assert collapse.renames == {"o0": ("origin", "qcow2")}
    assert collapse.removes == ["o0"]
    assert collapse.disowned == ["o0", "origin"]


def test_the_smaller_side_is_copied() -> None:
    disk = Disk(
        {"origin": {}, "o0": {0: "a"}, "o1": dict.fromkeys(range(6), "b")},
        {"origin": None, "o0": "origin", "o1": "o0"},
    )
    owned = {"origin": ImageRole.ORIGIN, "o0": ImageRole.OVERLAY, "o1": ImageRole.OVERLAY}
    case = Case(disk, owned, {"origin": "vda", "o1": "vda"})
    collapse = graph(case).collapse("job", case.named)
    assert [(m.top, m.base, m.down, m.below) for m in collapse.merges] == [("o1", "o0", False, "origin")]
    assert collapse.removes == ["o0"]
    assert not collapse.renames


def test_an_image_that_another_domain_stands_on_stays() -> None:
    disk = Disk({"origin": {}, "o0": {0: "a"}}, {"origin": None, "o0": "origin"})
    case = Case(disk, {"origin": ImageRole.ORIGIN, "o0": ImageRole.OVERLAY}, {"o0": "vda"})
    shared = graph(case)
    shared.elsewhere = frozenset({"o0", "origin"})
    collapse = shared.collapse("job", case.named)
    assert not collapse.merges
    assert not collapse.removes
