"""Every scenario, by virsh on libvirtd and by virtsnap: the same, or as docs/differences.md says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parity import known, oracle
from tests.parity.play import LIBVIRTD, Stage, report, stage
from tests.parity.scenario import FOLDER, load, names

pytestmark = pytest.mark.parity


@pytest.fixture(scope="session", name="where")
def _where() -> Iterator[Stage]:
    reason = oracle.missing()
    if reason is not None:
        pytest.skip(reason)
    with stage() as built:
        yield built


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", names())
def test_scenario(where: Stage, name: str) -> None:
    score = where.play(load(FOLDER / f"{name}.txt"))
    assert score.good, "\n".join(report(score))


@pytest.fixture(scope="session", name="there")
def _there() -> Iterator[Stage]:
    reason = oracle.missing()
    if reason is not None:
        pytest.skip(reason)
    with stage(through="virtsnapd") as built:
        yield built


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "name", ["tree", "through/pools", "through/transient", "through/hardware", "through/devices"]
)
def test_scenario_through_the_daemon(there: Stage, name: str) -> None:
    """A few of them, and those that nobody else can play; `script/parity --through virtsnapd` plays all."""
    score = there.play(load(FOLDER / f"{name}.txt"))
    assert score.good, "\n".join(report(score))


@pytest.mark.timeout(240)
def test_scenario_as_client_of_libvirtd() -> None:
    """One of them; `script/parity --through libvirtd` plays all."""
    reason = oracle.missing()
    if reason is not None:
        pytest.skip(reason)
    with stage(through=LIBVIRTD) as built:
        score = built.play(load(FOLDER / "block-pull.txt"))
    assert score.good, "\n".join(report(score))


OLD_VIRSH = Path(".cache/virsh")


@pytest.fixture(scope="session", name="old")
def _old() -> Iterator[Stage]:
    reason = oracle.missing()
    if reason is None and not (OLD_VIRSH / "virsh").exists():
        reason = "no virsh of another release here (script/setup --with-parity unpacks one)"
    if reason is not None:
        pytest.skip(reason)
    with stage(through="virtsnapd", virsh=OLD_VIRSH) as built:
        yield built


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["create", "delete-leaf"])
def test_scenario_by_another_virsh(old: Stage, name: str) -> None:
    """Some of them; `script/parity --through virtsnapd --virsh .cache/virsh` plays all."""
    score = old.play(load(FOLDER / f"{name}.txt"))
    assert score.good, "\n".join(report(score))


def test_rules_stand_on_the_document() -> None:
    rows = known.rows()
    for rule in known.load():
        assert set(rule.scenarios) <= set(names()), f"no such scenario: {rule.scenarios}"
        assert any(row.startswith(rule.row) for row in rows), f"docs/differences.md has no row: {rule.row}"
