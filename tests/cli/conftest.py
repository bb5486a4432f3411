"""The command line against the service in memory."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.api.fake_service import FakeService
from virtsnap.cli.main import main


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


class Cli:
    """Runs the program in this process. Every run opens the same service."""

    def __init__(self, service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
        self.service = service
        self._capsys = capsys
        self.opened: list[tuple[str | None, bool]] = []

    def __call__(self, *words: str) -> Result:
        status = main(words)
        captured = self._capsys.readouterr()
        return Result(status, captured.out, captured.err)

    def ok(self, *words: str) -> str:
        """Run what must succeed, silently on stderr; its output."""
        result = self(*words)
        assert (result.status, result.err) == (0, "")
        return result.out

    def fails(self, *words: str) -> str:
        """Run what must fail; what it says on stderr."""
        result = self(*words)
        assert result.status == 1
        return result.err


@pytest.fixture(name="service")
def _service() -> FakeService:
    service = FakeService()
    service.add("demo", running=True)
    service.add("other")
    return service


@pytest.fixture(name="cli")
def _cli(service: FakeService, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    cli = Cli(service, capsys)

    async def open_service(uri: str | None = None, readonly: bool = False) -> FakeService:
        cli.opened.append((uri, readonly))
        service.readonly = readonly
        return service

    monkeypatch.setattr("virtsnap.api.connect.open_service", open_service)
    monkeypatch.setenv("TZ", "UTC")
    return cli
