"""The examples run, against the service in memory."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.api.fake_service import FakeService
from virtsnap.api import aio

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(name="service")
def _service(monkeypatch: pytest.MonkeyPatch) -> FakeService:
    service = FakeService()
    service.add("demo", running=True)

    async def open_service(uri: str | None = None, readonly: bool = False) -> FakeService:
        return service

    monkeypatch.setattr(aio, "open_service", open_service)
    monkeypatch.setattr("builtins.input", lambda prompt: "")
    return service


def _run(monkeypatch: pytest.MonkeyPatch, name: str, *words: str) -> object:
    monkeypatch.setattr("sys.argv", [name, *words])
    try:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


def test_every_example_is_tried() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "snapshot_and_back.py",
        "tree.py",
        "before_and_after.py",
        "from_libvirt.py",
        "sandbox.py",
    }


@pytest.mark.parametrize("memory", [(), ("/vm/demo.mem",)])
def test_snapshot_and_back(
    service: FakeService,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    memory: tuple[str, ...],
) -> None:
    assert _run(monkeypatch, "snapshot_and_back.py", "uri", "demo", *memory) == 0
    out = capsys.readouterr().out
    assert "taken: example of ['example']\n" in out
    assert out.endswith("deleted; left: []\n")


def test_tree(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "before_and_after.py", "uri", "demo", "true") == 0
    assert _run(monkeypatch, "tree.py", "uri") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-2:] == [
        "demo (running)",
        f"  {next(iter(service.domains.values())).tree.current} <- the domain stands on this one",
    ]


def test_before_and_after_goes_back(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "before_and_after.py", "uri", "demo", "false") == 1
    assert "going back" in capsys.readouterr().out
    assert [name for name, _ in service.calls] == ["snapshot-create", "revert"]


def test_errors_are_one_line(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, "snapshot_and_back.py", "uri", "nobody") == (
        "error: Domain not found: no domain with matching name 'nobody'"
    )


def test_from_libvirt(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "from_libvirt.py", "uri", "/lib", "one", "two") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "one: 2 snapshots, 3 files"
    assert out[-2:] == ["taken over: one", "taken over: two"]
    assert _run(monkeypatch, "from_libvirt.py", "uri", "/lib", "three", "broken") == 1
    assert "  image '/i/b' is gone\n" in capsys.readouterr().out
    assert {domain.name for domain in service.domains.values()} == {"demo", "one", "two"}


def test_sandbox(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "snapshot_and_back.py", "uri", "nobody") != 0
    assert _run(monkeypatch, "before_and_after.py", "uri", "demo", "true") == 0
    (domain,) = service.domains.values()
    snapshot = next(iter(domain.tree)).name
    assert _run(monkeypatch, "sandbox.py", "uri", "demo", snapshot, "3", "sh", "-c", "exit 2") == 2
    out = capsys.readouterr().out.splitlines()
    assert [line.endswith(": status 2") for line in out[-3:]] == [True] * 3
    assert [name for name, _ in service.calls if name in ("clone", "discard")].count("discard") == 3
    assert list(service.domains.values()) == [domain]
